package cpu

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"rmtrain/kernels"
)

// An operation of the suite and what it writes.
type operation struct {
	name string
	run  func()
	outs []kernels.Tensor
}

// suite returns every operation on random operands of the given number of rows,
// and of enough columns to be cut into tasks.
func suite(t testing.TB, b *backend, rows int) []operation {
	return suiteOn(t, b, rows, func(x kernels.Tensor) kernels.Tensor { return x })
}

// suiteOn is suite with operands that place puts elsewhere.
func suiteOn(t testing.TB, b *backend, rows int, place func(kernels.Tensor) kernels.Tensor) []operation {
	r := rand.New(rand.NewPCG(5, 6))
	const cols, wide, vocab = 203, 530, 90
	h := kernels.Heads{Q: 6, KV: 2, Dim: 26, Window: 70}
	segs := answers(rows/4, 3, rows/5)
	act := func(shape ...int) kernels.Tensor { return place(filled(t, b, r, b.act, shape...)) }
	stat := func(shape ...int) kernels.Tensor { return place(filled(t, b, r, kernels.F32, shape...)) }
	index := func(limit int) kernels.Tensor {
		x := place(filled(t, b, nil, kernels.I32, rows))
		v := indices("test", "index", x, limit)
		for i := range v {
			v[i] = int32(r.IntN(limit))
		}
		return x
	}
	x, y, w, cw, vw := act(rows, cols), act(rows, wide), act(wide, cols), act(cols), act(1, cols)
	dx, dw, dcw, rstd, sum := act(rows, cols), stat(wide, cols), stat(cols), stat(rows), filled(t, b, nil, kernels.F64, 1)
	qkv, dqkv, out, dout, lse := act(rows, h.QKV()), act(rows, h.QKV()), act(rows, h.Q*h.Dim), act(rows, h.Q*h.Dim), stat(rows, h.Q)
	gu, dgu := act(rows, 2*cols), act(rows, 2*cols)
	table, dtable, angles, score := act(vocab, cols), stat(vocab, cols), stat(vocab, h.Dim), stat(rows)
	ids, pos, picked := index(vocab), index(vocab), index(rows)
	a := kernels.AdamW{Param: act(rows * cols), M: stat(rows * cols), V: stat(rows * cols), Grad: stat(rows * cols),
		LR: 1e-3, Beta1: .9, Beta2: .99, Eps: 1e-8, WeightDecay: .1, GradScale: .5, Step: 2}
	b.Zero(a.V)
	updated := []kernels.Tensor{a.Param, a.M, a.V}
	if b.act == kernels.BF16 {
		a.Master = stat(rows * cols)
		updated = append(updated, a.Master)
	}
	// Without a master, BF16 is rounded stochastically.
	without := a
	without.Master, without.Param, without.Stochastic, without.Seed = kernels.Tensor{}, act(rows*cols), b.act == kernels.BF16, 3
	of := func(ts ...kernels.Tensor) []kernels.Tensor { return ts }
	return []operation{
		{"RMSNorm", func() { b.RMSNorm(dx, rstd, x, cw, 1e-5) }, of(dx, rstd)},
		{"RMSNormBack", func() { b.RMSNormBack(dx, dcw, x, x, cw, rstd) }, of(dx, dcw)},
		{"MatMul NT", func() { b.MatMul(y, x, w, kernels.NT, false) }, of(y)},
		{"MatMul NN", func() { b.MatMul(dx, y, w, kernels.NN, true) }, of(dx)},
		{"MatMul TN", func() { b.MatMul(dw, y, x, kernels.TN, true) }, of(dw)},
		{"RoPE", func() { b.RoPE(qkv, pos, angles, h, false) }, of(qkv)},
		{"Attention", func() { b.Attention(out, lse, qkv, segs, h) }, of(out, lse)},
		{"AttentionBack", func() { b.AttentionBack(dqkv, dout, out, lse, qkv, segs, h) }, of(dqkv)},
		{"SwiGLU", func() { b.SwiGLU(dx, gu) }, of(dx)},
		{"SwiGLUBack", func() { b.SwiGLUBack(dgu, x, gu) }, of(dgu)},
		{"Embed", func() { b.Embed(x, table, ids) }, of(x)},
		{"EmbedBack", func() { b.EmbedBack(dtable, x, ids, 3) }, of(dtable)},
		{"Scatter", func() { b.Scatter(dx, x, picked) }, of(dx)},
		{"AddBias", func() { b.AddBias(x, cw) }, of(x)},
		{"AddBiasBack", func() { b.AddBiasBack(dcw, x) }, of(dcw)},
		{"ValueHead", func() { b.ValueHead(score, x, picked, vw) }, of(score)},
		{"ValueHeadBack", func() { b.ValueHeadBack(dx, dcw, score, x, picked, vw) }, of(dx, dcw)},
		{"Add", func() { b.Add(dx, dx, x) }, of(dx)},
		{"SumSq", func() { b.SumSq(sum, dw) }, of(sum)},
		{"AdamW", func() { b.AdamW(a) }, updated},
		{"AdamW stochastic", func() { b.AdamW(without) }, of(without.Param, a.M, a.V)},
	}
}

