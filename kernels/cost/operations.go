package cost

import (
	"fmt"

	"rmtrain/kernels"
)

// Here is what each operation of kernels.Ops takes in kernels/cuda.

// partRows is that of kernels/cuda: so many rows of a weight's gradient become one row of
// float32, which a second kernel adds up.
const partRows = 64

// partBytes is what the parts of a sum over rows take, written and read.
func partBytes(x kernels.Tensor) float64 {
	parts := (x.Rows() + partRows - 1) / partRows
	return 2 * 4 * float64(parts*x.Cols())
}

func size(ts ...kernels.Tensor) (bytes float64) {
	for _, t := range ts {
		bytes += float64(t.Bytes())
	}
	return bytes
}

func shape(t kernels.Tensor) string { return fmt.Sprintf("%d x %d", t.Rows(), t.Cols()) }

// memory records an operation that memory bounds.
func (r *Recorder) memory(name string, of kernels.Tensor, launches int, bytes float64) {
	r.add(Op{Name: name, Shape: shape(of), Bytes: bytes, Activation: size(of), Kernels: launches})
}

func (r *Recorder) Zero(x kernels.Tensor) { r.memory("Zero", x, 1, size(x)) }

func (r *Recorder) Add(out, a, b kernels.Tensor) { r.memory("Add", out, 1, size(out, a, b)) }

func (r *Recorder) AddBias(x, bias kernels.Tensor) { r.memory("AddBias", x, 1, size(x, x, bias)) }

func (r *Recorder) AddBiasBack(dbias, dout kernels.Tensor) {
	r.memory("AddBiasBack", dout, 2, size(dout, dbias, dbias)+partBytes(dout))
}

func (r *Recorder) Embed(out, table, ids kernels.Tensor) {
	r.memory("Embed", out, 1, size(out, out, ids))
}

// EmbedBack clears and writes the lists of rows with the same id first.
func (r *Recorder) EmbedBack(dtable, dout, ids kernels.Tensor, skip int32) {
	rows := float64(dout.Len() * dtable.DType.Size())
	r.memory("EmbedBack", dout, 3, size(dout)+2*rows+6*size(ids))
}

func (r *Recorder) Scatter(dtable, dout, ids kernels.Tensor) {
	r.memory("Scatter", dout, 4, size(dtable, dout, dout)+6*size(ids))
}

func (r *Recorder) RMSNorm(out, rstd, x, w kernels.Tensor, eps float64) {
	r.memory("RMSNorm", x, 1, size(out, rstd, x, w))
}

// RMSNormBack reads dout and x twice: for dx, and for dw.
func (r *Recorder) RMSNormBack(dx, dw, dout, x, w, rstd kernels.Tensor) {
	r.memory("RMSNormBack", x, 3, size(dx, dx, dout, x, w, rstd)+size(dout, x, rstd, dw, dw)+partBytes(x))
}

func (r *Recorder) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	k := a.Cols()
	if mode == kernels.TN {
		k = a.Rows()
	}
	bytes := size(out, a, b)
	if accumulate {
		bytes += size(out)
	}
	name := [...]string{kernels.NT: "MatMul x·yᵀ", kernels.NN: "MatMul x·y", kernels.TN: "MatMul xᵀ·y"}[mode]
	r.add(Op{
		Name: name, Shape: fmt.Sprintf("%d x %d x %d", out.Rows(), out.Cols(), k), Kind: Product,
		FLOP: 2 * float64(out.Len()) * float64(k), Bytes: bytes, Kernels: 1,
	})
}

func (r *Recorder) RoPE(qkv, pos, table kernels.Tensor, h kernels.Heads, inverse bool) {
	rotated := 2 * float64(qkv.Rows()*(h.Q+h.KV)*h.Dim*qkv.DType.Size())
	r.memory("RoPE", qkv, 1, rotated+float64(qkv.Rows()*h.Dim*table.DType.Size())+size(pos))
}

// Products with the visible keys that attention executes: q·k and times v forward; backward
// the kernel by queries q·k, dout·v and times k, and that by keys those two again, times dout
// and times q.
const (
	productsForward = 2
	productsQueries = 3
	productsKeys    = 4
)

func (r *Recorder) Attention(out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	r.add(Op{
		Name: "Attention", Shape: shape(qkv), Kind: Attention, Channels: h.Dim,
		FLOP: productsForward * perProduct(segs, h), Bytes: size(out, lse, qkv), Kernels: 1,
	})
}

// AttentionBack has a kernel for the sums dout·out, one by queries and one by keys.
func (r *Recorder) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	stats := 2 * size(lse)
	r.add(Op{
		Name: "AttentionBack", Shape: shape(qkv), Kind: AttentionBack, Channels: h.Dim,
		FLOP:  (productsQueries + productsKeys) * perProduct(segs, h),
		Bytes: size(dout, out, lse) + 3*stats + 2*size(dout, qkv) + size(dqkv), Kernels: 3,
	})
}

// perProduct is the arithmetic of one product over the keys that queries see.
func perProduct(segs []kernels.Segment, h kernels.Heads) float64 {
	keys := 0
	for _, s := range segs {
		for row := s.Queries(); row < s.Hi; row++ {
			n := int(s.PrefixHi - s.PrefixLo + row - s.Lo + 1)
			if h.Window > 0 {
				n = min(n, h.Window)
			}
			keys += n
		}
	}
	return 2 * float64(keys) * float64(h.Q*h.Dim)
}

func (r *Recorder) SwiGLU(out, gateUp kernels.Tensor) {
	r.memory("SwiGLU", out, 1, size(out, gateUp))
}

func (r *Recorder) SwiGLUBack(dgateUp, dout, gateUp kernels.Tensor) {
	r.memory("SwiGLUBack", dout, 1, size(dgateUp, dout, gateUp))
}

func (r *Recorder) ValueHead(score, x, rows, w kernels.Tensor) {
	r.memory("ValueHead", score, 1, float64(rows.Len()*x.Cols()*x.DType.Size())+size(score, rows, w))
}

func (r *Recorder) ValueHeadBack(dx, dw, dscore, x, rows, w kernels.Tensor) {
	read := float64(rows.Len() * x.Cols() * x.DType.Size())
	r.memory("ValueHeadBack", dscore, 5, size(dx)+2*read+size(dw, dw, dscore, dscore, w)+6*size(rows))
}

func (r *Recorder) SumSq(out, x kernels.Tensor) { r.memory("SumSq", x, 2, size(x)) }

// AdamW reads the gradient, and reads and writes the moments and the parameter; if that has a
// master, it reads and writes the master and only writes the parameter.
func (r *Recorder) AdamW(a kernels.AdamW) {
	bytes := size(a.Grad, a.M, a.M, a.V, a.V, a.Param)
	if a.Master.Buf == nil {
		bytes += size(a.Param)
	} else {
		bytes += size(a.Master, a.Master)
	}
	r.memory("AdamW", a.Param, 1, bytes)
}
