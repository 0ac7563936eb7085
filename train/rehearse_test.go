package train

import (
	"maps"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/kernels/reference"
)

// A counting backend counts the operations of a step whose number depends on the model or on
// what is trained.
type counting struct {
	kernels.Backend
	calls map[string]int
}

func (c *counting) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	c.calls[[...]string{kernels.NT: "NT", kernels.NN: "NN", kernels.TN: "TN"}[mode]]++
	c.Backend.MatMul(out, a, b, mode, accumulate)
}

func (c *counting) RMSNorm(out, rstd, x, w kernels.Tensor, eps float64) {
	c.calls["RMSNorm"]++
	c.Backend.RMSNorm(out, rstd, x, w, eps)
}

func (c *counting) Zero(x kernels.Tensor) {
	c.calls["Zero"]++
	c.Backend.Zero(x)
}

func (c *counting) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	c.calls["AttentionBack"]++
	c.Backend.AttentionBack(dqkv, dout, out, lse, qkv, segs, h)
}

func (c *counting) SumSq(out, x kernels.Tensor) {
	c.calls["SumSq"]++
	c.Backend.SumSq(out, x)
}

func (c *counting) AdamW(a kernels.AdamW) {
	c.calls["AdamW"]++
	c.Backend.AdamW(a)
}

// A rehearsal issues the operations of the step that it rehearses.
func TestARehearsalIsAStep(t *testing.T) {
	for _, freeze := range [][]string{nil, {"embed", "0"}} {
		w := newWorld(t, kernels.F32)
		var err error
		w.frozen, err = Frozen(freeze, tiny.Layers)
		check(t, err)
		calls := map[string]int{}
		w.backend = func(b kernels.Backend) kernels.Backend { return &counting{b, calls} }
		in := w.inputs(baseConfig(t.TempDir()))
		tr, err := newTrainer(in)
		check(t, err)
		defer tr.close()
		clear(calls)
		check(t, tr.step())
		if calls["NT"] == 0 || calls["AdamW"] == 0 {
			t.Fatalf("frozen %v: a step is %v", freeze, calls)
		}

		rehearsed := map[string]int{}
		b := &counting{reference.New(kernels.F32), rehearsed}
		phases := map[string]bool{}
		o := llama.Options{DType: kernels.F32, Train: true, Frozen: w.frozen}
		check(t, Rehearse(b, in.Config, tiny, o, read(w.train, tr.plan.indices(1)), func(name string) { phases[name] = true }))
		if !maps.Equal(rehearsed, calls) || len(phases) != len(Phases) {
			t.Errorf("frozen %v: rehearsed %v in %v, a step is %v", freeze, rehearsed, phases, calls)
		}
	}
}
