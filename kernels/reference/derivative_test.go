package reference_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/reference"
)

func upload(b kernels.Backend, t kernels.Tensor, v []float64) {
	var mem []byte
	for _, x := range v {
		mem = binary.LittleEndian.AppendUint64(mem, math.Float64bits(x))
	}
	b.Upload(t, mem)
}

func uploadInts(b kernels.Backend, t kernels.Tensor, v []int32) {
	var mem []byte
	for _, x := range v {
		mem = binary.LittleEndian.AppendUint32(mem, uint32(x))
	}
	b.Upload(t, mem)
}

func download(b kernels.Backend, t kernels.Tensor) []float64 {
	mem := make([]byte, t.Bytes())
	b.Download(mem, t)
	v := make([]float64, t.Len())
	for i := range v {
		v[i] = math.Float64frombits(binary.LittleEndian.Uint64(mem[8*i:]))
	}
	return v
}

// alloc returns a float64 tensor of v, or of zeros.
func alloc(t *testing.T, b kernels.Backend, v []float64, shape ...int) kernels.Tensor {
	t.Helper()
	x, err := b.Alloc("test", kernels.F64, shape...)
	if err != nil {
		t.Fatal(err)
	}
	if v != nil {
		upload(b, x, v)
	}
	return x
}

func allocInts(t *testing.T, b kernels.Backend, v ...int32) kernels.Tensor {
	t.Helper()
	x, err := b.Alloc("test", kernels.I32, len(v))
	if err != nil {
		t.Fatal(err)
	}
	uploadInts(b, x, v)
	return x
}

// A function of several tensors, and its derivative: back fills din with the
// gradients of sum(dout*out).
type differentiable struct {
	name    string
	in      [][]int
	out     []int
	forward func(b kernels.Backend, out kernels.Tensor, in []kernels.Tensor)
	back    func(b kernels.Backend, din []kernels.Tensor, dout, out kernels.Tensor, in []kernels.Tensor)
}

