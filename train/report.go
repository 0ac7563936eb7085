package train

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rmtrain/data"
	"rmtrain/train/report"
)

// sampleCount is how many groups report.html shows.
const sampleCount = 6

// describeRun says what is trained, for those who watch.
func (t *trainer) describeRun() report.Run {
	c := t.in.Config
	r := report.Run{
		Started: time.Now().UTC().Truncate(time.Second), Model: c.Model.NameOrPath,
		TotalSteps: t.plan.total, StepsPerEpoch: t.plan.perEpoch, PromptsPerStep: t.plan.perStep, Groups: t.plan.groups,
	}
	if t.in.Eval != nil {
		r.EvalGroups = t.in.Eval.Len()
	}
	if text, err := c.YAML(); err == nil {
		r.Config = withoutComments(string(text))
	}
	return r
}

func withoutComments(yaml string) string {
	var b strings.Builder
	for line := range strings.Lines(yaml) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// announce writes run.json. Training does not depend on it: if it fails, it says so.
func (t *trainer) announce() {
	text, err := t.describeRun().JSON()
	if err == nil {
		err = ReplaceFile(filepath.Join(t.cfg.OutputDir, report.RunFile), text)
	}
	if err != nil {
		t.say("%s is not written: %v", report.RunFile, err)
	}
}

// writeReport writes report.html, when the model has the weights that are exported.
// Training does not depend on it: if it fails, it says so.
func (t *trainer) writeReport(s Summary) {
	if err := t.writePage(s); err != nil {
		t.say("%s is not written: %v", report.PageFile, err)
	}
}

func (t *trainer) writePage(s Summary) error {
	dir := t.cfg.OutputDir
	metrics, err := os.ReadFile(filepath.Join(dir, metricsFile))
	if err != nil {
		return err
	}
	curves, err := os.ReadFile(filepath.Join(dir, "curves.svg"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	page := report.Page{Name: report.LastOf(dir), Run: t.describeRun(), Outcome: outcome(s), Curves: curves, Data: t.in.DataReport}
	if s.Best != nil {
		page.Best = s.Best.Step
	}
	if page.Samples, page.SamplesOf, err = t.samples(); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := page.Write(&b, metrics); err != nil {
		return err
	}
	return ReplaceFile(filepath.Join(dir, report.PageFile), b.Bytes())
}

// outcome is a summary in words.
func outcome(s Summary) []report.Fact {
	var facts []report.Fact
	e := s.Last
	if s.Best != nil && s.Best.Step == s.Exported {
		e = s.Best
	}
	if e != nil {
		facts = []report.Fact{
			{Name: "Held-out accuracy", Value: fmt.Sprintf("%.3f", e.PairwiseAccuracy), Note: fmt.Sprintf("pairwise, at step %d", e.Step)},
			{Name: "Held-out loss", Value: fmt.Sprintf("%.4f", e.Loss), Note: fmt.Sprintf("over %d groups", e.Groups)},
		}
	}
	steps := report.Fact{Name: "Steps", Value: fmt.Sprint(s.Step), Note: fmt.Sprintf("of %d, %.2f epochs", s.TotalSteps, s.Epoch)}
	if s.StoppedEarly {
		steps.Note += ", stopped early"
	}
	facts = append(facts,
		report.Fact{Name: "Training loss", Value: fmt.Sprintf("%.4f", s.TrainLoss), Note: "mean of the whole run"}, steps,
		report.Fact{Name: "Exported step", Value: fmt.Sprint(s.Exported)},
		report.Fact{Name: "Time in steps", Value: time.Duration(s.Seconds * float64(time.Second)).Round(time.Second).String()})
	if s.NonFinite > 0 {
		facts = append(facts, report.Fact{Name: "Skipped steps", Value: fmt.Sprint(s.NonFinite), Note: "not finite"})
	}
	return facts
}

// samples scores a few groups, spread over the evaluation data, or else over the
// training data. Without a way to show ids as text there are none.
func (t *trainer) samples() (samples []report.Sample, of string, err error) {
	if t.in.Text == nil {
		return nil, "", nil
	}
	from, of := t.in.Eval, "evaluation data"
	if from == nil {
		from, of = t.in.Train, "training data"
	}
	n := min(sampleCount, from.Len())
	for i := range n {
		group := from.Group(i * from.Len() / n)
		for _, b := range pack([]data.Group{group}, t.cfg.MaxTokensPerBatch, t.cfg.SharePrefix) {
			if _, err := t.judge.run(b); err != nil {
				return nil, "", err
			}
			sample, err := t.sample(group, t.judge.groups[0].Scores)
			if err != nil {
				return nil, "", err
			}
			samples = append(samples, sample)
		}
	}
	return samples, of, nil
}

// sample shows a group as text: what its conversations begin with in common, and
// what each goes on with.
func (t *trainer) sample(g data.Group, scores []float64) (report.Sample, error) {
	texts := make([]string, len(g.Answers))
	for i, a := range g.Answers {
		var err error
		if texts[i], err = t.in.Text(a.Tokens); err != nil {
			return report.Sample{}, err
		}
	}
	prompt := commonLines(texts)
	s := report.Sample{Source: g.Source, Prompt: prompt}
	for i, a := range g.Answers {
		s.Answers = append(s.Answers, report.Answer{Text: strings.TrimPrefix(texts[i], prompt), Rank: a.Rank, Score: scores[i]})
	}
	return s, nil
}

// commonLines returns the whole lines that all texts begin with: two answers that
// begin with the same word are still whole.
func commonLines(texts []string) string {
	common := texts[0]
	for _, text := range texts[1:] {
		n := 0
		for n < min(len(common), len(text)) && common[n] == text[n] {
			n++
		}
		common = common[:n]
	}
	return common[:strings.LastIndexByte(common, '\n')+1]
}
