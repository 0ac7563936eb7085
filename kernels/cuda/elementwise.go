//go:build nvidia

package cuda

import (
	"fmt"
	"math"

	"rmtrain/kernels"
)

// Zero clears x.
func (b *backend) Zero(x kernels.Tensor) {
	at := b.addr(x)
	b.do("Zero", func() error { return b.clear(at, x.Bytes()) })
}

// zero is Zero of what may be columns of a tensor, as part of an operation.
func (b *backend) zero(op string, x kernels.Tensor) {
	at, size := b.columnsAddr(x), x.DType.Size()
	b.do(op, func() error { return b.clearRows(at, x.Rows(), x.Cols()*size, x.RowStride()*size) })
}

// Add computes out = x + y.
func (b *backend) Add(out, x, y kernels.Tensor) {
	if out.DType != b.act || x.DType != b.act || y.DType != b.act || out.Shape != x.Shape || out.Shape != y.Shape {
		panic(misfit("Add", out, x, y))
	}
	n, o, p, q := out.Len(), b.addr(out), b.addr(x), b.addr(y)
	b.run("Add", typed("add", b.act), flat(n), line(256), o, p, q, int64(n), aligned(n, o, p, q))
}

// flat is the grid of blocks of 256 threads over n elements.
func flat(n int) dim { return dim{up(n, 256*pack), 1, 1} }

// rowsAndColumns is the grid of blocks of 256 threads over the packs of each row.
func rowsAndColumns(rows, cols int) dim { return dim{rows, up(cols, 256*pack), 1} }

// SwiGLU computes silu(gate)*up; see kernels.Ops.
func (b *backend) SwiGLU(out, gateUp kernels.Tensor) {
	n, cols := out.Rows(), out.Cols()
	if !matrix(out, b.act, n, cols) || !matrix(gateUp, b.act, n, 2*cols) {
		panic(misfit("SwiGLU", out, gateUp))
	}
	o, g := b.addr(out), b.addr(gateUp)
	b.run("SwiGLU", typed("swiglu", b.act), rowsAndColumns(n, cols), line(256), o, g, int32(cols), aligned(cols, o, g))
}

// SwiGLUBack overwrites dgateUp; see kernels.Ops.
func (b *backend) SwiGLUBack(dgateUp, dout, gateUp kernels.Tensor) {
	n, cols := dout.Rows(), dout.Cols()
	if !matrix(dgateUp, b.act, n, 2*cols) || !matrix(dout, b.act, n, cols) || !matrix(gateUp, b.act, n, 2*cols) {
		panic(misfit("SwiGLUBack", dgateUp, dout, gateUp))
	}
	o, d, g := b.addr(dgateUp), b.addr(dout), b.addr(gateUp)
	b.run("SwiGLUBack", typed("swiglu_back", b.act), rowsAndColumns(n, cols), line(256), o, d, g, int32(cols), aligned(cols, o, d, g))
}

// RoPE rotates the queries and keys of qkv; see kernels.Ops.
func (b *backend) RoPE(qkv, pos, table kernels.Tensor, h kernels.Heads, inverse bool) {
	n := qkv.Rows()
	if h.Dim <= 0 || h.Dim%2 != 0 || !matrix(qkv, b.act, n, h.QKV()) || !vector(pos, kernels.I32, n) ||
		!matrix(table, kernels.F32, table.Rows(), h.Dim) {
		panic(misfit("RoPE", qkv, pos, table))
	}
	sign := float32(1)
	if inverse {
		sign = -1
	}
	x, p, t := b.addr(qkv), b.addr(pos), b.addr(table)
	b.asked = true
	b.run("RoPE", typed("rope", b.act), dim{n, 1, 1}, line(256), x, p, t, b.fault.at, faultRoPE, int32(table.Rows()),
		int32(h.QKV()), int32(h.Q+h.KV), int32(h.Dim), sign, aligned(h.Dim/2, x, t))
}

// sumChunk is CHUNK of sumsq.cu, the elements whose squares one block adds up.
const sumChunk = 8192

// SumSq adds the sum of the squares of x to out, in runs of fixed length.
func (b *backend) SumSq(out, x kernels.Tensor) {
	if !vector(out, kernels.F64, 1) || (x.DType != kernels.F32 && x.DType != kernels.BF16) {
		panic(misfit("SumSq", out, x))
	}
	n, o, p := x.Len(), b.addr(out), b.addr(x)
	count := up(n, sumChunk)
	b.do("SumSq", func() error {
		if err := b.grow(&b.parts, 8*count); err != nil || n == 0 {
			return err
		}
		if err := b.launch(typed("sum_squares", x.DType), dim{count, 1, 1}, line(256), 0, b.parts.at, p, int64(n), aligned(n, p)); err != nil {
			return err
		}
		return b.launch("sum_partial", dim{1, 1, 1}, line(256), 0, o, b.parts.at, int32(count))
	})
}

// AdamW makes one step of the optimizer; see kernels.AdamW.
func (b *backend) AdamW(a kernels.AdamW) {
	n := a.Param.Len()
	master := a.Master
	ok := a.Param.DType == b.act && (b.act == kernels.BF16 || !a.Stochastic)
	if b.act == kernels.F32 || a.Stochastic {
		ok = ok && master.Buf == nil
		master = a.Param
	}
	wide := []kernels.Tensor{a.M, a.V, a.Grad}
	if !a.Stochastic {
		wide = append(wide, master)
	}
	for _, t := range wide {
		ok = ok && t.DType == kernels.F32 && t.Len() == n
	}
	if !ok {
		panic(misfit("AdamW", a.Param, a.Master, a.M, a.V, a.Grad))
	}
	if a.Step < 1 {
		panic(fmt.Sprintf("cuda: AdamW: step %d, the first is 1", a.Step))
	}
	p, w, m, v, g := b.addr(a.Param), b.addr(master), b.addr(a.M), b.addr(a.V), b.addr(a.Grad)
	correction1 := 1 - math.Pow(a.Beta1, float64(a.Step))
	correction2 := 1 - math.Pow(a.Beta2, float64(a.Step))
	hyper := []any{float32(a.LR / correction1), float32(a.Beta1), float32(1 - a.Beta1), float32(a.Beta2), float32(1 - a.Beta2),
		float32(1 / math.Sqrt(correction2)), float32(a.Eps), float32(1 - a.LR*a.WeightDecay), float32(a.GradScale),
		aligned(n, p, w, m, v, g)}
	grid := dim{up(n, 256*quad), 1, 1}
	if a.Stochastic {
		d := kernels.NewDither(a.Seed, a.Step)
		b.run("AdamW", typed("adamw_stochastic", b.act), grid, line(256), append([]any{p, m, v, g, int64(n), d.Low, d.High}, hyper...)...)
		return
	}
	b.run("AdamW", typed("adamw", b.act), grid, line(256), append([]any{p, w, m, v, g, int64(n)}, hyper...)...)
}
