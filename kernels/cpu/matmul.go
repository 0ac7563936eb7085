package cpu

// #include "kernels.h"
import "C"

import (
	"fmt"
	"math"
	"unsafe"

	"rmtrain/kernels"
)

// MatMul computes out (+)= the product of a and b; see kernels.Trans.
func (b *backend) MatMul(out, x, y kernels.Tensor, mode kernels.Trans, accumulate bool) {
	g := b.operands(out, x, y, mode, accumulate)
	switch {
	case g.k == 0 && accumulate:
	case g.k == 0:
		b.clear(out)
	default:
		b.multiply(g, out, y, mode)
	}
}

// MatMulAdd computes out = residual + x·yᵀ; see kernels.ResidualAdder.
func (b *backend) MatMulAdd(out, residual, x, y kernels.Tensor) {
	g := b.operands(out, x, y, kernels.NT, false)
	if !matrix(residual, b.act, out.Rows(), out.Cols()) || out.Stride != 0 {
		panic(misfit("MatMulAdd", out, residual, x, y))
	}
	if g.k == 0 {
		b.clear(out)
		b.Add(out, residual, out)
		return
	}
	g.residual = ptr(residual)
	b.multiply(g, out, y, kernels.NT)
}

// multiply computes g, whose c is out and whose b is y.
func (b *backend) multiply(g C.gemm_args, out, y kernels.Tensor, mode kernels.Trans) {
	m, n := int(g.m), int(g.n)
	b.written(out)
	if m == 0 || n == 0 {
		return
	}
	g.kept = b.packed(y, mode, &g)
	if b.onTiles() {
		b.tileProduct(&g)
		return
	}
	rows := int(b.set.tile_rows)
	if mode == kernels.TN && !b.packRows(&g, rows) {
		return
	}
	most := m
	if out.DType == kernels.BF16 {
		most = maxRows
	}
	mc, nc := plan(m, n, most, rows, int(b.set.tile_cols), int(b.set.gemm_cols), vectorCosts)
	if b.dry { // fewer rows may be cut into larger tasks
		mc = (min(m, most) + rows - 1) / rows * rows
	}
	need := int(b.set.gemm_scratch)
	if out.DType == kernels.BF16 {
		need += mc * int(b.set.gemm_cols)
	}
	across := (n + nc - 1) / nc
	b.parallel(across*((m+mc-1)/mc), need, func(t int, scratch *C.float) {
		i, j := t/across*mc, t%across*nc
		C.run_gemm(b.set, &g, C.long(i), C.long(min(m, i+mc)), C.long(j), C.long(min(n, j+nc)), scratch)
	})
}

// operands checks the shapes and describes the product for C.
func (b *backend) operands(out, x, y kernels.Tensor, mode kernels.Trans, accumulate bool) C.gemm_args {
	m, n, k := out.Rows(), out.Cols(), x.Cols()
	ok := false
	switch mode {
	case kernels.NT:
		ok = columns(out, b.act, m, n) && columns(x, b.act, m, k) && matrix(y, b.act, n, k)
	case kernels.NN:
		ok = columns(out, b.act, m, n) && columns(x, b.act, m, k) && matrix(y, b.act, k, n)
	case kernels.TN:
		k = x.Rows()
		ok = columns(out, kernels.F32, m, n) && columns(x, b.act, k, m) && matrix(y, b.act, k, n)
	default:
		panic(fmt.Sprintf("cpu: MatMul: unknown mode %d", mode))
	}
	if !ok {
		panic(misfit("MatMul "+[...]string{"NT", "NN", "TN"}[mode], out, x, y))
	}
	stride := C.long(x.RowStride())
	g := C.gemm_args{c: columnsPtr(out), ldc: C.long(out.RowStride()), m: C.long(m), n: C.long(n), k: C.long(k)}
	g.a = C.mat{columnsPtr(x), stride, 1}
	g.b = C.mat{ptr(y), C.long(n), 1}
	if mode == kernels.NT {
		g.b.rs, g.b.cs = 1, C.long(k)
	}
	if mode == kernels.TN {
		g.a.rs, g.a.cs = 1, stride
	}
	if accumulate {
		g.accumulate = 1
	}
	if out.DType == kernels.F32 {
		g.c_float = 1
	}
	return g
}

// packRows replaces the transposed operand a by a copy in strips.
func (b *backend) packRows(g *C.gemm_args, rows int) bool {
	const run = 8 // strips that are written at a time, so that a line of a is read once
	strips := (int(g.m) + rows - 1) / rows
	if b.fail(b.strips.grow(strips * rows * int(g.k))); b.err != nil {
		return false
	}
	a, dst := g.a, cfloats(b.strips.floats())
	b.parallel((strips+run-1)/run, 0, func(i int, _ *C.float) {
		C.run_pack_rows(b.set, dst, a, g.m, g.k, C.long(run*i), C.long(min(strips, run*i+run)))
	})
	g.a.p, g.packed = unsafe.Pointer(dst), 1
	return true
}

// maxRows bounds the rows whose sums a task keeps, and rounds once.
const maxRows = 2048

// Costs of a task, in products of a row and a column: packing a column of b, and
// fetching a row of a (measured).
type costs struct{ packColumn, fetchRow int }

var vectorCosts = costs{30, 35}

// plan cuts c[m,n] into tasks of mc rows and nc columns, multiples of the tile's and
// at most (rounded up) mostRows and mostCols, which fit a core's cache, such that the
// goroutines finish together.
func plan(m, n, mostRows, rows, cols, mostCols int, cost costs) (mc, nc int) {
	best, p := math.MaxInt, threads()
	least := (m + mostRows - 1) / mostRows
	for split := least; split <= max(least, min(p, m/64)); split++ {
		r := ((m+split-1)/split + rows - 1) / rows * rows
		for c := cols; c <= mostCols && c < n+cols; c += cols {
			tasks := (m + r - 1) / r * ((n + c - 1) / c)
			if t := (tasks + p - 1) / p * (min(r, m)*min(c, n) + cost.packColumn*c + cost.fetchRow*r); t < best {
				best, mc, nc = t, r, c
			}
		}
	}
	return mc, nc
}
