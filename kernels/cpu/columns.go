package cpu

// #include "kernels.h"
import "C"

import (
	"slices"

	"rmtrain/kernels"
)

// Gradients of rows that may repeat are cut by columns: each goroutine adds all
// rows, in order, to columns of its own.
const columnUnit = 64

// AddBiasBack adds the column sums of dout to dbias.
func (b *backend) AddBiasBack(dbias, dout kernels.Tensor) {
	n, cols := dout.Rows(), dout.Cols()
	if !vector(dbias, kernels.F32, cols) || !matrix(dout, b.act, n, cols) {
		panic(misfit("AddBiasBack", dbias, dout))
	}
	b.written(dbias)
	b.runs(cols, columnUnit, func(lo, hi int) {
		C.run_add_bias_back(b.set, floats(dbias), ptr(dout), C.long(n), C.long(cols), C.long(lo), C.long(hi))
	})
}

// Embed copies rows of table.
func (b *backend) Embed(out, table, ids kernels.Tensor) {
	n, cols := ids.Len(), table.Cols()
	if !matrix(out, b.act, n, cols) || !columns(table, b.act, table.Rows(), cols) || !vector(ids, kernels.I32, n) {
		panic(misfit("Embed", out, table, ids))
	}
	index := indices("Embed", "id", ids, table.Rows())
	b.written(out)
	dst, src, row, stride := raw(out), span(table), cols*b.act.Size(), table.RowStride()*b.act.Size()
	b.runs(n, rowUnit, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			copy(dst[r*row:][:row], src[int(index[r])*stride:])
		}
	})
}

// EmbedBack adds rows of dout to rows of dtable; see kernels.Ops.
func (b *backend) EmbedBack(dtable, dout, ids kernels.Tensor, skip int32) {
	n, cols := ids.Len(), dtable.Cols()
	if !matrix(dtable, kernels.F32, dtable.Rows(), cols) || !matrix(dout, b.act, n, cols) || !vector(ids, kernels.I32, n) {
		panic(misfit("EmbedBack", dtable, dout, ids))
	}
	index := indices("EmbedBack", "id", ids, dtable.Rows())
	b.written(dtable)
	b.runs(cols, columnUnit, func(lo, hi int) {
		C.run_embed_back(b.set, floats(dtable), ptr(dout), ints(index), C.long(n), C.long(cols), C.int32_t(skip), C.long(lo), C.long(hi))
	})
}

// Scatter overwrites dtable by sums of rows of dout; see kernels.Ops. Its rows are
// few.
func (b *backend) Scatter(dtable, dout, ids kernels.Tensor) {
	n, cols := ids.Len(), dtable.Cols()
	if !columns(dtable, b.act, dtable.Rows(), cols) || !matrix(dout, b.act, n, cols) || !vector(ids, kernels.I32, n) {
		panic(misfit("Scatter", dtable, dout, ids))
	}
	index := indices("Scatter", "id", ids, dtable.Rows())
	b.clear(dtable)
	if b.err != nil || b.dry {
		return
	}
	var same []int32
	for r, id := range index {
		if slices.Contains(index[:r], id) {
			continue
		}
		same = append(same[:0], int32(r))
		for later := r + 1; later < n; later++ {
			if index[later] == id {
				same = append(same, int32(later))
			}
		}
		C.run_sum_rows(b.set, ptr(dtable.Row(int(id))), ptr(dout), ints(same), C.long(len(same)), C.long(cols))
	}
}

// ValueHead computes the scores of rows of x.
func (b *backend) ValueHead(score, x, rows, w kernels.Tensor) {
	n, cols := rows.Len(), x.Cols()
	if !vector(score, kernels.F32, n) || !matrix(x, b.act, x.Rows(), cols) || !vector(rows, kernels.I32, n) || !vector(w, b.act, cols) {
		panic(misfit("ValueHead", score, x, rows, w))
	}
	b.written(score)
	index, scores := indices("ValueHead", "row", rows, x.Rows()), float32s(score)
	b.runs(n, rowUnit, func(lo, hi int) {
		C.run_value_head(b.set, cfloats(scores[lo:]), ptr(x), ints(index[lo:]), ptr(w), C.long(hi-lo), C.long(cols))
	})
}

// ValueHeadBack overwrites dx and adds to dw; see kernels.Ops.
func (b *backend) ValueHeadBack(dx, dw, dscore, x, rows, w kernels.Tensor) {
	n, cols := rows.Len(), x.Cols()
	if !matrix(dx, b.act, x.Rows(), cols) || !vector(dw, kernels.F32, cols) || !vector(dscore, kernels.F32, n) ||
		!matrix(x, b.act, x.Rows(), cols) || !vector(rows, kernels.I32, n) || !vector(w, b.act, cols) {
		panic(misfit("ValueHeadBack", dx, dw, dscore, x, rows, w))
	}
	index := indices("ValueHeadBack", "row", rows, x.Rows())
	b.written(dw)
	b.Zero(dx)
	b.runs(cols, columnUnit, func(lo, hi int) {
		C.run_value_head_back(b.set, ptr(dx), floats(dw), floats(dscore), ptr(x), ints(index), ptr(w), C.long(n), C.long(cols), C.long(lo), C.long(hi))
	})
}
