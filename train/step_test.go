package train

import (
	"math"
	"slices"
	"testing"

	"rmtrain/data"
	"rmtrain/kernels"
)

// tolerance is how far float32 runs that differ in the order of sums may be apart
// after a few steps of learning rate 1e-2: Adam divides by the root of the second
// moment, which for a gradient near 0 magnifies its rounding.
const tolerance = 2e-4

// Three steps in float64 are redone by hand: gradients of the whole step at once,
// torch's clip_grad_norm_ and torch's AdamW.
func TestThreeStepsAreTorchsAdamW(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F64)
	w.eval = nil
	c := baseConfig(t.TempDir())
	c.Train.MaxSteps = 3
	c.Train.LRSchedulerType = "constant"
	c.Train.WarmupSteps = 2
	c.Train.MaxGradNorm = 0.3
	_, got := w.run(c)

	in := w.inputs(c)
	params := in.Model.Params()
	read := func(x kernels.Tensor) []float64 {
		raw := make([]byte, x.Bytes())
		in.Backend.Download(raw, x)
		return numbers(raw, kernels.F64)
	}
	l, err := newLoss(c.Loss)
	check(t, err)
	j := judge{model: in.Model, loss: l}
	m, v := make([][]float64, len(params)), make([][]float64, len(params))
	order := data.Shuffle(10, 0, 0)
	clipped := false
	for step := 1; step <= 3; step++ {
		var batch []data.Group
		for _, i := range order[3*(step-1) : 3*step] {
			batch = append(batch, w.train.Group(i))
		}
		in.Model.ZeroGrad()
		_, err := j.run(microBatch{groups: batch, layout: data.Pack(batch, true)})
		check(t, err)
		for i := range j.dscore {
			j.dscore[i] /= 3
		}
		check(t, in.Model.Backward(j.dscore))
		square := 0.0
		for _, p := range params {
			for _, g := range read(p.Grad) {
				square += g * g
			}
		}
		scale := 0.3 / (math.Sqrt(square) + 1e-6)
		clipped = clipped || scale < 1
		scale = math.Min(1, scale)
		lr := 1e-2 * math.Min(1, float64(step-1)/2)
		for i, p := range params {
			x, g := read(p.Weight), read(p.Grad)
			if m[i] == nil {
				m[i], v[i] = make([]float64, len(x)), make([]float64, len(x))
			}
			var raw []byte
			for k := range x {
				if p.Decay {
					x[k] -= lr * 0.1 * x[k]
				}
				d := g[k] * scale
				m[i][k] = 0.9*m[i][k] + 0.1*d
				v[i][k] = 0.95*v[i][k] + 0.05*d*d
				mean, variance := m[i][k]/(1-math.Pow(0.9, float64(step))), v[i][k]/(1-math.Pow(0.95, float64(step)))
				raw = appendAs(raw, kernels.F64, x[k]-lr*mean/(math.Sqrt(variance)+1e-8))
			}
			in.Backend.Upload(p.Weight, raw)
		}
	}
	if !clipped {
		t.Error("no step was clipped: the test shows nothing of clipping")
	}
	if d := distance(got, weightsOf(t, in), kernels.F64); d > 1e-9 {
		t.Errorf("weights differ by %g", d)
	}
}

func TestClippingIsTorchs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ norm, limit, want float64 }{
		{0.5, 1, 1}, {2, 1, 0.49999975}, {1, 1, 0.999999}, {5, 0, 1}, {0, 1, 1},
	} {
		if got := clip(c.norm, c.limit); math.Abs(got-c.want) > 1e-11 {
			t.Errorf("norm %g, limit %g: factor %g, want %g", c.norm, c.limit, got, c.want)
		}
	}
}

