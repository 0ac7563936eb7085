package train

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rmtrain/configs"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/kernels/reference"
)

// ones are parameters of n weights of 1 with gradients of 1.
func ones(t *testing.T, b kernels.Backend, n int, names ...string) (params []llama.Param) {
	t.Helper()
	filled := func(dt kernels.DType) kernels.Tensor {
		x, err := b.Alloc("test", dt, n)
		check(t, err)
		var raw []byte
		for range n {
			raw = appendAs(raw, dt, 1)
		}
		b.Upload(x, raw)
		return x
	}
	for _, name := range names {
		params = append(params, llama.Param{Name: name, Shape: []int{n}, Weight: filled(kernels.BF16), Grad: filled(kernels.F32)})
	}
	return params
}

// afterSteps returns the weights after so many updates of the rate lr each.
func afterSteps(t *testing.T, b kernels.Backend, c configs.Train, params []llama.Param, steps int, lr float64) (weights [][]byte, masters []float64) {
	t.Helper()
	o, err := newOptimizer(b, c, params)
	check(t, err)
	defer o.close()
	for n := range steps {
		check(t, o.update(n+1, lr, 1))
	}
	for _, s := range o.slots {
		raw := make([]byte, s.Weight.Bytes())
		b.Download(raw, s.Weight)
		weights = append(weights, raw)
		if s.master.Buf != nil {
			raw := make([]byte, s.master.Bytes())
			b.Download(raw, s.master)
			masters = append(masters, numbers(raw, kernels.F32)...)
		}
	}
	return weights, masters
}

// Twenty steps of 1e-4 from 1, below which bfloat16's numbers are 2^-8 apart: rounding to nearest
// undoes every step. With stochastic rounding the weights move as their masters do, on average.
func TestStochasticRoundingMovesTheMean(t *testing.T) {
	t.Parallel()
	const n, steps, lr, ulp = 1 << 12, 20, 1e-4, 0x1p-8
	if narrow(1-lr) != 1 {
		t.Fatal("a step is not lost by rounding to nearest: the test shows nothing")
	}
	b := reference.New(kernels.BF16)
	c := configs.Train{AdamBeta1: 0.9, AdamBeta2: 0.95, AdamEpsilon: 1e-8}
	_, masters := afterSteps(t, b, c, ones(t, b, n, "one"), steps, lr)
	want := masters[0]
	if math.Abs(want-(1-steps*lr)) > 1e-5 {
		t.Fatalf("a master is %g after %d steps of %g", want, steps, lr)
	}

	c.StochasticRounding = true
	weights, masters := afterSteps(t, b, c, ones(t, b, n, "one", "other"), steps, lr)
	if len(masters) > 0 {
		t.Error("there are masters")
	}
	jumps := steps * lr / ulp // of a weight, expected
	for _, raw := range weights {
		mean := 0.0
		for _, x := range numbers(raw, kernels.BF16) {
			mean += x / n
		}
		if deviation := ulp * math.Sqrt(jumps/n); math.Abs(mean-want) > 4*deviation {
			t.Errorf("the mean is %g, the master %g; the deviation of the mean is %g", mean, want, deviation)
		}
	}
	if bytes.Equal(weights[0], weights[1]) {
		t.Error("two parameters were rounded by the same numbers")
	}
	c.Seed = 1
	if other, _ := afterSteps(t, b, c, ones(t, b, n, "one"), steps, lr); bytes.Equal(other[0], weights[0]) {
		t.Error("train.seed does not change the numbers")
	}
}

// Without masters a model learns what it learns with them.
func TestStochasticRoundingLearns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.BF16)
	w.train, w.eval = dataset(t, groups(60, 5)), dataset(t, groups(40, 6))
	loss := map[bool]float64{}
	for _, stochastic := range []bool{false, true} {
		c := baseConfig(t.TempDir())
		c.Train.PromptsPerStep, c.Train.NumTrainEpochs, c.Train.LearningRate = 10, 6, 2e-2
		c.Train.StochasticRounding = stochastic
		s, _ := w.run(c)
		if s.Last == nil || s.Last.PairwiseAccuracy < 0.8 {
			t.Errorf("stochastic %v: %+v, want accuracy 0.8", stochastic, s.Last)
		}
		loss[stochastic] = s.Last.Loss
	}
	if math.Abs(loss[true]/loss[false]-1) > 0.05 {
		t.Errorf("loss %g without masters, %g with", loss[true], loss[false])
	}
}

func TestStatesWithAndWithoutMastersAreNotMixed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.BF16)
	with, without := baseConfig(t.TempDir()), baseConfig(t.TempDir())
	without.Train.StochasticRounding = true
	w.interrupt(with, 2)
	w.interrupt(without, 2)
	file, err := os.Stat(filepath.Join(statePath(with.Train.OutputDir, 2), "state.safetensors"))
	check(t, err)
	small, err := os.Stat(filepath.Join(statePath(without.Train.OutputDir, 2), "state.safetensors"))
	check(t, err)
	if small.Size() >= file.Size() {
		t.Errorf("a state without masters has %d bytes, one with masters %d", small.Size(), file.Size())
	}
	with.Train.StochasticRounding, without.Train.StochasticRounding = true, false
	w.refuses(with, "train.stochastic_rounding is not set there and true here")
	w.refuses(without, "train.stochastic_rounding is true there and not set here")
}

// States of before the setting do not name it, and neither do those of runs without it.
func TestStatesWithMastersDoNotNameTheSetting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.BF16)
	c := baseConfig(t.TempDir())
	w.interrupt(c, 2)
	raw, err := os.ReadFile(filepath.Join(statePath(c.Train.OutputDir, 2), "state.json"))
	check(t, err)
	var s struct{ Identity map[string]string }
	check(t, json.Unmarshal(raw, &s))
	if _, named := s.Identity["train.stochastic_rounding"]; named || s.Identity["train.seed"] == "" {
		t.Errorf("the state's run is %v", s.Identity)
	}
}

func TestStochasticRoundingIsForBFloat16(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.StochasticRounding = true
	_, err := Run(t.Context(), w.inputs(c))
	if err == nil || !strings.Contains(err.Error(), "set model.dtype to bfloat16") {
		t.Errorf("error %v", err)
	}
}
