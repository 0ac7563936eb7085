package reference_test

import (
	"math"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/reference"
)

// Results that a page of arithmetic gives, since the conformance suite takes this
// package's word.

func expect(t *testing.T, b kernels.Backend, got kernels.Tensor, want ...float64) {
	t.Helper()
	for i, x := range download(b, got) {
		if math.Abs(x-want[i]) > 1e-14*(1+math.Abs(want[i])) {
			t.Errorf("element %d is %.16g, want %.16g", i, x, want[i])
		}
	}
}

func TestRoPEPairsHalves(t *testing.T) {
	b := reference.New(kernels.F64)
	h := kernels.Heads{Q: 1, KV: 1, Dim: 4}
	qkv := alloc(t, b, []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 1, 12)
	// Position 1 turns the first pair by a right angle and the second not at all.
	table := alloc(t, b, []float64{9, 9, 9, 9, 0, 1, 1, 0}, 2, 4)
	pos := allocInts(t, b, 1)
	b.RoPE(qkv, pos, table, h, false)
	expect(t, b, qkv, -3, 2, 1, 4, -7, 6, 5, 8, 9, 10, 11, 12)
	b.RoPE(qkv, pos, table, h, true)
	expect(t, b, qkv, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
}

// With keys of zero every visible row counts the same, so attention is the mean of
// the values that a row sees.
func TestAttentionSeesPrefixAndWindow(t *testing.T) {
	segs := []kernels.Segment{{Lo: 0, Hi: 3}, {PrefixLo: 0, PrefixHi: 3, Lo: 3, Hi: 5}, {PrefixLo: 0, PrefixHi: 3, Lo: 5, Hi: 7}}
	mean := func(values ...float64) (sum float64) {
		for _, v := range values {
			sum += v
		}
		return sum / float64(len(values))
	}
	for _, c := range []struct {
		name   string
		window int
		want   []float64
		keys   []float64
	}{
		{"all", 0, []float64{1, mean(1, 2), mean(1, 2, 4), mean(1, 2, 4, 8), mean(1, 2, 4, 8, 16), mean(1, 2, 4, 32), mean(1, 2, 4, 32, 64)},
			[]float64{1, 2, 3, 4, 5, 4, 5}},
		{"window of 3", 3, []float64{1, mean(1, 2), mean(1, 2, 4), mean(2, 4, 8), mean(4, 8, 16), mean(2, 4, 32), mean(4, 32, 64)},
			[]float64{1, 2, 3, 3, 3, 3, 3}},
		{"window of 1", 1, []float64{1, 2, 4, 8, 16, 32, 64}, []float64{1, 1, 1, 1, 1, 1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := reference.New(kernels.F64)
			qkv := make([]float64, 7*3)
			for r := range 7 {
				qkv[3*r], qkv[3*r+2] = 5, float64(int(1)<<r)
			}
			out, lse := alloc(t, b, nil, 7, 1), alloc(t, b, nil, 7, 1)
			b.Attention(out, lse, alloc(t, b, qkv, 7, 3), segs, kernels.Heads{Q: 1, KV: 1, Dim: 1, Window: c.window})
			expect(t, b, out, c.want...)
			for i, n := range c.keys {
				c.keys[i] = math.Log(n)
			}
			expect(t, b, lse, c.keys...)
		})
	}
}

func TestQueryHeadsShareKeyHeads(t *testing.T) {
	b := reference.New(kernels.F64)
	// Four query heads over two key heads, one row: each query head gets the value
	// of key head q/2.
	qkv := alloc(t, b, []float64{1, 1, 1, 1, 1, 1, 10, 20}, 1, 8)
	out, lse := alloc(t, b, nil, 1, 4), alloc(t, b, nil, 1, 4)
	b.Attention(out, lse, qkv, []kernels.Segment{{Hi: 1}}, kernels.Heads{Q: 4, KV: 2, Dim: 1})
	expect(t, b, out, 10, 10, 20, 20)
	expect(t, b, lse, 1, 1, 1, 1)
}

func TestRMSNormKnown(t *testing.T) {
	b := reference.New(kernels.F64)
	out, rstd := alloc(t, b, nil, 1, 2), alloc(t, b, nil, 1)
	b.RMSNorm(out, rstd, alloc(t, b, []float64{3, 4}, 1, 2), alloc(t, b, []float64{1, 2}, 2), 3.5)
	expect(t, b, rstd, .25) // 1/sqrt((9+16)/2 + 3.5)
	expect(t, b, out, .75, 2)
}

func TestSwiGLUKnown(t *testing.T) {
	b := reference.New(kernels.F64)
	out := alloc(t, b, nil, 1, 2)
	b.SwiGLU(out, alloc(t, b, []float64{0, math.Log(3), 7, 2}, 1, 4))
	expect(t, b, out, 0, math.Log(3)*.75*2)
}

// The numbers are those of torch 2.15.0:
//
//	p = torch.tensor([0.5, -1.25], dtype=torch.double, requires_grad=True)
//	o = torch.optim.AdamW([p], lr=0.1, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
//	for g in ([0.3, -2.0], [-0.1, 0.5], [4.0, 0.0]):
//	    p.grad = torch.tensor(g, dtype=torch.double); o.step(); print(p.tolist())
func TestAdamWIsTorchs(t *testing.T) {
	b := reference.New(kernels.F64)
	a := kernels.AdamW{
		Param: alloc(t, b, []float64{.5, -1.25}, 2), M: alloc(t, b, nil, 2), V: alloc(t, b, nil, 2), Grad: alloc(t, b, nil, 2),
		LR: .1, Beta1: .9, Beta2: .95, Eps: 1e-8, WeightDecay: .1, GradScale: .5,
	}
	for i, s := range []struct{ grad, want []float64 }{
		{[]float64{.3, -2}, []float64{0.3950000033333332, -1.1375000005}},
		{[]float64{-.1, .5}, []float64{0.3506193349429323, -1.0786484078541545}},
		{[]float64{4, 0}, []float64{0.2825896799936974, -1.0306878565976294}},
	} {
		a.Step = i + 1
		upload(b, a.Grad, []float64{s.grad[0] / a.GradScale, s.grad[1] / a.GradScale})
		b.AdamW(a)
		expect(t, b, a.Param, s.want...)
	}
}