// What does not change the mathematics changes no more than rounding.
func TestMicroBatchesAndSharingDoNotMatter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	whole := baseConfig(t.TempDir())
	whole.Train.MaxTokensPerBatch = 10000
	_, want := w.run(whole)
	for name, change := range map[string]func(tokens *int, share *bool){
		"a group a batch": func(tokens *int, share *bool) { *tokens = 1 },
		"two batches":     func(tokens *int, share *bool) { *tokens = 60 },
		"not shared":      func(tokens *int, share *bool) { *share = false },
	} {
		c := baseConfig(t.TempDir())
		change(&c.Train.MaxTokensPerBatch, &c.Train.SharePrefix)
		_, got := w.run(c)
		d := distance(got, want, kernels.F32)
		if d > tolerance || (d == 0 && name == "a group a batch") {
			t.Errorf("%s: weights differ by %g", name, d)
		}
	}
}

func TestOrderWithinAStepDoesNotMatter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.PromptsPerStep, c.Train.MaxSteps = 10, 3
	_, want := w.run(c)
	gs := groups(10, 1)
	slices.Reverse(gs)
	w.train = dataset(t, gs)
	c.Train.OutputDir = t.TempDir()
	_, got := w.run(c)
	if d := distance(got, want, kernels.F32); d > tolerance {
		t.Errorf("weights differ by %g", d)
	}
}

func TestRunsAreEqualToTheBit(t *testing.T) {
	t.Parallel()
	for _, s := range storages {
		w := newWorld(t, s.dtype)
		c, again := baseConfig(t.TempDir()), baseConfig(t.TempDir())
		c.Train.StochasticRounding, again.Train.StochasticRounding = s.stochastic, s.stochastic
		_, want := w.run(c)
		_, got := w.run(again)
		sameBits(t, got, want)
		if a, b := metrics(t, c.Train.OutputDir), metrics(t, again.Train.OutputDir); !slices.Equal(a, b) {
			t.Errorf("%+v: metrics differ: %q and %q", s, a, b)
		}
	}
}

func TestTrainingLearns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	w.train, w.eval = dataset(t, groups(100, 5)), dataset(t, groups(40, 6))
	c := baseConfig(t.TempDir())
	c.Train.PromptsPerStep, c.Train.NumTrainEpochs, c.Train.LearningRate = 10, 6, 2e-2
	s, _ := w.run(c)
	if s.Last == nil || s.Last.PairwiseAccuracy < 0.9 || s.Last.Step != 60 {
		t.Errorf("after 6 epochs: %+v, want accuracy 0.9 at step 60", s.Last)
	}
}

func TestFrozenParametersStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	var err error
	w.frozen, err = Frozen([]string{"embed", "0"}, tiny.Layers)
	check(t, err)
	before := weightsOf(t, w.inputs(baseConfig(t.TempDir())))
	_, after := w.run(baseConfig(t.TempDir()))
	for name := range before {
		if same := slices.Equal(before[name], after[name]); same != w.frozen(name) {
			t.Errorf("%s: unchanged is %v, frozen is %v", name, same, w.frozen(name))
		}
	}
	w.frozen = func(string) bool { return true }
	if _, err := Run(t.Context(), w.inputs(baseConfig(t.TempDir()))); err == nil {
		t.Error("a run without anything to train is taken")
	}
}

// A step of 1e-4 is less than half a unit in the last place of a bfloat16 of 0.125
// or more, so that such weights move only if the masters add up many steps.
func TestMastersCarryWhatBFloat16CannotHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.BF16)
	w.eval = nil
	moved := func(steps int) (n int) {
		c := baseConfig(t.TempDir())
		c.Train.LearningRate, c.Train.MaxSteps, c.Train.WeightDecay = 1e-4, steps, 0
		c.Train.LRSchedulerType, c.Train.WarmupSteps = "constant", 0
		before := weightsOf(t, w.inputs(c))
		_, after := w.run(c)
		for name := range before {
			a, b := numbers(before[name], kernels.BF16), numbers(after[name], kernels.BF16)
			for i := range a {
				if math.Abs(a[i]) >= 0.125 && a[i] != b[i] {
					n++
				}
			}
		}
		return n
	}
	if n := moved(1); n != 0 {
		t.Errorf("one step moved %d weights", n)
	}
	if n := moved(30); n < 50 {
		t.Errorf("30 steps moved %d weights", n)
	}
}
