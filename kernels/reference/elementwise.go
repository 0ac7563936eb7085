package reference

import (
	"math"

	"rmtrain/kernels"
)

func (b *backend) Zero(x kernels.Tensor) { clear(raw(x)) }

func (b *backend) Add(out, x, y kernels.Tensor) {
	want(out.DType == b.act && x.DType == b.act && y.DType == b.act &&
		out.Shape == x.Shape && out.Shape == y.Shape, "Add", out, x, y)
	sum, addend := load(x), load(y)
	for i := range sum {
		sum[i] += addend[i]
	}
	store(out, sum)
}

func (b *backend) AddBias(x, bias kernels.Tensor) {
	rows, cols := x.Rows(), x.Cols()
	want(matrix(x, b.act, rows, cols) && vector(bias, b.act, cols), "AddBias", x, bias)
	v, c := load(x), load(bias)
	for i := range v {
		v[i] += c[i%cols]
	}
	store(x, v)
}

func (b *backend) AddBiasBack(dbias, dout kernels.Tensor) {
	rows, cols := dout.Rows(), dout.Cols()
	want(vector(dbias, b.stat, cols) && matrix(dout, b.act, rows, cols), "AddBiasBack", dbias, dout)
	dc, d := load(dbias), load(dout)
	for i := range d {
		dc[i%cols] += d[i]
	}
	store(dbias, dc)
}

func (b *backend) SwiGLU(out, gateUp kernels.Tensor) {
	rows, cols := out.Rows(), out.Cols()
	want(matrix(out, b.act, rows, cols) && matrix(gateUp, b.act, rows, 2*cols), "SwiGLU", out, gateUp)
	o, in := make([]float64, rows*cols), load(gateUp)
	for r := range rows {
		for j := range cols {
			gate, up := in[r*2*cols+j], in[r*2*cols+cols+j]
			o[r*cols+j] = gate * sigmoid(gate) * up
		}
	}
	store(out, o)
}

func (b *backend) SwiGLUBack(dgateUp, dout, gateUp kernels.Tensor) {
	rows, cols := dout.Rows(), dout.Cols()
	want(matrix(dgateUp, b.act, rows, 2*cols) && matrix(dout, b.act, rows, cols) &&
		matrix(gateUp, b.act, rows, 2*cols), "SwiGLUBack", dgateUp, dout, gateUp)
	din, d, in := make([]float64, rows*2*cols), load(dout), load(gateUp)
	for r := range rows {
		for j := range cols {
			gate, up, e := in[r*2*cols+j], in[r*2*cols+cols+j], d[r*cols+j]
			s := sigmoid(gate)
			din[r*2*cols+j] = e * up * s * (1 + gate*(1-s))
			din[r*2*cols+cols+j] = e * gate * s
		}
	}
	store(dgateUp, din)
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func (b *backend) SumSq(out, x kernels.Tensor) {
	want(vector(out, kernels.F64, 1) && x.DType != kernels.I32, "SumSq", out, x)
	sum := load(out)
	var s float64
	for _, e := range load(x) {
		s += e * e
	}
	sum[0] += s
	store(out, sum)
}
