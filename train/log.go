package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/schollz/progressbar/v3"

	"rmtrain/train/report"
)

// metricsFile is the log for programs: JSON lines, only ever appended to.
const metricsFile = report.MetricsFile

// A logger writes lines for people and metrics.jsonl, and repeats these for
// TensorBoard.
type logger struct {
	out    io.Writer // nil for none
	bar    *progressbar.ProgressBar
	file   *os.File
	lines  int            // in file
	events *report.Events // nil for none
}

// openLogger opens dir's metrics.jsonl, cut to its first keep lines: those that
// follow belong to steps after the state that the run goes on from. The file is
// locked while it is open, so that two runs never share a folder.
func openLogger(in Inputs, dir string, total, keep int) (*logger, error) {
	path := filepath.Join(dir, metricsFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("train: open log: %w (make output_dir writable, or choose another)", err)
	}
	l := &logger{out: in.Log, file: f}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("train: open log %s: another process is training there (wait for it, or choose another output_dir)", path)
	}
	past, err := l.cut(keep)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("train: cut log %s to %d lines: %w", path, keep, err)
	}
	if in.Progress && in.Log != nil {
		l.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(in.Log),
			progressbar.OptionSetDescription("training"), progressbar.OptionShowCount(),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true))
	}
	if slices.Contains(in.Config.Train.ReportTo, "tensorboard") {
		l.events, err = report.OpenEvents(filepath.Join(dir, "tensorboard"), past)
		l.withoutEvents(err)
	}
	return l, nil
}

// withoutEvents goes on without TensorBoard if err is not nil: training does not
// depend on it, and a run that resumes writes what is missing.
func (l *logger) withoutEvents(err error) {
	if err == nil {
		return
	}
	l.say(fmt.Sprintf("TensorBoard's event file is not written any more: %v", err))
	if l.events != nil {
		l.events.Close()
		l.events = nil
	}
}

// cut keeps the first n lines of the file, or all if there are fewer, and returns
// them.
func (l *logger) cut(n int) ([]byte, error) {
	text, err := io.ReadAll(l.file)
	if err != nil {
		return nil, err
	}
	end := 0
	for l.lines < n {
		i := bytes.IndexByte(text[end:], '\n')
		if i < 0 {
			break
		}
		end += i + 1
		l.lines++
	}
	return text[:end], l.file.Truncate(int64(end))
}

// write appends a line to metrics.jsonl.
func (l *logger) write(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = l.file.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("train: write %s: %w (free space and start again: training goes on from the last state)", metricsFile, err)
	}
	l.lines++
	if l.events != nil {
		l.withoutEvents(l.events.Add(line))
	}
	return nil
}

func (l *logger) sync() error {
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("train: write %s: %w (free space and start again: training goes on from the last state)", metricsFile, err)
	}
	return nil
}

// say writes a line for people; a terminal that has gone away is no reason to stop.
func (l *logger) say(line string) {
	if l.out == nil {
		return
	}
	if l.bar != nil {
		l.bar.Clear()
	}
	fmt.Fprintln(l.out, line)
	if l.bar != nil {
		l.bar.RenderBlank()
	}
}

func (l *logger) progress(step int) {
	if l.bar != nil {
		l.bar.Set(step)
	}
}

func (l *logger) close() {
	if l.bar != nil {
		l.bar.Clear()
	}
	// Closing alone would leave the lock with a process that is being started meanwhile, which
	// has the file open until it executes its program.
	syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN)
	l.file.Close()
	if l.events != nil {
		l.events.Close()
	}
}

// say writes a line for people.
func (t *trainer) say(format string, args ...any) {
	l := t.log
	if l == nil {
		l = &logger{out: t.in.Log}
	}
	l.say(fmt.Sprintf(format, args...))
}

