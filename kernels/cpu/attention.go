package cpu

// #include "kernels.h"
// #include "amx.h"
import "C"

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"rmtrain/kernels"
)

// Attention computes out and lse; see kernels.Ops. A task is one kv head and one piece
// of a segment's rows.
func (b *backend) Attention(out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	b.wantAttention("Attention", h, qkv, out, lse)
	b.wantSegments("Attention", segs, qkv.Rows())
	b.written(out, lse)
	b.cut(segs, h, math.MaxInt)
	a := arguments(h)
	a.out, a.lse, a.qkv = ptr(out), floats(lse), ptr(qkv)
	b.byCost(&a, func(p *C.piece, kv C.long, scratch *C.float) {
		if b.onTiles() {
			C.run_amx_attention(b.tiles, &a, p, kv, scratch)
			return
		}
		C.run_attention(b.set, &a, p, kv, scratch)
	})
}

// AttentionBack overwrites dqkv; see kernels.Ops. What a piece adds to the gradients
// of the keys that it sees goes to a part of its own; these are added up afterwards in
// the order of pieces. How segments are cut depends on themselves alone, and so the
// sum on neither the number of goroutines nor the rest of the batch.
func (b *backend) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	b.wantAttention("AttentionBack", h, qkv, out, lse)
	if dqkv.Shape != qkv.Shape || dqkv.DType != b.act || dout.Shape != out.Shape || dout.DType != b.act {
		panic(misfit("AttentionBack", dqkv, dout, out, lse, qkv))
	}
	rows := qkv.Rows()
	b.wantSegments("AttentionBack", segs, rows)
	b.wantPrefixes(segs)
	b.written(dqkv)
	floatsNeeded := b.cut(segs, h, mostParts)
	if b.fail(b.parts.grow(floatsNeeded)); b.err != nil {
		return
	}
	a := arguments(h)
	a.out, a.lse, a.qkv, a.dout, a.dqkv = ptr(out), floats(lse), ptr(qkv), ptr(dout), ptr(dqkv)
	parts := cfloats(b.parts.floats())
	b.byCost(&a, func(p *C.piece, kv C.long, scratch *C.float) {
		if b.onTiles() {
			C.run_amx_attention_back(b.tiles, &a, p, kv, parts, scratch)
			return
		}
		C.run_attention_back(b.set, &a, p, kv, parts, scratch)
	})
	const unit = 16
	pieces, role := unsafe.SliceData(b.pieces), (*C.uint8_t)(unsafe.SliceData(b.role))
	b.parallel((rows+unit-1)/unit, unit*2*h.KV*h.Dim, func(i int, scratch *C.float) {
		C.run_kv_sum(b.set, &a, pieces, C.long(len(b.pieces)), parts, role, C.long(unit*i), C.long(min(rows, unit*(i+1))), scratch)
	})
}

// onTiles reports whether attention is computed on AMX. It does not depend on shapes,
// since a row's bits may not depend on the rows beside it.
func (b *backend) onTiles() bool { return b.act == kernels.BF16 && b.tiles != nil }

func (b *backend) wantAttention(op string, h kernels.Heads, qkv, out, lse kernels.Tensor) {
	if h.Q <= 0 || h.KV <= 0 || h.Dim <= 0 || h.Q%h.KV != 0 || h.Window < 0 {
		panic(fmt.Sprintf("cpu: %s: impossible heads %+v", op, h))
	}
	rows := qkv.Rows()
	if !matrix(qkv, b.act, rows, h.QKV()) || !matrix(out, b.act, rows, h.Q*h.Dim) || !matrix(lse, kernels.F32, rows, h.Q) {
		panic(misfit(op, out, lse, qkv))
	}
}

// wantSegments panics unless all segments lie within rows and no row is in two. It
// finds the role of each row.
func (b *backend) wantSegments(op string, segs []kernels.Segment, rows int) {
	b.role = slices.Grow(b.role[:0], rows)[:rows]
	clear(b.role)
	for _, s := range segs {
		if s.PrefixLo < 0 || s.PrefixLo > s.PrefixHi || int(s.PrefixHi) > rows ||
			s.Lo < 0 || s.Lo > s.Hi || int(s.Hi) > rows {
			panic(fmt.Sprintf("cpu: %s: segment %+v of %d rows", op, s, rows))
		}
		for r := s.Lo; r < s.Hi; r++ {
			if b.role[r] != C.NO_ROW {
				panic(fmt.Sprintf("cpu: %s: row %d is in two segments: %+v", op, r, segs))
			}
			b.role[r] = C.QUERY
			if r < s.Queries() {
				b.role[r] = C.KEY_ONLY
			}
		}
	}
}

// wantPrefixes panics if a gradient would be lost: that of a prefix row which is
// in no segment.
func (b *backend) wantPrefixes(segs []kernels.Segment) {
	for _, s := range segs {
		for r := s.PrefixLo; r < s.PrefixHi; r++ {
			if b.role[r] == C.NO_ROW {
				panic(fmt.Sprintf("cpu: AttentionBack: prefix row %d is in no segment: %+v", r, segs))
			}
		}
	}
}

func arguments(h kernels.Heads) C.attention_args {
	return C.attention_args{q_heads: C.int32_t(h.Q), kv_heads: C.int32_t(h.KV), dim: C.int32_t(h.Dim), window: C.int32_t(min(h.Window, math.MaxInt32))}
}
