//go:build nvidia

package cuda

import (
	"fmt"

	"rmtrain/kernels"
)

// A product is out[m,n] (+)= the sum over k of x and y, as mode says. Rows of out and x begin
// so many elements after the one before.
type product struct {
	mode         kernels.Trans
	m, n, k      int
	out, x, y    address
	outRow, xRow int
	in, result   kernels.DType
	accumulate   bool
}

// MatMul computes out (+)= the product of x and y; see kernels.Trans. cublasLt multiplies
// operands whose rows begin at multiples of 16 bytes, a kernel of ours the others.
func (b *backend) MatMul(out, x, y kernels.Tensor, mode kernels.Trans, accumulate bool) {
	p := b.product(out, x, y, mode, accumulate)
	switch {
	case p.m == 0 || p.n == 0 || p.k == 0 && accumulate:
	case p.k == 0:
		b.zero("MatMul", out)
	case p.aligned():
		b.do("MatMul", func() error { return b.lt.multiply(b.device, p) })
	default:
		b.do("MatMul", func() error { return b.multiply(p) })
	}
}

// product checks the shapes.
func (b *backend) product(out, x, y kernels.Tensor, mode kernels.Trans, accumulate bool) product {
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
		panic(fmt.Sprintf("cuda: MatMul: unknown mode %d", mode))
	}
	if !ok {
		panic(misfit("MatMul "+[...]string{"NT", "NN", "TN"}[mode], out, x, y))
	}
	return product{mode, m, n, k, b.columnsAddr(out), b.columnsAddr(x), b.addr(y), out.RowStride(), x.RowStride(), b.act, out.DType, accumulate}
}

// aligned reports whether all rows begin at multiples of 16 bytes. It does not depend on
// how many rows of an activation there are, nor on which of an aligned tensor's.
func (p product) aligned() bool {
	y := p.n
	if p.mode == kernels.NT {
		y = p.k
	}
	bytes := p.in.Size()
	return (p.out|p.x|p.y|address(p.xRow*bytes)|address(y*bytes)|address(p.outRow*p.result.Size()))%16 == 0
}

// multiply is the product by matmul.cu.
func (b *backend) multiply(p product) error {
	const tile = 32 // TILE of matmul.cu
	xi, xl, yj, yl := p.xRow, 1, p.k, 1
	switch p.mode {
	case kernels.NN:
		yj, yl = 1, p.n
	case kernels.TN:
		xi, xl, yj, yl = 1, p.xRow, 1, p.n
	}
	name := typed("matmul", p.in)
	if p.in != p.result {
		name += "_f32"
	}
	add := int32(0)
	if p.accumulate {
		add = 1
	}
	return b.launch(name, dim{up(p.m, tile), up(p.n, tile), 1}, line(64), 0, p.out, p.x, p.y, int32(p.m), int32(p.n), int32(p.k),
		int64(xi), int64(xl), int64(yj), int64(yl), int64(p.outRow), add)
}
