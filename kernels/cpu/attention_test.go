package cpu

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"rmtrain/kernels"
)

// A run of query rows and the keys that it sees, as cut finds them.
type cutRun struct{ lo, hi, first, last int32 }

func TestCutLeavesWorkForAllCores(t *testing.T) {
	one := []kernels.Segment{{Hi: 1600}}
	answer := []kernels.Segment{{PrefixLo: 5, PrefixHi: 105, Lo: 200, Hi: 1000, From: 700}}
	for _, c := range []struct {
		name string
		segs []kernels.Segment
		h    kernels.Heads
		most int
		want []cutRun
	}{
		{"one short sequence", []kernels.Segment{{Hi: 700}}, kernels.Heads{Q: 1, KV: 1, Dim: 1}, 8, []cutRun{{0, 700, 0, 700}}},
		{"one sequence", one, kernels.Heads{Q: 1, KV: 1, Dim: 1}, 8,
			[]cutRun{{0, 400, 0, 400}, {400, 800, 0, 800}, {800, 1200, 0, 1200}, {1200, 1600, 0, 1600}}},
		{"rows are tokens times heads of a group", one, kernels.Heads{Q: 12, KV: 6, Dim: 1}, 2, []cutRun{{0, 800, 0, 800}, {800, 1600, 0, 1600}}},
		{"a window", one, kernels.Heads{Q: 1, KV: 1, Dim: 1, Window: 300}, 2, []cutRun{{0, 800, 0, 800}, {800, 1600, 501, 1600}}},
		{"an answer, some rows of which are keys only", answer, kernels.Heads{Q: 3, KV: 1, Dim: 1}, 8,
			[]cutRun{{700, 850, 0, 750}, {850, 1000, 0, 900}}},
		{"nothing asked", []kernels.Segment{{Hi: 9, From: 9}}, kernels.Heads{Q: 1, KV: 1, Dim: 1}, 8, nil},
		{"fewer tokens than pieces", []kernels.Segment{{Hi: 1}}, kernels.Heads{Q: 2000, KV: 1, Dim: 1}, 8, []cutRun{{0, 1, 0, 1}}},
	} {
		b := newBackend(t, kernels.F32, "")
		floats := b.cut(c.segs, c.h, c.most)
		var got []cutRun
		at := 0
		for _, p := range b.pieces {
			got = append(got, cutRun{int32(p.lo), int32(p.hi), int32(p.first), int32(p.last)})
			if int(p.at) != at {
				t.Errorf("%s: a part begins at %d, want %d", c.name, p.at, at)
			}
			at += int(p.last-p.first) * 2 * c.h.KV * c.h.Dim
		}
		if !slices.Equal(got, c.want) || floats != at {
			t.Errorf("%s: %v in %d floats, want %v in %d", c.name, got, floats, c.want, at)
		}
	}
}

// TestAttentionOfCutSegments runs segments that are cut into pieces on more and fewer
// threads, and beside others: all bits are the same.
func TestAttentionOfCutSegments(t *testing.T) {
	each(t, func(t *testing.T, b *backend) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
		for _, h := range []kernels.Heads{{Q: 6, KV: 2, Dim: 20}, {Q: 3, KV: 1, Dim: 33, Window: 150}} {
			r := rand.New(rand.NewPCG(13, 14))
			const prompt, answer, other = 270, 290, 60
			const rows = prompt + answer + other
			segs := append(answers(prompt, 1, answer), kernels.Segment{Lo: rows - other, Hi: rows})
			qkv, dout := filled(t, b, r, b.act, rows, h.QKV()), filled(t, b, r, b.act, rows, h.Q*h.Dim)
			var first []byte
			for _, threads := range []int{1, 2, 3, 7} {
				runtime.GOMAXPROCS(threads)
				got := attendAll(t, b, h, qkv, dout, segs)
				if threads == 1 {
					first = got
				} else if !bytes.Equal(got, first) {
					t.Errorf("%v: %d threads give other bits than one", h, threads)
				}
			}
			alone := attendAll(t, b, h, qkv.Slice(0, rows-other), dout.Slice(0, rows-other), segs[:2])
			if !bytes.Equal(alone, first[:len(alone)]) {
				t.Errorf("%v: other bits without the sequence beside it", h)
			}
			if b.cut(segs, h, mostParts); len(b.pieces) < 4 {
				t.Errorf("%v: %d pieces, want at least two of each long segment", h, len(b.pieces))
			}
		}
	})
}

