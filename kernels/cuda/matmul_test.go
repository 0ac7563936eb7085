//go:build nvidia

package cuda

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/reference"
)

var modes = []kernels.Trans{kernels.NT, kernels.NN, kernels.TN}

// A multiplier is what both backends of the tests below have.
type multiplier interface {
	kernels.Memory
	MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool)
}

// operandShapes returns the shapes of out [m,n] and of the operands.
func operandShapes(mode kernels.Trans, m, n, k int) [3][2]int {
	return [...][3][2]int{
		kernels.NT: {{m, n}, {m, k}, {n, k}},
		kernels.NN: {{m, n}, {m, k}, {k, n}},
		kernels.TN: {{m, n}, {k, m}, {k, n}},
	}[mode]
}

// outType is the type of out.
func outType(mode kernels.Trans, dt kernels.DType) kernels.DType {
	if mode == kernels.TN {
		return dt.Stat()
	}
	return dt
}

// encode returns v as dt holds it, which must be exact for BF16.
func encode(dt kernels.DType, v []float32) []byte {
	mem := make([]byte, 0, len(v)*dt.Size())
	for _, x := range v {
		if dt == kernels.BF16 {
			mem = binary.LittleEndian.AppendUint16(mem, uint16(math.Float32bits(x)>>16))
		} else {
			mem = binary.LittleEndian.AppendUint32(mem, math.Float32bits(x))
		}
	}
	return mem
}

