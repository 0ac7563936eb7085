package train

import (
	"fmt"
	"slices"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
	"rmtrain/kernels/llama"
)

// Runs of several passes to a step, with evaluations between, do not depend on whether
// the backend keeps packed weights, nor on a new process that goes on with them. Memory is
// as planned.
func TestKeptWeightsTrainToTheSameBits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dt        kernels.DType
		freeze    []string
		recompute bool
	}{
		{kernels.F32, nil, false}, {kernels.F32, []string{"embed", "0"}, true}, {kernels.F32, []string{"1"}, false},
		{kernels.BF16, nil, true},
	} {
		t.Run(fmt.Sprintf("%v/freeze=%v/recompute=%t", c.dt, c.freeze, c.recompute), func(t *testing.T) {
			w := newWorld(t, c.dt)
			frozen, err := Frozen(c.freeze, tiny.Layers)
			check(t, err)
			w.frozen = frozen
			planned := llama.Plan(tiny, llama.Options{DType: c.dt, Train: true, Frozen: frozen, Keeper: w.onCPU(c.recompute, false).(kernels.Keeper)})[kernels.KeptTag]
			if c.dt == kernels.F32 && planned == 0 {
				t.Fatal("nothing would be kept: this shows nothing")
			}
			plain := baseConfig(t.TempDir())
			plain.Train.MaxTokensPerBatch, plain.Train.MaxSteps, plain.Train.SaveSteps, plain.Train.EvalSteps = 20, 4, 2, 2
			plain.Train.LRSchedulerType = "constant"
			_, want := w.run(plain)

			b := w.onCPU(c.recompute, true)
			forecast, err := Plan(plain, tiny, llama.Options{DType: c.dt, Train: true, Recompute: c.recompute, Frozen: frozen, Planner: b.(kernels.Planner)}, w.train)
			check(t, err)
			kept := plain
			kept.Train.OutputDir, kept.Train.MaxSteps = t.TempDir(), 2
			_, before := w.run(kept)
			kept.Train.MaxSteps = 4
			_, got := w.run(kept)
			sameBits(t, got, want)
			if a, b := metrics(t, kept.Train.OutputDir), metrics(t, plain.Train.OutputDir); !slices.Equal(a, b) {
				t.Errorf("metrics are %q with packed weights, %q without", a, b)
			}
			if held := b.Used()[kernels.KeptTag]; held != 2*planned { // by the models of both runs
				t.Errorf("%d bytes of packed weights, planned were %d for each run", held, planned)
			}
			if held, most := b.Used()[kernels.ScratchTag], forecast.Memory[kernels.ScratchTag]; held == 0 || held > most {
				t.Errorf("%d bytes of scratch memory are held, planned were %d", held, most)
			}
			for name := range got {
				if same := slices.Equal(before[name], got[name]); same != (frozen != nil && frozen(name)) {
					t.Errorf("%s: two steps have left it as it was: %t", name, same)
				}
			}
		})
	}
}

// onCPU has the runs of w compute on one CPU backend, which it returns.
func (w *world) onCPU(recompute, keep bool) kernels.Backend {
	w.t.Helper()
	b, err := cpu.New(w.dtype)
	check(w.t, err)
	w.t.Cleanup(func() { check(w.t, b.Close()) })
	w.backend = func(kernels.Backend) kernels.Backend { return b }
	w.options = func(o *llama.Options) {
		o.Recompute = recompute
		if keep {
			o.Keeper = b.(kernels.Keeper)
		}
	}
	return b
}
