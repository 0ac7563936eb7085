package train

import (
	"context"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

func tinyParams() []llama.Param { return llama.Table(tiny) }

func TestEarlyStopping(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.LearningRate, c.Train.EvalSteps, c.Train.EarlyStopping = 0, 1, 2 // nothing improves on step 1
	s, _ := w.run(c)
	if s.Step != 3 || !s.StoppedEarly || s.Best.Step != 1 || s.Last.Step != 3 {
		t.Errorf("summary %+v", s)
	}
	if again, _ := w.run(c); !again.AlreadyFinished {
		t.Error("a run that stopped early goes on")
	}
	w.eval = nil
	c.Train.OutputDir = t.TempDir()
	w.refuses(c, "need evaluation data")
}

func TestPatienceSurvivesAResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.LearningRate, c.Train.EvalSteps, c.Train.EarlyStopping = 0, 1, 2
	w.interrupt(c, 2)
	if s, _ := w.run(c); s.Step != 3 || !s.StoppedEarly {
		t.Errorf("summary %+v", s)
	}
}

func TestTheBestModelIsExported(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.LRSchedulerType, c.Train.LearningRate, c.Train.NumTrainEpochs = "constant", 0.3, 3 // far too fast
	c.Train.EvalSteps, c.Train.LoadBestModelAtEnd, c.Train.SaveTotalLimit = 2, true, 1
	s, weights := w.run(c)
	if s.Best.Step == s.Step || s.Exported != s.Best.Step {
		t.Fatalf("best %+v of summary %+v", s.Best, s)
	}
	state, err := checkpoints.OpenState(statePath(c.Train.OutputDir, s.Best.Step))
	check(t, err)
	want := make(map[string][]byte)
	for name, got := range weights {
		want[name] = make([]byte, len(got))
		check(t, state.Read(name, want[name]))
	}
	check(t, state.Close())
	sameBits(t, weights, want)
	sameBits(t, exported(t, c.Train.OutputDir, kernels.F32, want), want)
	states, err := checkpoints.States(c.Train.OutputDir)
	check(t, err)
	if len(states) != 2 || states[1].Step != s.Step {
		t.Errorf("kept %d states, want the best and the last", len(states))
	}

	// Without the best state a run cannot end as it should, which is said at once.
	elsewhere := c
	elsewhere.Train.OutputDir, elsewhere.Train.ResumeFrom = t.TempDir(), states[1].Path
	w.refuses(elsewhere, "the best model so far")
}

func TestBetter(t *testing.T) {
	t.Parallel()
	low, high := Evaluation{Loss: 1, PairwiseAccuracy: 0.5}, Evaluation{Loss: 2, PairwiseAccuracy: 0.7}
	for metric, want := range map[string]Evaluation{"eval_loss": low, "eval_pairwise_accuracy": high} {
		tr := &trainer{cfg: configs.Train{MetricForBestModel: metric}}
		if got := tr.better(low, high); got != (want == low) || tr.better(high, low) == got || tr.better(low, low) {
			t.Errorf("%s: %+v is not the best", metric, want)
		}
	}
}

// An evaluation is the loss of every group, whatever the packing.
func TestEvaluationIsTheMeanOverGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F64)
	var want *Evaluation
	for _, budget := range []int{1, 50, 10000} {
		c := baseConfig(t.TempDir())
		c.Train.MaxTokensPerBatch = budget
		tr, err := newTrainer(w.inputs(c))
		check(t, err)
		got, err := tr.evaluate(context.Background())
		check(t, err)
		tr.close()
		if want == nil {
			want = &got
		}
		if math.Abs(got.Loss-want.Loss) > 1e-12 || got.PairwiseAccuracy != want.PairwiseAccuracy || got.Groups != 4 {
			t.Errorf("budget %d: %+v, want %+v", budget, got, *want)
		}
	}
}

func TestLogAndCurves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.LoggingSteps, c.Train.EvalSteps, c.Train.NumTrainEpochs = 1, 3, 3
	in := w.inputs(c)
	in.PeakFLOPS = 1e9
	_, err := Run(context.Background(), in)
	check(t, err)
	var widths []int
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, "lr ") {
			widths = append(widths, strings.Index(line, "by rank"))
		}
	}
	if len(widths) != 12 || slices.Min(widths) != slices.Max(widths) {
		t.Errorf("log lines are not aligned:\n%s", w.log.String())
	}
	h, err := readHistory(c.Train.OutputDir)
	check(t, err)
	if len(h.loss) != 12 || len(h.evalLoss) != 4 {
		t.Errorf("history %+v", h)
	}
	f, err := os.Open(filepath.Join(c.Train.OutputDir, "curves.png"))
	check(t, err)
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Error(err)
	}
	svg, err := os.ReadFile(filepath.Join(c.Train.OutputDir, "curves.svg"))
	check(t, err)
	if !strings.Contains(string(svg), "evaluation") {
		t.Error("the legend is missing")
	}
}