// attendAll returns the bytes of dqkv, which out and lse are in.
func attendAll(t *testing.T, b *backend, h kernels.Heads, qkv, dout kernels.Tensor, segs []kernels.Segment) []byte {
	t.Helper()
	rows := qkv.Rows()
	out, lse, dqkv := filled(t, b, nil, b.act, rows, h.Q*h.Dim), filled(t, b, nil, kernels.F32, rows, h.Q), filled(t, b, nil, b.act, rows, h.QKV())
	b.Attention(out, lse, qkv, segs, h)
	b.AttentionBack(dqkv, dout, out, lse, qkv, segs, h)
	return slices.Clone(raw(dqkv))
}

// TestNaNOfAHiddenKey puts NaN just before what the answer's first row sees through
// its window: the answer's results and gradients do not know of it.
func TestNaNOfAHiddenKey(t *testing.T) {
	each(t, func(t *testing.T, b *backend) {
		const prompt, answer, window = 100, 50, 40
		h := kernels.Heads{Q: 4, KV: 2, Dim: 16, Window: window}
		segs := answers(prompt, 1, answer)
		r := rand.New(rand.NewPCG(15, 16))
		qkv, dout := filled(t, b, r, b.act, prompt+answer, h.QKV()), filled(t, b, r, b.act, prompt+answer, h.Q*h.Dim)
		hidden := raw(qkv.Slice(prompt-window, prompt-window+1))
		for i := range hidden {
			hidden[i] = 0xff // NaN in either type
		}
		out, lse, dqkv := filled(t, b, nil, b.act, prompt+answer, h.Q*h.Dim), filled(t, b, nil, kernels.F32, prompt+answer, h.Q), filled(t, b, nil, b.act, prompt+answer, h.QKV())
		b.Attention(out, lse, qkv, segs, h)
		b.AttentionBack(dqkv, dout, out, lse, qkv, segs, h)
		for name, x := range map[string]kernels.Tensor{"out": out, "lse": lse, "dqkv": dqkv} {
			if !allNumbers(x.Slice(prompt, prompt+answer)) {
				t.Errorf("%s of the answer has a NaN", name)
			}
			if allNumbers(x.Slice(0, prompt)) {
				t.Errorf("%s of the prompt has none", name)
			}
		}
	})
}

func allNumbers(x kernels.Tensor) bool {
	if x.DType == kernels.F32 {
		return !slices.ContainsFunc(float32s(x), func(v float32) bool { return v != v })
	}
	return !slices.ContainsFunc(halves(raw(x)), func(h uint16) bool { return !isNumber(h) })
}

// BenchmarkAttentionShapes runs a long shared prompt, one conversation, and long
// sequences with few kv heads.
func BenchmarkAttentionShapes(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		prompt, count, answer int
		h                     kernels.Heads
	}{
		{600, 7, 200, kernels.Heads{Q: 8, KV: 4, Dim: 16}},
		{0, 1, 300, kernels.Heads{Q: 9, KV: 3, Dim: 64}},
		{0, 1, 4000, kernels.Heads{Q: 9, KV: 3, Dim: 64}},
		{20, 1, 2000, kernels.Heads{Q: 4, KV: 1, Dim: 128}},
	} {
		for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
			be, err := New(dt)
			if err != nil {
				b.Fatal(err)
			}
			x := be.(*backend)
			segs, rows := answers(c.prompt, c.count, c.answer), c.prompt+c.count*c.answer
			p, n, k := float64(c.prompt), float64(c.answer), float64(c.count)
			flops := 4 * (p*(p+1)/2 + k*(p*n+n*(n+1)/2)) * float64(c.h.Q*c.h.Dim)
			qkv, dqkv := filled(b, x, r, dt, rows, c.h.QKV()), filled(b, x, nil, dt, rows, c.h.QKV())
			out, dout, lse := filled(b, x, nil, dt, rows, c.h.Q*c.h.Dim), filled(b, x, r, dt, rows, c.h.Q*c.h.Dim), filled(b, x, nil, kernels.F32, rows, c.h.Q)
			name := fmt.Sprintf("%v/%d+%dx%d/%d-%d-%d", x.Name(), c.prompt, c.count, c.answer, c.h.Q, c.h.KV, c.h.Dim)
			b.Run(name+"/forward", func(b *testing.B) { timed(b, flops, func() { x.Attention(out, lse, qkv, segs, c.h) }) })
			b.Run(name+"/backward", func(b *testing.B) {
				timed(b, 2.5*flops, func() { x.AttentionBack(dqkv, dout, out, lse, qkv, segs, c.h) })
			})
			be.Close()
		}
	}
}
