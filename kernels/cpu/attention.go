package cpu

// #include "kernels.h"
import "C"

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"rmtrain/kernels"
)

// cutRows is the least number of rows for which it pays to copy the keys again.
const cutRows = 64

// Attention computes out and lse; see kernels.Ops. A task is one kv head and one
// segment, or a piece of its rows if there are few.
func (b *backend) Attention(out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	rows := qkv.Rows()
	b.wantAttention("Attention", h, qkv, out, lse)
	b.ownRows("Attention", segs, rows, h)
	b.written(out, lse)
	if len(segs) == 0 {
		return
	}
	a := arguments(h)
	a.out, a.lse, a.qkv = ptr(out), floats(lse), ptr(qkv)
	longest := 0
	for _, s := range segs {
		longest = max(longest, int(s.Hi-s.Queries()))
	}
	cuts := max(1, min(longest/cutRows, 4*threads()/(len(segs)*h.KV)))
	b.parallel(cuts*len(segs)*h.KV, b.attentionScratch(&a, segs), func(i int, scratch *C.float) {
		s, kv, cut := segs[i/cuts/h.KV], i/cuts%h.KV, i%cuts
		lo, n := int(s.Queries()), int(s.Hi-s.Queries())
		if from, to := lo+n*cut/cuts, lo+n*(cut+1)/cuts; from < to {
			C.run_attention(b.set, &a, segment(s), C.long(from), C.long(to), C.long(kv), scratch)
		}
	})
}

// AttentionBack overwrites dqkv; see kernels.Ops. What a segment adds to the
// gradients of its keys goes to a part of its own; these are added up afterwards in
// the order of segments, so the sum does not depend on the number of goroutines.
func (b *backend) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	rows := qkv.Rows()
	b.wantAttention("AttentionBack", h, qkv, out, lse)
	if dqkv.Shape != qkv.Shape || dqkv.DType != b.act || dout.Shape != out.Shape || dout.DType != b.act {
		panic(misfit("AttentionBack", dqkv, dout, out, lse, qkv))
	}
	floatsNeeded := b.ownRows("AttentionBack", segs, rows, h)
	b.wantPrefixes(segs)
	b.written(dqkv)
	if len(segs) == 0 {
		return
	}
	if b.fail(b.parts.grow(floatsNeeded)); b.err != nil {
		return
	}
	a := arguments(h)
	a.out, a.lse, a.qkv, a.dout, a.dqkv = ptr(out), floats(lse), ptr(qkv), ptr(dout), ptr(dqkv)
	parts := b.parts.floats()
	b.parallel(len(segs)*h.KV, b.attentionScratch(&a, segs), func(t int, scratch *C.float) {
		i, kv := t/h.KV, t%h.KV
		C.run_attention_back(b.set, &a, segment(segs[i]), C.long(kv), cfloats(parts[b.at[i]:]), scratch)
	})
	first := (*C.segment)(unsafe.Pointer(unsafe.SliceData(segs)))
	at, own := (*C.int64_t)(unsafe.SliceData(b.at)), (*C.int64_t)(unsafe.SliceData(b.own))
	b.runs(rows, 16, func(lo, hi int) {
		C.run_kv_sum(b.set, &a, first, C.long(len(segs)), cfloats(parts), at, own, C.long(lo), C.long(hi))
	})
}

func (b *backend) wantAttention(op string, h kernels.Heads, qkv, out, lse kernels.Tensor) {
	if h.Q <= 0 || h.KV <= 0 || h.Dim <= 0 || h.Q%h.KV != 0 || h.Window < 0 {
		panic(fmt.Sprintf("cpu: %s: impossible heads %+v", op, h))
	}
	rows := qkv.Rows()
	if !matrix(qkv, b.act, rows, h.QKV()) || !matrix(out, b.act, rows, h.Q*h.Dim) || !matrix(lse, kernels.F32, rows, h.Q) {
		panic(misfit(op, out, lse, qkv))
	}
}

// ownRows panics unless all segments lie within rows and no row is in two. It lays
// out the parts of AttentionBack: at[i] is where that of segment i begins, own[r]
// where row r is in it as a key of its own segment, -1 if it is in none.
func (b *backend) ownRows(op string, segs []kernels.Segment, rows int, h kernels.Heads) int {
	b.own = slices.Grow(b.own[:0], rows)[:rows]
	for r := range b.own {
		b.own[r] = -1
	}
	b.at = b.at[:0]
	next, width := 0, 2*h.KV*h.Dim
	for _, s := range segs {
		if s.PrefixLo < 0 || s.PrefixLo > s.PrefixHi || int(s.PrefixHi) > rows ||
			s.Lo < 0 || s.Lo > s.Hi || int(s.Hi) > rows {
			panic(fmt.Sprintf("cpu: %s: segment %+v of %d rows", op, s, rows))
		}
		b.at = append(b.at, int64(next))
		next += int(s.PrefixHi-s.PrefixLo) * width
		for r := s.Lo; r < s.Hi; r++ {
			if b.own[r] >= 0 {
				panic(fmt.Sprintf("cpu: %s: row %d is in two segments: %+v", op, r, segs))
			}
			b.own[r] = int64(next)
			next += width
		}
	}
	return next
}

// wantPrefixes panics if a gradient would be lost: that of a prefix row which is
// in no segment.
func (b *backend) wantPrefixes(segs []kernels.Segment) {
	for _, s := range segs {
		for r := s.PrefixLo; r < s.PrefixHi; r++ {
			if b.own[r] < 0 {
				panic(fmt.Sprintf("cpu: AttentionBack: prefix row %d is in no segment: %+v", r, segs))
			}
		}
	}
}

func arguments(h kernels.Heads) C.attention_args {
	return C.attention_args{q_heads: C.int32_t(h.Q), kv_heads: C.int32_t(h.KV), dim: C.int32_t(h.Dim), window: C.int32_t(min(h.Window, math.MaxInt32))}
}

func segment(s kernels.Segment) C.segment {
	return C.segment{C.int32_t(s.PrefixLo), C.int32_t(s.PrefixHi), C.int32_t(s.Lo), C.int32_t(s.Hi), C.int32_t(s.From)}
}

func (b *backend) attentionScratch(a *C.attention_args, segs []kernels.Segment) int {
	need := 0
	for _, s := range segs {
		need = max(need, int(C.run_attention_scratch(b.set, a, segment(s))))
	}
	return need
}
