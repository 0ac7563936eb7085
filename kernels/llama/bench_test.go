package llama

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
)

// benchConfigs are the shapes of two models that people train: tinystories-656k
// and SmolLM-135M, the latter with fewer layers, as all cost the same.
var benchConfigs = map[string]Config{
	"tinystories": {Layers: 2, Hidden: 128, FFN: 384, Heads: 8, KVHeads: 4, HeadDim: 16, Vocab: 2048, MaxPositions: 2048, Eps: 1e-5, PadTokenID: -1, InvFreq: invFreq(1e4, 16)},
	"smollm":      {Layers: 3, Hidden: 576, FFN: 1536, Heads: 9, KVHeads: 3, HeadDim: 64, Vocab: 4096, MaxPositions: 2048, Eps: 1e-5, PadTokenID: -1, InvFreq: invFreq(1e5, 64)},
}

// BenchmarkStep runs passes over groups of 7 answers of 240 tokens behind a
// prompt of 320, on random weights.
func BenchmarkStep(b *testing.B) {
	for name, c := range benchConfigs {
		groups := 9
		if name == "smollm" {
			groups = 1
		}
		for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
			be, err := cpu.New(dt)
			if err != nil {
				b.Fatal(err)
			}
			m, r := newSeeded(b, be, c, Options{DType: dt, Train: true}), rand.New(rand.NewPCG(1, 2))
			shrink(b, m)
			batch := benchBatch(r, c.Vocab, groups)
			dscore := make([]float64, len(batch.Scored))
			for i := range dscore {
				dscore[i] = r.NormFloat64()
			}
			run := func(what string, op func() error) {
				b.Run(fmt.Sprintf("%s/%v/%s", name, dt, what), func(b *testing.B) {
					if err := op(); err != nil {
						b.Fatal(err)
					}
					b.ReportAllocs()
					start := cpuTime(b)
					for b.Loop() {
						if err := op(); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric((cpuTime(b)-start)/float64(b.N)*1e3, "core-ms/op")
					reportMemory(b, be.Used())
				})
			}
			run("forward", func() error {
				_, err := m.Forward(batch)
				return err
			})
			run("both", func() error {
				m.ZeroGrad()
				if _, err := m.Forward(batch); err != nil {
					return err
				}
				return m.Backward(dscore)
			})
			m.Close()
			be.Close()
		}
	}
}

// reportMemory tells what tensors take, and what operations need besides.
func reportMemory(b *testing.B, used map[string]int64) {
	b.Helper()
	tensors := -used[kernels.ScratchTag]
	for _, n := range used {
		tensors += n
	}
	b.ReportMetric(float64(tensors)/(1<<20), "tensors-MiB")
	b.ReportMetric(float64(used[kernels.ScratchTag])/(1<<20), "scratch-MiB")
}

// shrink makes the weights of matrices small, so that no gradient vanishes or explodes.
func shrink(b *testing.B, m *Model) {
	b.Helper()
	for _, p := range m.Params() {
		if !p.Decay {
			continue
		}
		v := download(m.b, p.Weight)
		for i := range v {
			v[i] *= .1
		}
		m.b.Upload(p.Weight, encode(v, p.Weight.DType))
	}
}

func benchBatch(r *rand.Rand, vocab, groups int) *data.Batch {
	var gs []data.Group
	for range groups {
		var g data.Group
		prompt := make([]int32, 320)
		for i := range prompt {
			prompt[i] = int32(r.IntN(vocab))
		}
		for range 7 {
			tokens := append([]int32(nil), prompt...)
			for range 240 {
				tokens = append(tokens, int32(r.IntN(vocab)))
			}
			g.Answers = append(g.Answers, data.Answer{Tokens: tokens})
		}
		gs = append(gs, g)
	}
	return data.Pack(gs, true)
}

// cpuTime returns the seconds that all cores spent on this process, which
// neighbours on a busy machine distort less than the time that passed.
func cpuTime(tb testing.TB) float64 {
	tb.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
