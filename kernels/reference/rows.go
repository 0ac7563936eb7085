package reference

import (
	"math"

	"rmtrain/kernels"
)

func (b *backend) Embed(out, table, ids kernels.Tensor) {
	n, cols := ids.Len(), table.Cols()
	want(matrix(out, b.act, n, cols) && columns(table, b.act, table.Rows(), cols) &&
		vector(ids, kernels.I32, n), "Embed", out, table, ids)
	index := ints(ids)
	wantIndices("Embed", "id", index, table.Rows())
	for r, id := range index {
		copy(raw(out.Row(r)), raw(table.Row(int(id))))
	}
}

func (b *backend) EmbedBack(dtable, dout, ids kernels.Tensor, skip int32) {
	n, cols := ids.Len(), dtable.Cols()
	want(matrix(dtable, b.stat, dtable.Rows(), cols) && matrix(dout, b.act, n, cols) &&
		vector(ids, kernels.I32, n), "EmbedBack", dtable, dout, ids)
	index := ints(ids)
	wantIndices("EmbedBack", "id", index, dtable.Rows())
	dt, d := load(dtable), load(dout)
	for r, id := range index {
		if id == skip {
			continue
		}
		for j := range cols {
			dt[int(id)*cols+j] += d[r*cols+j]
		}
	}
	store(dtable, dt)
}

func (b *backend) Scatter(dtable, dout, ids kernels.Tensor) {
	n, cols := ids.Len(), dtable.Cols()
	want(columns(dtable, b.act, dtable.Rows(), cols) && matrix(dout, b.act, n, cols) &&
		vector(ids, kernels.I32, n), "Scatter", dtable, dout, ids)
	index := ints(ids)
	wantIndices("Scatter", "id", index, dtable.Rows())
	dt, d := make([]float64, dtable.Len()), load(dout)
	for r, id := range index {
		for j := range cols {
			dt[int(id)*cols+j] += d[r*cols+j]
		}
	}
	storeColumns(dtable, dt)
}

func (b *backend) RMSNorm(out, rstd, x, w kernels.Tensor, eps float64) {
	rows, cols := x.Rows(), x.Cols()
	want(matrix(out, b.act, rows, cols) && vector(rstd, b.stat, rows) &&
		matrix(x, b.act, rows, cols) && vector(w, b.act, cols), "RMSNorm", out, rstd, x, w)
	o, rs, v, g := make([]float64, rows*cols), make([]float64, rows), load(x), load(w)
	for r := range rows {
		var sum float64
		for _, e := range v[r*cols : (r+1)*cols] {
			sum += e * e
		}
		rs[r] = 1 / math.Sqrt(sum/float64(cols)+eps)
		for j := range cols {
			o[r*cols+j] = v[r*cols+j] * rs[r] * g[j]
		}
	}
	store(out, o)
	store(rstd, rs)
}

func (b *backend) RMSNormBack(dx, dw, dout, x, w, rstd kernels.Tensor) {
	rows, cols := x.Rows(), x.Cols()
	want(matrix(dx, b.act, rows, cols) && vector(dw, b.stat, cols) &&
		matrix(dout, b.act, rows, cols) && matrix(x, b.act, rows, cols) &&
		vector(w, b.act, cols) && vector(rstd, b.stat, rows), "RMSNormBack", dx, dw, dout, x, w, rstd)
	dv, dg, d, v, g, rs := load(dx), load(dw), load(dout), load(x), load(w), load(rstd)
	for r := range rows {
		var sum float64
		for j := range cols {
			i := r*cols + j
			sum += d[i] * g[j] * v[i] * rs[r]
		}
		mean := sum / float64(cols)
		for j := range cols {
			i := r*cols + j
			normed := v[i] * rs[r]
			dg[j] += d[i] * normed
			dv[i] += rs[r] * (d[i]*g[j] - normed*mean)
		}
	}
	store(dx, dv)
	store(dw, dg)
}

func (b *backend) ValueHead(score, x, rows, w kernels.Tensor) {
	n, cols := rows.Len(), x.Cols()
	want(vector(score, b.stat, n) && matrix(x, b.act, x.Rows(), cols) &&
		vector(rows, kernels.I32, n) && vector(w, b.act, cols), "ValueHead", score, x, rows, w)
	index := ints(rows)
	wantIndices("ValueHead", "row", index, x.Rows())
	s, v, g := make([]float64, n), load(x), load(w)
	for i, r := range index {
		s[i] = dot(v[int(r)*cols:][:cols], g)
	}
	store(score, s)
}

func (b *backend) ValueHeadBack(dx, dw, dscore, x, rows, w kernels.Tensor) {
	n, cols := rows.Len(), x.Cols()
	want(matrix(dx, b.act, x.Rows(), cols) && vector(dw, b.stat, cols) && vector(dscore, b.stat, n) &&
		matrix(x, b.act, x.Rows(), cols) && vector(rows, kernels.I32, n) && vector(w, b.act, cols),
		"ValueHeadBack", dx, dw, dscore, x, rows, w)
	index := ints(rows)
	wantIndices("ValueHeadBack", "row", index, x.Rows())
	dv, dg, d, v, g := make([]float64, x.Len()), load(dw), load(dscore), load(x), load(w)
	for i, r := range index {
		for j := range cols {
			dv[int(r)*cols+j] += d[i] * g[j]
			dg[j] += d[i] * v[int(r)*cols+j]
		}
	}
	store(dx, dv)
	store(dw, dg)
}

func dot(x, y []float64) float64 {
	var sum float64
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}
