package reference

import (
	"fmt"

	"rmtrain/kernels"
)

func (b *backend) MatMul(out, x, y kernels.Tensor, mode kernels.Trans, accumulate bool) {
	m, n := out.Rows(), out.Cols()
	// Element l of the sum for out[i, j] is x[i*xi+l*xl] * y[j*yj+l*yl].
	var k, xi, xl, yj, yl int
	switch mode {
	case kernels.NT:
		k = x.Cols()
		want(columns(out, b.act, m, n) && columns(x, b.act, m, k) && matrix(y, b.act, n, k), "MatMul NT", out, x, y)
		xi, xl, yj, yl = k, 1, k, 1
	case kernels.NN:
		k = x.Cols()
		want(columns(out, b.act, m, n) && columns(x, b.act, m, k) && matrix(y, b.act, k, n), "MatMul NN", out, x, y)
		xi, xl, yj, yl = k, 1, 1, n
	case kernels.TN:
		k = x.Rows()
		want(columns(out, b.stat, m, n) && columns(x, b.act, k, m) && matrix(y, b.act, k, n), "MatMul TN", out, x, y)
		xi, xl, yj, yl = 1, m, 1, n
	default:
		panic(fmt.Sprintf("reference: MatMul: unknown mode %d", mode))
	}
	o, p, q := loadColumns(out), loadColumns(x), load(y)
	for i := range m {
		for j := range n {
			var sum float64
			for l := range k {
				sum += p[i*xi+l*xl] * q[j*yj+l*yl]
			}
			if accumulate {
				sum += o[i*n+j]
			}
			o[i*n+j] = sum
		}
	}
	storeColumns(out, o)
}