func upload(t testing.TB, b kernels.Memory, dt kernels.DType, rows, cols int, mem []byte) kernels.Tensor {
	t.Helper()
	x, err := b.Alloc("test", dt, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	b.Upload(x, mem)
	return x
}

func bits(t testing.TB, b kernels.Memory, x kernels.Tensor) []byte {
	t.Helper()
	mem := make([]byte, x.Bytes())
	b.Download(mem, x)
	if err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	return mem
}

// multiplied returns the bytes of out after a product of the given operands, of which that
// of out and a leaves out the first columns, so many.
func multiplied(t testing.TB, b multiplier, dt kernels.DType, mode kernels.Trans, shapes [3][2]int, mem [3][]byte, accumulate bool, leave int) []byte {
	t.Helper()
	types := [3]kernels.DType{outType(mode, dt), dt, dt}
	var x [3]kernels.Tensor
	for i := range x {
		x[i] = upload(t, b, types[i], shapes[i][0], shapes[i][1], mem[i])
		defer b.Free(x[i])
	}
	b.MatMul(x[0].Columns(leave, shapes[0][1]), x[1].Columns(leave, shapes[1][1]), x[2], mode, accumulate)
	return bits(t, b, x[0])
}

// Small integers have exact products and sums, whatever their order and type: cublasLt, our
// kernel and the reference must agree to the bit. The sizes are all different, so that no
// two can be mistaken for each other.
func TestMatMulOfIntegersIsExact(t *testing.T) {
	for _, dt := range types {
		b := newBackend(t, dt)
		for _, s := range [][3]int{{8, 16, 24}, {1, 40, 48}, {72, 8, 32}, {40, 24, 16}, {7, 32, 40}, {9, 5, 3}} {
			for _, mode := range modes {
				for _, how := range []struct {
					accumulate bool
					leave      int // columns: as many as let cublasLt take the rest, and too few
				}{{false, 0}, {true, 0}, {false, 8}, {true, 8}, {true, 3}} {
					shapes := operandShapes(mode, s[0], s[1], s[2])
					shapes[0][1] += how.leave
					shapes[1][1] += how.leave
					var mem [3][]byte
					r := rand.New(rand.NewPCG(1, uint64(mode)))
					for i, shape := range shapes {
						v := make([]float32, shape[0]*shape[1])
						for j := range v {
							v[j] = float32(r.IntN(5) - 2)
						}
						mem[i] = encode([]kernels.DType{outType(mode, dt), dt, dt}[i], v)
					}
					got := multiplied(t, b, dt, mode, shapes, mem, how.accumulate, how.leave)
					want := multiplied(t, reference.New(dt), dt, mode, shapes, mem, how.accumulate, how.leave)
					if !bytes.Equal(got, want) {
						t.Errorf("%v, mode %d, %v, %+v: other bits than the reference", dt, mode, s, how)
					}
				}
			}
		}
	}
}

func random(r *rand.Rand, dt kernels.DType, n int) []byte {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return encode(dt, v)
}

// TestMatMulRowsAlone compares products of few rows with the same rows of a large product.
func TestMatMulRowsAlone(t *testing.T) {
	for _, dt := range types {
		b := newBackend(t, dt)
		const m, n, k = 200, 48, 72
		for _, mode := range []kernels.Trans{kernels.NT, kernels.NN} {
			r := rand.New(rand.NewPCG(2, uint64(mode)))
			shapes := operandShapes(mode, m, n, k)
			mem := [3][]byte{random(r, dt, m*n), random(r, dt, m*k), random(r, dt, n*k)}
			all := multiplied(t, b, dt, mode, shapes, mem, false, 0)
			for _, run := range [][2]int{{0, 1}, {3, 17}, {m - 1, m}, {64, 192}} {
				lo, hi := run[0], run[1]
				out, row := n*dt.Size(), k*dt.Size()
				part := [3][]byte{mem[0][:(hi-lo)*out], mem[1][lo*row : hi*row], mem[2]}
				got := multiplied(t, b, dt, mode, operandShapes(mode, hi-lo, n, k), part, false, 0)
				if !bytes.Equal(got, all[lo*out:hi*out]) {
					t.Errorf("%v, mode %d: rows %v differ when alone", dt, mode, run)
				}
			}
		}
	}
}

// The tokens of a batch must not choose the algorithm.
func TestProductsOfOneWeightShareAnAlgorithm(t *testing.T) {
	b := newBackend(t, kernels.BF16)
	for _, tokens := range []int{1, 8, 300} {
		for _, mode := range modes {
			m, n, k := tokens, 16, 24
			if mode == kernels.TN {
				m, k = 24, tokens
			}
			shapes := operandShapes(mode, m, n, k)
			var mem [3][]byte
			for i, s := range shapes {
				mem[i] = make([]byte, s[0]*s[1]*[]kernels.DType{outType(mode, b.act), b.act, b.act}[i].Size())
			}
			multiplied(t, b, b.act, mode, shapes, mem, true, 0)
		}
	}
	if got := len(b.lt.families); got != len(modes) {
		t.Errorf("3 batch sizes and %d modes have %d families", len(modes), got)
	}
}

func TestAlignedProducts(t *testing.T) {
	for _, c := range []struct {
		p    product
		want bool
	}{
		{product{mode: kernels.NT, m: 5, n: 8, k: 16, in: kernels.BF16, result: kernels.BF16}, true},
		{product{mode: kernels.NT, m: 5, n: 8, k: 12, in: kernels.BF16, result: kernels.BF16}, false},
		{product{mode: kernels.NT, m: 5, n: 4, k: 12, in: kernels.F32, result: kernels.F32}, true},
		{product{mode: kernels.NN, m: 5, n: 12, k: 16, in: kernels.BF16, result: kernels.BF16}, false},
		{product{mode: kernels.NN, m: 5, n: 24, k: 16, in: kernels.BF16, result: kernels.BF16}, true},
		{product{mode: kernels.TN, m: 8, n: 16, k: 5, in: kernels.BF16, result: kernels.F32}, true},
		{product{mode: kernels.TN, m: 4, n: 16, k: 8, in: kernels.BF16, result: kernels.F32}, false},
		{product{mode: kernels.NT, m: 5, n: 8, k: 16, in: kernels.BF16, result: kernels.BF16, x: 8}, false},
		{product{mode: kernels.NT, m: 5, n: 8, k: 16, in: kernels.BF16, result: kernels.BF16, out: 2}, false},
		{product{mode: kernels.NT, m: 5, n: 8, k: 16, in: kernels.BF16, result: kernels.BF16, xRow: 24, outRow: 32}, true},
		{product{mode: kernels.NT, m: 5, n: 8, k: 16, in: kernels.BF16, result: kernels.BF16, xRow: 20}, false},
		{product{mode: kernels.TN, m: 8, n: 16, k: 5, in: kernels.BF16, result: kernels.F32, outRow: 18}, false},
	} {
		x := c.p.k
		if c.p.mode == kernels.TN {
			x = c.p.m
		}
		c.p.xRow, c.p.outRow = cmp.Or(c.p.xRow, x), cmp.Or(c.p.outRow, c.p.n)
		if got := c.p.aligned(); got != c.want {
			t.Errorf("%+v: aligned is %v", c.p, got)
		}
	}
}