func functions(t *testing.T, b kernels.Backend) []differentiable {
	rstd, lse := alloc(t, b, nil, 3), alloc(t, b, nil, 9, 4)
	ids, rows := allocInts(t, b, 4, 0, 4), allocInts(t, b, 2, 0)
	heads := kernels.Heads{Q: 4, KV: 2, Dim: 4}
	windowed := heads
	windowed.Window = 3
	segs := []kernels.Segment{{Lo: 0, Hi: 3}, {PrefixLo: 0, PrefixHi: 3, Lo: 3, Hi: 5}, {PrefixLo: 0, PrefixHi: 3, Lo: 5, Hi: 8}, {Lo: 8, Hi: 9}}
	pos, table := allocInts(t, b, 1, 0), alloc(t, b, []float64{1, 1, 0, 0, .6, math.Cos(.3), .8, math.Sin(.3)}, 2, 4)
	attention := func(name string, h kernels.Heads) differentiable {
		return differentiable{name, [][]int{{9, h.QKV()}}, []int{9, 16},
			func(b kernels.Backend, out kernels.Tensor, in []kernels.Tensor) {
				b.Attention(out, lse, in[0], segs, h)
			},
			func(b kernels.Backend, din []kernels.Tensor, dout, out kernels.Tensor, in []kernels.Tensor) {
				b.AttentionBack(din[0], dout, out, lse, in[0], segs, h)
			}}
	}
	return []differentiable{
		{"AddBias", [][]int{{3, 5}, {5}}, []int{3, 5},
			func(b kernels.Backend, out kernels.Tensor, in []kernels.Tensor) {
				b.Zero(out)
				b.Add(out, out, in[0])
				b.AddBias(out, in[1])
			},
			func(b kernels.Backend, din []kernels.Tensor, dout, _ kernels.Tensor, in []kernels.Tensor) {
				b.Add(din[0], din[0], dout)
				b.AddBiasBack(din[1], dout)
			}},
		{"Embed", [][]int{{5, 2}}, []int{3, 2},
			func(b kernels.Backend, out kernels.Tensor, in []kernels.Tensor) { b.Embed(out, in[0], ids) },
			func(b kernels.Backend, din []kernels.Tensor, dout, _ kernels.Tensor, in []kernels.Tensor) {
				b.EmbedBack(din[0], dout, ids, -1)
			}},
		{"RMSNorm", [][]int{{3, 5}, {5}}, []int{3, 5},
			func(b kernels.Backend, out kernels.Tensor, in []kernels.Tensor) {
				b.RMSNorm(out, rstd, in[0], in[1], .1)
			},
			func(b kernels.Backend, din []kernels.Tensor, dout, _ kernels.Tensor, in []kernels.Tensor) {
				b.RMSNormBack(din[0], din[1], dout, in[0], in[1], rstd)
			}},
		{"MatMul", [][]int{{3, 5}, {4, 5}}, []int{3, 4},
			func(b kernels.Backend, out kernels.Tensor, in []kernels.Tensor) {
				b.MatMul(out, in[0], in[1], kernels.NT, false)
			},
			func(b kernels.Backend, din []kernels.Tensor, dout, _ kernels.Tensor, in []kernels.Tensor) {
				b.MatMul(din[0], dout, in[1], kernels.NN, false)
				b.MatMul(din[1], dout, in[0], kernels.TN, true)
			}},
		{"RoPE", [][]int{{2, 32}}, []int{2, 32},
			func(b kernels.Backend, out kernels.Tensor, in []kernels.Tensor) {
				b.Zero(out)
				b.Add(out, out, in[0])
				b.RoPE(out, pos, table, heads, false)
			},
			func(b kernels.Backend, din []kernels.Tensor, dout, _ kernels.Tensor, in []kernels.Tensor) {
				b.Add(din[0], din[0], dout)
				b.RoPE(din[0], pos, table, heads, true)
			}},
		attention("Attention", heads),
		attention("Attention with a window", windowed),
		{"SwiGLU", [][]int{{3, 8}}, []int{3, 4},
			func(b kernels.Backend, out kernels.Tensor, in []kernels.Tensor) { b.SwiGLU(out, in[0]) },
			func(b kernels.Backend, din []kernels.Tensor, dout, _ kernels.Tensor, in []kernels.Tensor) {
				b.SwiGLUBack(din[0], dout, in[0])
			}},
		{"ValueHead", [][]int{{3, 5}, {5}}, []int{2},
			func(b kernels.Backend, out kernels.Tensor, in []kernels.Tensor) { b.ValueHead(out, in[0], rows, in[1]) },
			func(b kernels.Backend, din []kernels.Tensor, dout, _ kernels.Tensor, in []kernels.Tensor) {
				b.ValueHeadBack(din[0], din[1], dout, in[0], rows, in[1])
			}},
	}
}

// Central differences of step 1e-4 in float64 are exact to about 1e-8.
const step, differenceError = 1e-4, 1e-7

func TestBackIsTheDerivative(t *testing.T) {
	b := reference.New(kernels.F64)
	for _, f := range functions(t, b) {
		t.Run(f.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			random := func(shape []int) kernels.Tensor {
				x := alloc(t, b, nil, shape...)
				v := make([]float64, x.Len())
				for i := range v {
					v[i] = r.NormFloat64()
				}
				upload(b, x, v)
				return x
			}
			var in, din []kernels.Tensor
			for _, s := range f.in {
				in, din = append(in, random(s)), append(din, alloc(t, b, nil, s...))
			}
			out, dout := alloc(t, b, nil, f.out...), random(f.out)
			weights := download(b, dout)
			objective := func() (sum float64) {
				f.forward(b, out, in)
				for i, y := range download(b, out) {
					sum += weights[i] * y
				}
				return sum
			}
			objective()
			f.back(b, din, dout, out, in)
			for i := range in {
				v, got := download(b, in[i]), download(b, din[i])
				for j, x := range v {
					v[j] = x + step
					upload(b, in[i], v)
					more := objective()
					v[j] = x - step
					upload(b, in[i], v)
					less := objective()
					v[j] = x
					upload(b, in[i], v)
					if want := (more - less) / (2 * step); math.Abs(got[j]-want) > differenceError*(1+math.Abs(want)) {
						t.Errorf("input %d, element %d: gradient %g, difference %g", i, j, got[j], want)
					}
				}
			}
		})
	}
}
