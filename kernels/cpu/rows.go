package cpu

// #include "kernels.h"
import "C"

import "rmtrain/kernels"

const rowUnit = 8 // rows that are not cut

// RMSNorm normalizes rows; see kernels.Ops.
func (b *backend) RMSNorm(out, rstd, x, w kernels.Tensor, eps float64) {
	n, cols := x.Rows(), x.Cols()
	if !matrix(out, b.act, n, cols) || !vector(rstd, kernels.F32, n) || !matrix(x, b.act, n, cols) || !vector(w, b.act, cols) {
		panic(misfit("RMSNorm", out, rstd, x, w))
	}
	b.written(out, rstd)
	rs := float32s(rstd)
	b.runs(n, rowUnit, func(lo, hi int) {
		C.run_rmsnorm(b.set, rowPtr(out, lo), cfloats(rs[lo:]), rowPtr(x, lo), ptr(w), C.long(hi-lo), C.long(cols), C.float(eps))
	})
}

// RMSNormBack adds to dx and dw. Each run of rows sums a dw of its own; these are
// added up in order.
func (b *backend) RMSNormBack(dx, dw, dout, x, w, rstd kernels.Tensor) {
	n, cols := x.Rows(), x.Cols()
	if !matrix(dx, b.act, n, cols) || !vector(dw, kernels.F32, cols) || !matrix(dout, b.act, n, cols) ||
		!matrix(x, b.act, n, cols) || !vector(w, b.act, cols) || !vector(rstd, kernels.F32, n) {
		panic(misfit("RMSNormBack", dx, dw, dout, x, w, rstd))
	}
	b.written(dx, dw)
	const run = 128
	count := (n + run - 1) / run
	if b.fail(b.parts.grow(count * cols)); b.err != nil || n == 0 {
		return
	}
	parts, rs := b.parts.floats(), float32s(rstd)
	b.parallel(count, 0, func(i int, _ *C.float) {
		lo, hi := i*run, min(n, (i+1)*run)
		part := parts[i*cols:][:cols]
		clear(part)
		C.run_rmsnorm_back(b.set, rowPtr(dx, lo), cfloats(part), rowPtr(dout, lo), rowPtr(x, lo), ptr(w), cfloats(rs[lo:]), C.long(hi-lo), C.long(cols))
	})
	b.runs(cols, columnUnit, func(lo, hi int) {
		C.run_sum_parts(b.set, floats(dw), cfloats(parts), C.long(count), C.long(cols), C.long(lo), C.long(hi))
	})
}

// SwiGLU computes silu(gate)*up; see kernels.Ops.
func (b *backend) SwiGLU(out, gateUp kernels.Tensor) {
	n, cols := out.Rows(), out.Cols()
	if !matrix(out, b.act, n, cols) || !matrix(gateUp, b.act, n, 2*cols) {
		panic(misfit("SwiGLU", out, gateUp))
	}
	b.written(out)
	b.runs(n, rowUnit, func(lo, hi int) {
		C.run_swiglu(b.set, rowPtr(out, lo), rowPtr(gateUp, lo), C.long(hi-lo), C.long(cols))
	})
}

// SwiGLUBack overwrites dgateUp; see kernels.Ops.
func (b *backend) SwiGLUBack(dgateUp, dout, gateUp kernels.Tensor) {
	n, cols := dout.Rows(), dout.Cols()
	if !matrix(dgateUp, b.act, n, 2*cols) || !matrix(dout, b.act, n, cols) || !matrix(gateUp, b.act, n, 2*cols) {
		panic(misfit("SwiGLUBack", dgateUp, dout, gateUp))
	}
	b.written(dgateUp)
	b.runs(n, rowUnit, func(lo, hi int) {
		C.run_swiglu_back(b.set, rowPtr(dgateUp, lo), rowPtr(dout, lo), rowPtr(gateUp, lo), C.long(hi-lo), C.long(cols))
	})
}

// RoPE rotates the queries and keys of qkv; see kernels.Ops.
func (b *backend) RoPE(qkv, pos, table kernels.Tensor, h kernels.Heads, inverse bool) {
	n := qkv.Rows()
	if h.Dim <= 0 || h.Dim%2 != 0 || !matrix(qkv, b.act, n, h.QKV()) || !vector(pos, kernels.I32, n) ||
		!matrix(table, kernels.F32, table.Rows(), h.Dim) {
		panic(misfit("RoPE", qkv, pos, table))
	}
	b.written(qkv)
	positions := indices("RoPE", "position", pos, table.Rows())
	inv := C.int(0)
	if inverse {
		inv = 1
	}
	b.runs(n, rowUnit, func(lo, hi int) {
		C.run_rope(b.set, rowPtr(qkv, lo), C.long(h.QKV()), ints(positions[lo:]), floats(table), C.long(hi-lo), C.long(h.Q+h.KV), C.long(h.Dim), inv)
	})
}

// AddBias adds bias to every row of x.
func (b *backend) AddBias(x, bias kernels.Tensor) {
	n, cols := x.Rows(), x.Cols()
	if !matrix(x, b.act, n, cols) || !vector(bias, b.act, cols) {
		panic(misfit("AddBias", x, bias))
	}
	b.written(x)
	b.runs(n, rowUnit, func(lo, hi int) {
		C.run_add_bias(b.set, rowPtr(x, lo), ptr(bias), C.long(hi-lo), C.long(cols))
	})
}
