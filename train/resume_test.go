package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/kernels"
)

// interrupt runs c until the n-th update and checks that a state was saved then.
func (w *world) interrupt(c configs.Run, n int) {
	w.t.Helper()
	ctx, wrap := stopAfter(n)
	w.backend = wrap
	defer func() { w.backend = nil }()
	if _, err := Run(ctx, w.inputs(c)); !errors.Is(err, ErrInterrupted) {
		w.t.Fatalf("stopped after %d: %v, want ErrInterrupted", n, err)
	}
	states, err := checkpoints.States(c.Train.OutputDir)
	check(w.t, err)
	if len(states) == 0 || states[len(states)-1].Step != n {
		w.t.Fatalf("stopped after %d: states %v", n, states)
	}
}

// moments returns the optimizer's state and the masters of a saved state.
func moments(t testing.TB, in Inputs, step int) map[string][]byte {
	t.Helper()
	s, err := checkpoints.OpenState(statePath(in.Config.Train.OutputDir, step))
	check(t, err)
	defer s.Close()
	opt, err := newOptimizer(in.Backend, in.Config.Train, in.Model.Params())
	check(t, err)
	defer opt.close()
	out := make(map[string][]byte)
	for _, n := range opt.stateTensors() {
		out[n.name] = make([]byte, n.tensor.Bytes())
		check(t, s.Read(n.name, out[n.name]))
	}
	return out
}

func TestResumeGivesTheSameBits(t *testing.T) {
	t.Parallel()
	for s, stops := range map[storage][]int{{kernels.BF16, false}: {1, 2, 3, 4, 5, 6}, {kernels.BF16, true}: {2, 5}, {kernels.F32, false}: {3}} {
		dt := s.dtype
		w := newWorld(t, dt)
		c := baseConfig(t.TempDir())
		c.Train.StochasticRounding = s.stochastic
		c.Train.EvalSteps, c.Train.SaveSteps, c.Train.LoggingSteps = 3, 4, 4
		whole, want := w.run(c)
		if whole.Step != 6 {
			t.Fatalf("the run has %d steps", whole.Step)
		}
		wantMoments, wantMetrics := moments(t, w.inputs(c), whole.Step), metrics(t, c.Train.OutputDir)
		for _, stop := range stops {
			c.Train.OutputDir = t.TempDir()
			w.interrupt(c, stop)
			s, got := w.run(c)
			sameBits(t, got, want)
			sameBits(t, moments(t, w.inputs(c), s.Step), wantMoments)
			if m := metrics(t, c.Train.OutputDir); !slices.Equal(m, wantMetrics) {
				t.Errorf("%v, stopped after %d: metrics\n%s\nwant\n%s", dt, stop, strings.Join(m, "\n"), strings.Join(wantMetrics, "\n"))
			}
			if s.TrainLoss != whole.TrainLoss || *s.Best != *whole.Best || *s.Last != *whole.Last || s.Epoch != whole.Epoch {
				t.Errorf("%v, stopped after %d: summary %+v, want %+v", dt, stop, s, whole)
			}
		}
	}
}

func TestAnInterruptBeforeTheFirstStepSavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, w.inputs(c)); !errors.Is(err, ErrInterrupted) {
		t.Errorf("error %v", err)
	}
	if states, err := checkpoints.States(c.Train.OutputDir); err != nil || len(states) != 0 {
		t.Errorf("states %v, %v", states, err)
	}
	if s, _ := w.run(c); s.Step != 6 {
		t.Errorf("the next start ended at %+v", s)
	}
}

// A killed process saves nothing: the run goes on from an earlier state, and what the
// log says of the steps since is forgotten.
func TestResumeAfterADeathBetweenStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.SaveSteps, c.Train.LoggingSteps, c.Train.EvalSteps = 2, 1, 3
	_, want := w.run(c)
	wantMetrics := metrics(t, c.Train.OutputDir)

	c.Train.OutputDir = t.TempDir()
	h := &hooked{}
	h.afterAdamW = func(a kernels.AdamW) { h.broken = a.Step == 4 }
	w.backend = func(b kernels.Backend) kernels.Backend { h.Backend = b; return h }
	if _, err := Run(context.Background(), w.inputs(c)); err == nil {
		t.Fatal("a failing device is not noticed")
	}
	w.backend = nil
	half, err := os.OpenFile(filepath.Join(c.Train.OutputDir, metricsFile), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = half.WriteString(`{"step":4,"los`)
	check(t, errors.Join(err, half.Close()))

	_, got := w.run(c)
	sameBits(t, got, want)
	if m := metrics(t, c.Train.OutputDir); !slices.Equal(m, wantMetrics) {
		t.Errorf("metrics\n%s\nwant\n%s", strings.Join(m, "\n"), strings.Join(wantMetrics, "\n"))
	}
}

func TestAStateThatCannotBeWrittenKeepsTheOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	_, want := w.run(c)

	c.Train.OutputDir, c.Train.SaveSteps = t.TempDir(), 2
	h := &hooked{}
	updates := 0
	h.afterAdamW = func(a kernels.AdamW) { updates = a.Step }
	h.beforeReading = func(src kernels.Tensor) { h.broken = updates == 4 && src.DType == kernels.F32 && src.Len() > 20 }
	w.backend = func(b kernels.Backend) kernels.Backend { h.Backend = b; return h }
	_, err := Run(context.Background(), w.inputs(c))
	if err == nil || !strings.Contains(err.Error(), "save state of step 4") || !strings.Contains(err.Error(), "goes on from the state of step 2") {
		t.Fatalf("error %v", err)
	}
	w.backend = nil
	states, err := checkpoints.States(c.Train.OutputDir)
	check(t, err)
	if len(states) != 1 || states[0].Step != 2 {
		t.Fatalf("states %v", states)
	}
	_, got := w.run(c)
	sameBits(t, got, want)
}

func TestAFinishedRunIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	first, _ := w.run(c)
	before := listing(t, c.Train.OutputDir)
	again, _ := w.run(c)
	if !again.AlreadyFinished || again.Step != first.Step || again.TrainLoss != first.TrainLoss || *again.Last != *first.Last {
		t.Errorf("again: %+v, first: %+v", again, first)
	}
	if after := listing(t, c.Train.OutputDir); !slices.Equal(after, before) {
		t.Errorf("files %v became %v", before, after)
	}
}

func listing(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	check(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		out = append(out, path+" "+info.ModTime().String())
		return err
	}))
	return out
}

// Death between the final state and the end of the export: the model is exported by
// the next start.
func TestAnExportThatFailedIsMadeUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	in := w.inputs(c)
	in.Export = func(string, []checkpoints.Tensor, Summary) error { return errors.New("no space left") }
	if _, err := Run(context.Background(), in); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("error %v", err)
	}
	s, _ := w.run(c)
	if s.AlreadyFinished {
		t.Error("the run counts as finished without a model")
	}
	if _, err := os.Stat(filepath.Join(c.Train.OutputDir, "model.safetensors")); err != nil {
		t.Error(err)
	}
}

func TestARunMayBeExtendedIfItsScheduleAllows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	long := baseConfig(t.TempDir())
	long.Train.LRSchedulerType, long.Train.MaxSteps, long.Train.LoggingSteps = "constant", 6, 1
	_, want := w.run(long)
	c := long
	c.Train.OutputDir, c.Train.MaxSteps = t.TempDir(), 4
	w.run(c)
	c.Train.MaxSteps = 6
	s, got := w.run(c)
	sameBits(t, got, want)
	if s.AlreadyFinished || s.Step != 6 {
		t.Errorf("extended: %+v", s)
	}
}

func TestResumeFromANamedState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.SaveSteps, c.Train.SaveTotalLimit = 2, 9
	_, want := w.run(c)

	elsewhere := c
	elsewhere.Train.OutputDir = t.TempDir()
	elsewhere.Train.ResumeFrom = statePath(c.Train.OutputDir, 2)
	_, got := w.run(elsewhere)
	sameBits(t, got, want)

	here := c
	here.Train.ResumeFrom = statePath(c.Train.OutputDir, 2)
	w.refuses(here, "holds a later state, of step 4")
	here.Train.ResumeFrom = filepath.Join(t.TempDir(), "checkpoint-2")
	w.refuses(here, "checkpoint-2")
}

// refuses checks that a run does not start and that nothing in its folder changes.
func (w *world) refuses(c configs.Run, why string) {
	w.t.Helper()
	before := listing(w.t, c.Train.OutputDir)
	_, err := Run(context.Background(), w.inputs(c))
	if err == nil || !strings.Contains(err.Error(), why) {
		w.t.Errorf("error %v, want one about %q", err, why)
	}
	if after := listing(w.t, c.Train.OutputDir); !slices.Equal(after, before) {
		w.t.Errorf("files %v became %v", before, after)
	}
}

func TestAnotherRunIsNotOverwritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	w.interrupt(c, 2)

	other := c
	other.Train.LearningRate = 2e-2
	w.refuses(other, "train.learning_rate is 0.01 there and 0.02 here")
	other = c
	other.Train.ResumeFrom = "never"
	w.refuses(other, "holds states")
	eval := w.eval
	w.eval = w.train
	w.refuses(c, "evaluation data is ")
	w.eval = eval

	w.run(c)
	other = c
	other.Loss.Type = "bradley_terry"
	w.refuses(other, "holds another run, finished after step 6")

	check(t, os.Remove(filepath.Join(c.Train.OutputDir, summaryFile)))
	for _, step := range []int{2, 6} {
		check(t, os.RemoveAll(statePath(c.Train.OutputDir, step)))
	}
	w.refuses(c, "holds a model")
}

func TestSettingsThatDoNotChangeStepsMayChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	w.interrupt(c, 2)
	c.Train.LoggingSteps, c.Train.SaveSteps, c.Train.EvalSteps, c.Train.MaxTokensPerBatch = 5, 5, 5, 30
	if s, _ := w.run(c); s.Step != 6 {
		t.Errorf("ended at %+v", s)
	}
}

func TestDamagedStatesAreNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	w.interrupt(c, 2)
	path := statePath(c.Train.OutputDir, 2)
	entries, err := os.ReadDir(path)
	check(t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".safetensors") {
			check(t, os.Truncate(filepath.Join(path, e.Name()), 100))
		}
	}
	w.refuses(c, "remove that folder")
}

func TestTwoProcessesDoNotShareAFolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	l, err := openLogger(w.inputs(c), c.Train.OutputDir, 6, 0)
	check(t, err)
	defer l.close()
	w.refuses(c, "another process is training there")
}
