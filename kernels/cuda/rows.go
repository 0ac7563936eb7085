//go:build nvidia

package cuda

import "rmtrain/kernels"

// partRows is how many rows of a weight's gradient are added up to one part. The parts are
// then added in order.
const partRows = 64

// RMSNorm normalizes rows; see kernels.Ops.
func (b *backend) RMSNorm(out, rstd, x, w kernels.Tensor, eps float64) {
	n, cols := x.Rows(), x.Cols()
	if !matrix(out, b.act, n, cols) || !vector(rstd, kernels.F32, n) || !matrix(x, b.act, n, cols) || !vector(w, b.act, cols) {
		panic(misfit("RMSNorm", out, rstd, x, w))
	}
	o, r, p, g := b.addr(out), b.addr(rstd), b.addr(x), b.addr(w)
	b.run("RMSNorm", typed("rmsnorm", b.act), dim{n, 1, 1}, rowBlock(cols), o, r, p, g, int32(cols), float32(eps), aligned(cols, o, p, g))
}

// RMSNormBack adds to dx and dw.
func (b *backend) RMSNormBack(dx, dw, dout, x, w, rstd kernels.Tensor) {
	n, cols := x.Rows(), x.Cols()
	if !matrix(dx, b.act, n, cols) || !vector(dw, kernels.F32, cols) || !matrix(dout, b.act, n, cols) ||
		!matrix(x, b.act, n, cols) || !vector(w, b.act, cols) || !vector(rstd, kernels.F32, n) {
		panic(misfit("RMSNormBack", dx, dw, dout, x, w, rstd))
	}
	d, to, e, p, g, r := b.addr(dx), b.addr(dw), b.addr(dout), b.addr(x), b.addr(w), b.addr(rstd)
	b.run("RMSNormBack", typed("rmsnorm_back", b.act), dim{n, 1, 1}, rowBlock(cols), d, e, p, g, r, int32(cols), aligned(cols, d, e, p, g))
	b.columnSums("RMSNormBack", to, n, cols, func(grid dim, parts address) error {
		return b.launch(typed("rmsnorm_parts", b.act), grid, line(128), 0, parts, e, p, r, int32(n), int32(cols), int32(partRows), aligned(cols, e, p))
	})
}

// AddBias adds bias to every row of x.
func (b *backend) AddBias(x, bias kernels.Tensor) {
	n, cols := x.Rows(), x.Cols()
	if !matrix(x, b.act, n, cols) || !vector(bias, b.act, cols) {
		panic(misfit("AddBias", x, bias))
	}
	p, q := b.addr(x), b.addr(bias)
	b.run("AddBias", typed("add_bias", b.act), rowsAndColumns(n, cols), line(256), p, q, int32(cols), aligned(cols, p, q))
}

// AddBiasBack adds the column sums of dout to dbias.
func (b *backend) AddBiasBack(dbias, dout kernels.Tensor) {
	n, cols := dout.Rows(), dout.Cols()
	if !vector(dbias, kernels.F32, cols) || !matrix(dout, b.act, n, cols) {
		panic(misfit("AddBiasBack", dbias, dout))
	}
	to, d := b.addr(dbias), b.addr(dout)
	b.columnSums("AddBiasBack", to, n, cols, func(grid dim, parts address) error {
		return b.launch(typed("column_parts", b.act), grid, line(128), 0, parts, d, int32(n), int32(cols), int32(partRows), aligned(cols, d))
	})
}

// columnSums adds to to[cols] what launch sums by chunks of partRows rows into parts.
func (b *backend) columnSums(op string, to address, rows, cols int, launch func(grid dim, parts address) error) {
	count := up(rows, partRows)
	b.do(op, func() error {
		if err := b.grow(&b.parts, 4*count*cols); err != nil || count == 0 || cols == 0 {
			return err
		}
		if err := launch(dim{up(cols, 128*pack), count, 1}, b.parts.at); err != nil {
			return err
		}
		return b.launch("sum_parts", dim{up(cols, 128), 1, 1}, line(128), 0, to, b.parts.at, int32(count), int32(cols))
	})
}