func TestResultsDoNotDependOnThreads(t *testing.T) {
	each(t, func(t *testing.T, b *backend) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
		var first [][]byte
		for _, threads := range []int{1, 2, 3, 7} {
			runtime.GOMAXPROCS(threads)
			n := 0
			for _, op := range suite(t, b, 301) {
				op.run()
				for i, out := range op.outs {
					if threads == 1 {
						first = append(first, bytes.Clone(raw(out)))
					} else if !bytes.Equal(first[n], raw(out)) {
						t.Errorf("%s: output %d differs with %d threads", op.name, i, threads)
					}
					n++
				}
			}
		}
	})
}

// TestMatMulRowsAlone compares products of few rows with the same rows of a large
// product, which is cut into blocks, panels and more than one task.
func TestMatMulRowsAlone(t *testing.T) {
	each(t, func(t *testing.T, b *backend) {
		r := rand.New(rand.NewPCG(7, 8))
		const m, n, k = maxRows + 30, 75, 530
		x, out, part := filled(t, b, r, b.act, m, k), filled(t, b, nil, b.act, m, n), filled(t, b, nil, b.act, m, n)
		w := map[kernels.Trans]kernels.Tensor{kernels.NT: filled(t, b, r, b.act, n, k), kernels.NN: filled(t, b, r, b.act, k, n)}
		for mode, w := range w {
			b.MatMul(out, x, w, mode, false)
			for _, s := range [][2]int{{0, 1}, {1, 2}, {5, 18}, {3, 17}, {9, 24}, {m - 1, m}, {m - 48, m}, {100, 200}} {
				got := part.Slice(0, s[1]-s[0])
				b.MatMul(got, x.Slice(s[0], s[1]), w, mode, false)
				if !bytes.Equal(raw(got), raw(out.Slice(s[0], s[1]))) {
					t.Errorf("mode %d: rows %v differ when alone", mode, s)
				}
			}
		}
	})
}

// TestAttentionSharedPrefix compares answers that share a prompt with the same
// answers as sequences of their own, of more keys than a block has: forward, and
// the gradient of the queries, must have the same bits.
func TestAttentionSharedPrefix(t *testing.T) {
	each(t, func(t *testing.T, b *backend) {
		for _, h := range []kernels.Heads{{Q: 3, KV: 1, Dim: 32}, {Q: 2, KV: 2, Dim: 20, Window: 40}, {Q: 7, KV: 1, Dim: 8, Window: 231}} {
			t.Run(fmt.Sprint(h), func(t *testing.T) {
				const prompt, answer = 199, 61
				shared := answers(prompt, 2, answer)
				all := attend(t, b, h, prompt+2*answer, nil, shared)
				for i := range 2 {
					rows := make([]int, 0, prompt+answer)
					for r := range prompt + answer {
						if r >= prompt {
							r += i * answer
						}
						rows = append(rows, r)
					}
					alone := attend(t, b, h, len(rows), rows, []kernels.Segment{{Hi: int32(len(rows))}})
					for r, from := range rows {
						same := bytes.Equal(raw(alone.out.Slice(r, r+1)), raw(all.out.Slice(from, from+1))) &&
							bytes.Equal(raw(alone.lse.Slice(r, r+1)), raw(all.lse.Slice(from, from+1)))
						size := h.Q * h.Dim * b.act.Size()
						if !same || !bytes.Equal(raw(alone.dqkv.Slice(r, r+1))[:size], raw(all.dqkv.Slice(from, from+1))[:size]) {
							t.Fatalf("answer %d alone: row %d differs", i, r)
						}
					}
				}
			})
		}
	})
}

type attended struct{ out, lse, dqkv kernels.Tensor }

// attend runs attention both ways on rows of a fixed random batch, in order if rows
// is nil.
func attend(t *testing.T, b *backend, h kernels.Heads, n int, rows []int, segs []kernels.Segment) attended {
	r := rand.New(rand.NewPCG(9, 10))
	const most = 400
	qkv, dout := filled(t, b, r, b.act, most, h.QKV()), filled(t, b, r, b.act, most, h.Q*h.Dim)
	for to, from := range rows { // ascending, so nothing is overwritten that is still read
		copy(raw(qkv.Slice(to, to+1)), raw(qkv.Slice(from, from+1)))
		copy(raw(dout.Slice(to, to+1)), raw(dout.Slice(from, from+1)))
	}
	a := attended{filled(t, b, nil, b.act, n, h.Q*h.Dim), filled(t, b, nil, kernels.F32, n, h.Q), filled(t, b, nil, b.act, n, h.QKV())}
	b.Attention(a.out, a.lse, qkv.Slice(0, n), segs, h)
	b.AttentionBack(a.dqkv, dout.Slice(0, n), a.out, a.lse, qkv.Slice(0, n), segs, h)
	return a
}
