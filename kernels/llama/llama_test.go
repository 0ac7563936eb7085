package llama

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
	"rmtrain/kernels/reference"
)

// full has everything that a configuration can switch on.
var full = Config{
	Layers: 3, Hidden: 16, FFN: 20, Heads: 4, KVHeads: 2, HeadDim: 6, Vocab: 23, MaxPositions: 64, Eps: 1e-5,
	PadTokenID: 3, Window: 5, QKVBias: true, OutBias: true, MLPBias: true, InvFreq: []float32{1, 0.1, 0.01},
}

// plain has nothing of that.
var plain = Config{
	Layers: 2, Hidden: 16, FFN: 24, Heads: 4, KVHeads: 4, HeadDim: 4, Vocab: 23, MaxPositions: 64, Eps: 1e-6,
	PadTokenID: -1, InvFreq: []float32{1, 0.01},
}

func newSeeded(t testing.TB, b kernels.Backend, c Config, o Options) *Model {
	t.Helper()
	m, err := New(b, c, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Load(seeded(7)); err != nil {
		t.Fatal(err)
	}
	return m
}

// seeded returns a reader of random weights: vectors around 1, matrices around 0,
// the same numbers for every element type.
func seeded(seed uint64) func(string, kernels.DType, []int, []byte) error {
	return func(name string, dt kernels.DType, shape []int, dst []byte) error {
		h := seed
		for _, c := range name {
			h = h*31 + uint64(c)
		}
		r := rand.New(rand.NewPCG(h, 1))
		v := make([]float64, len(dst)/dt.Size())
		for i := range v {
			v[i] = float64(float32(r.NormFloat64() * 0.3))
			if strings.Contains(name, "norm") {
				v[i]++
			}
		}
		copy(dst, encode(v, dt))
		return nil
	}
}

func encode(v []float64, dt kernels.DType) []byte {
	var out []byte
	for _, x := range v {
		switch dt {
		case kernels.F64:
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(x))
		case kernels.F32:
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(float32(x)))
		case kernels.BF16: // nearest, ties to even
			u := math.Float32bits(float32(x))
			out = binary.LittleEndian.AppendUint16(out, uint16((u+0x7fff+u>>16&1)>>16))
		}
	}
	return out
}

func download(b kernels.Backend, t kernels.Tensor) []float64 {
	raw := make([]byte, t.Bytes())
	b.Download(raw, t)
	out := make([]float64, t.Len())
	for i := range out {
		switch t.DType {
		case kernels.F64:
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
		case kernels.F32:
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
		case kernels.BF16:
			out[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16))
		}
	}
	return out
}

// groups are two prompts with answers of different lengths, pad tokens inside.
func groups(c Config) []data.Group {
	r := rand.New(rand.NewPCG(3, 9))
	ids := func(n int) []int32 {
		s := make([]int32, n)
		for i := range s {
			s[i] = r.Int32N(int32(c.Vocab))
		}
		return s
	}
	group := func(prompt, answers int) data.Group {
		p, g := append(ids(prompt-1), 3), data.Group{}
		for k := range answers {
			g.Answers = append(g.Answers, data.Answer{Tokens: append(slices.Clone(p), ids(1+r.IntN(6))...), Rank: float64(k)})
		}
		return g
	}
	return []data.Group{group(5, 4), group(8, 3)}
}

// objective is a smooth function of the scores and its gradient.
func objective(scores []float64) (float64, []float64) {
	total, d := 0.0, make([]float64, len(scores))
	for i, s := range scores {
		total += math.Sin(s + float64(i))
		d[i] = math.Cos(s + float64(i))
	}
	return total, d
}

func forward(t testing.TB, m *Model, batch *data.Batch) []float64 {
	t.Helper()
	s, err := m.Forward(batch)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// gradients returns the scores of batch and every parameter's gradient by name.
func gradients(t testing.TB, b kernels.Backend, m *Model, batch *data.Batch) ([]float64, map[string][]float64) {
	t.Helper()
	scores := forward(t, m, batch)
	_, d := objective(scores)
	m.ZeroGrad()
	if err := m.Backward(d); err != nil {
		t.Fatal(err)
	}
	out := map[string][]float64{}
	for _, p := range m.Params() {
		if p.Grad.Buf != nil {
			out[p.Name] = download(b, p.Grad)
		}
	}
	return scores, out
}

// relative is the norm of x-y in units of the norm of y.
func relative(x, y []float64) float64 {
	var d, n float64
	for i := range y {
		d += (x[i] - y[i]) * (x[i] - y[i])
		n += y[i] * y[i]
	}
	return math.Sqrt(d / (n + 1e-300))
}

func TestGradientsMatchFiniteDifferences(t *testing.T) {
	for name, c := range map[string]Config{"full": full, "plain": plain} {
		t.Run(name, func(t *testing.T) {
			b := reference.New(kernels.F64)
			c.PadTokenID = -1 // its gradient is held back on purpose
			m := newSeeded(t, b, c, Options{DType: kernels.F64, MaxRows: 64, MaxAnswers: 8, Train: true})
			batch := data.Pack(groups(c), true)
			_, grads := gradients(t, b, m, batch)
			r := rand.New(rand.NewPCG(1, 1))
			for _, p := range m.Params() {
				w, g := download(b, p.Weight), grads[p.Name]
				for range 4 {
					j := r.IntN(len(w))
					if p.Name == "model.embed_tokens.weight" { // a row that the batch has
						j = int(batch.Tokens[r.IntN(len(batch.Tokens))])*c.Hidden + r.IntN(c.Hidden)
					}
					const h = 1e-5
					at := func(x float64) float64 {
						v := slices.Clone(w)
						v[j] += x
						b.Upload(p.Weight, encode(v, kernels.F64))
						total, _ := objective(forward(t, m, batch))
						return total
					}
					want := (at(h) - at(-h)) / (2 * h)
					if e := math.Abs(g[j]-want) / max(1e-2, math.Abs(want)); e > 1e-6 {
						t.Errorf("%s[%d] = %.10g, finite differences say %.10g", p.Name, j, g[j], want)
					}
				}
				b.Upload(p.Weight, encode(w, kernels.F64))
			}
		})
	}
}

// backends returns every backend that computes in dt.
func backends(t testing.TB, dt kernels.DType) []kernels.Backend {
	t.Helper()
	out := []kernels.Backend{reference.New(dt)}
	if dt == kernels.F64 {
		return out
	}
	b, err := cpu.New(dt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	out = append(out, b)
	if gpu != nil {
		out = append(out, gpu(t, dt)...)
	}
	return out
}

// gpu returns the GPU's backends; cuda_test.go sets it where it is built.
var gpu func(t testing.TB, dt kernels.DType) []kernels.Backend