// A metricsLine is one line of metrics.jsonl about training: means over the steps
// since the line before. Loss is null if all of those steps were skipped.
type metricsLine struct {
	Step             int       `json:"step"`
	Epoch            float64   `json:"epoch"`
	Loss             *float64  `json:"loss"`
	PairwiseAccuracy float64   `json:"pairwise_accuracy"`
	PerRankAccuracy  []float64 `json:"per_rank_accuracy"`
	Margin           float64   `json:"margin_mean"`
	ScoreMean        float64   `json:"score_mean"`
	ScoreStd         float64   `json:"score_std"`
	GradNorm         float64   `json:"grad_norm"`     // before clipping, of the last step
	LearningRate     float64   `json:"learning_rate"` // of the last step
	NonFinite        int       `json:"nonfinite_steps"`
	PromptsPerSecond float64   `json:"prompts_per_second"`
	TokensPerSecond  float64   `json:"tokens_per_second"` // of whole conversations
	RowsPerSecond    float64   `json:"rows_per_second"`   // computed: tokens after sharing prompts
	Utilization      float64   `json:"model_flops_utilization"`
}

// An evaluationLine is one line of metrics.jsonl about the evaluation data.
type evaluationLine struct {
	Step             int     `json:"step"`
	Epoch            float64 `json:"epoch"`
	Loss             float64 `json:"eval_loss"`
	PairwiseAccuracy float64 `json:"eval_pairwise_accuracy"`
	Groups           int     `json:"eval_groups"`
}

// logIfDue writes a log line every logging_steps and after the last step.
func (t *trainer) logIfDue() error {
	s := &t.state
	t.log.progress(s.Step)
	if s.Step%t.cfg.LoggingSteps != 0 && s.Step < t.plan.total {
		return nil
	}
	w := &s.Window
	line := metricsLine{
		Step: s.Step, Epoch: t.plan.epochs(s.Step), PairwiseAccuracy: w.accuracy(),
		PerRankAccuracy: w.rankAccuracy(), Margin: w.margin(), ScoreMean: w.Mean, ScoreStd: w.std(),
		GradNorm: w.GradNorm, LearningRate: w.LR, NonFinite: s.NonFinite,
		PromptsPerSecond: w.perSecond(w.Prompts), TokensPerSecond: w.perSecond(w.Tokens),
		RowsPerSecond: w.perSecond(w.Rows), Utilization: w.utilization(t.in.PeakFLOPS),
	}
	if w.Groups > 0 {
		loss := w.loss()
		line.Loss = &loss
	}
	t.log.say(t.describe(line))
	s.Window = tally{}
	return t.log.write(line)
}

// describe puts the most of a metrics line in words, every field always at the same
// place: as much as 120 columns hold.
func (t *trainer) describe(m metricsLine) string {
	loss := "  none"
	if m.Loss != nil {
		loss = fmt.Sprintf("%6.4f", *m.Loss)
	}
	return fmt.Sprintf("%s  loss %s  acc %.3f  margin %6.3f  grad %6.3f  lr %.2e %s tok/s  %s peak",
		t.at(m.Step), loss, m.PairwiseAccuracy, m.Margin, m.GradNorm, m.LearningRate, brief(m.TokensPerSecond), t.percent(m.Utilization))
}

// at says where in the run step is.
func (t *trainer) at(step int) string {
	total := fmt.Sprint(t.plan.total)
	return fmt.Sprintf("step %*d/%s  epoch %6.3f", len(total), step, total, t.plan.epochs(step))
}

func (t *trainer) percent(share float64) string {
	if t.in.PeakFLOPS == 0 {
		return "  ?%"
	}
	return fmt.Sprintf("%3.0f%%", 100*share)
}

// brief prints a rate in six columns, such as "53.6k ".
func brief(x float64) string {
	unit := " "
	for _, u := range []string{"k", "M", "G"} {
		if x < 999.5 {
			break
		}
		x, unit = x/1000, u
	}
	decimals := 0
	switch {
	case x < 9.995:
		decimals = 2
	case x < 99.95:
		decimals = 1
	}
	return fmt.Sprintf("%5.*f%s", decimals, x, unit)
}

func (t *trainer) logEvaluation(e Evaluation) error {
	t.log.say(fmt.Sprintf("%s  eval loss %.4f  eval acc %.3f  over %d groups  best: step %d",
		t.at(e.Step), e.Loss, e.PairwiseAccuracy, e.Groups, t.state.Best.Step))
	return t.log.write(evaluationLine{
		Step: e.Step, Epoch: t.plan.epochs(e.Step), Loss: e.Loss, PairwiseAccuracy: e.PairwiseAccuracy, Groups: e.Groups,
	})
}
