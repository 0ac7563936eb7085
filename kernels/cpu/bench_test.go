package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"rmtrain/kernels"
)

// filled returns a tensor of normal random elements, or zeros if r is nil.
func filled(t testing.TB, b kernels.Backend, r *rand.Rand, dt kernels.DType, shape ...int) kernels.Tensor {
	t.Helper()
	x, err := b.Alloc("test", dt, shape...)
	if err != nil {
		t.Fatal(err)
	}
	if r != nil {
		v := make([]float32, x.Len())
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		b.Upload(x, encode(dt, v))
	}
	return x
}

// encode converts v to the bytes of dt; BF16 is cut, not rounded.
func encode(dt kernels.DType, v []float32) []byte {
	out := make([]byte, 0, len(v)*dt.Size())
	for _, x := range v {
		if dt == kernels.BF16 {
			out = binary.LittleEndian.AppendUint16(out, uint16(math.Float32bits(x)>>16))
		} else {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
		}
	}
	return out
}

// eachBench runs f on the best instruction set, in both types, with one thread and
// with all.
func eachBench(b *testing.B, f func(b *testing.B, be *backend)) {
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
		for _, threads := range []int{1, runtime.NumCPU()} {
			be, err := New(dt)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/threads=%d", be.Name(), threads), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
				f(b, be.(*backend))
			})
			be.Close()
		}
	}
}

// timed reports the rate of op, if it is counted in flops, and the same per second
// of one core, which neighbours on a busy machine distort less.
func timed(b *testing.B, flops float64, op func()) {
	op()
	b.ReportAllocs()
	start := cpuSeconds(b)
	for b.Loop() {
		op()
	}
	used := (cpuSeconds(b) - start) / float64(b.N)
	if flops == 0 {
		b.ReportMetric(used*1e3, "core-ms/op")
		return
	}
	b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	b.ReportMetric(flops/used/1e9, "GFLOP/s/core")
}

func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func BenchmarkMatMul(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	eachBench(b, func(b *testing.B, be *backend) {
		for _, s := range [][3]int{{16, 1536, 576}, {256, 1536, 576}, {1850, 1536, 576}, {256, 5632, 2048}, {1850, 5632, 2048}} {
			m, n, k := s[0], s[1], s[2]
			x, w, y := filled(b, be, r, be.act, m, k), filled(b, be, r, be.act, n, k), filled(b, be, r, be.act, m, n)
			dw := filled(b, be, nil, kernels.F32, n, k)
			flops := 2 * float64(m) * float64(n) * float64(k)
			run := func(name string, op func()) {
				b.Run(fmt.Sprintf("%s/%dx%dx%d", name, m, n, k), func(b *testing.B) { timed(b, flops, op) })
			}
			run("NT", func() { be.MatMul(y, x, w, kernels.NT, false) })
			run("NN", func() { be.MatMul(x, y, w, kernels.NN, false) })
			run("TN", func() { be.MatMul(dw, y, x, kernels.TN, true) })
			for _, t := range []kernels.Tensor{x, w, y, dw} {
				be.Free(t)
			}
		}
	})
}

// answers is a prompt of p rows and k answers of r rows that share it.
func answers(p, k, r int) []kernels.Segment {
	segs := []kernels.Segment{{Hi: int32(p)}}
	for i := range k {
		segs = append(segs, kernels.Segment{PrefixHi: int32(p), Lo: int32(p + i*r), Hi: int32(p + (i+1)*r)})
	}
	return segs
}

func BenchmarkAttention(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	segs := answers(240, 7, 230)
	const rows = 240 + 7*230
	pairs := 240.0*241/2 + 7*(240*230+230.0*231/2)
	eachBench(b, func(b *testing.B, be *backend) {
		for _, h := range []kernels.Heads{{Q: 9, KV: 3, Dim: 64}, {Q: 32, KV: 8, Dim: 128}} {
			qkv, dqkv := filled(b, be, r, be.act, rows, h.QKV()), filled(b, be, nil, be.act, rows, h.QKV())
			out, dout := filled(b, be, nil, be.act, rows, h.Q*h.Dim), filled(b, be, r, be.act, rows, h.Q*h.Dim)
			lse := filled(b, be, nil, kernels.F32, rows, h.Q)
			flops := 4 * pairs * float64(h.Q*h.Dim)
			b.Run(fmt.Sprintf("forward/%d-%d-%d", h.Q, h.KV, h.Dim), func(b *testing.B) {
				timed(b, flops, func() { be.Attention(out, lse, qkv, segs, h) })
			})
			b.Run(fmt.Sprintf("backward/%d-%d-%d", h.Q, h.KV, h.Dim), func(b *testing.B) {
				timed(b, 2.5*flops, func() { be.AttentionBack(dqkv, dout, out, lse, qkv, segs, h) })
			})
		}
	})
}

func BenchmarkRows(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	eachBench(b, func(b *testing.B, be *backend) {
		const rows, cols, ffn, params = 1850, 576, 1536, 1 << 22
		x, dx, w := filled(b, be, r, be.act, rows, cols), filled(b, be, nil, be.act, rows, cols), filled(b, be, r, be.act, cols)
		rstd, dw := filled(b, be, nil, kernels.F32, rows), filled(b, be, nil, kernels.F32, cols)
		gu, dgu, act := filled(b, be, r, be.act, rows, 2*ffn), filled(b, be, nil, be.act, rows, 2*ffn), filled(b, be, r, be.act, rows, ffn)
		a := kernels.AdamW{Param: filled(b, be, r, be.act, params), M: filled(b, be, r, kernels.F32, params),
			V: filled(b, be, nil, kernels.F32, params), Grad: filled(b, be, r, kernels.F32, params),
			LR: 1e-3, Beta1: .9, Beta2: .99, Eps: 1e-8, GradScale: 1, Step: 1}
		if be.act == kernels.BF16 {
			a.Master = filled(b, be, r, kernels.F32, params)
		}
		without := a
		without.Param, without.Master, without.Stochastic = filled(b, be, r, be.act, params), kernels.Tensor{}, be.act == kernels.BF16
		sum := filled(b, be, nil, kernels.F64, 1)
		for name, op := range map[string]func(){
			"RMSNorm":     func() { be.RMSNorm(dx, rstd, x, w, 1e-5) },
			"RMSNormBack": func() { be.RMSNormBack(dx, dw, x, x, w, rstd) },
			"SwiGLU":      func() { be.SwiGLU(act, gu) },
			"SwiGLUBack":  func() { be.SwiGLUBack(dgu, act, gu) },
			"Add":         func() { be.Add(dx, dx, x) },
			"SumSq4M":     func() { be.SumSq(sum, a.Grad) },
			"AdamW4M":     func() { be.AdamW(a) },
			"Dither4M":    func() { be.AdamW(without) }, // AdamW without a master, where that is bfloat16
		} {
			b.Run(name, func(b *testing.B) { timed(b, 0, op) })
		}
	})
}
