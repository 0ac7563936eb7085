package cpu

// #include "kernels.h"
// #include "amx.h"
import "C"

import (
	"cmp"
	"slices"

	"rmtrain/kernels"
)

// pieceRows is the number of rows, one per token and query head of a kv head, for
// which it pays to read the keys again. A piece has fewer only if its segment has, and
// at most twice as many.
const pieceRows = 384

// mostParts is the most pieces into which AttentionBack cuts a segment: each has a
// part as large as the keys that it sees.
const mostParts = 8

// cut makes pieces of all segments, at most most of each, in their order, and returns
// how many floats their parts take.
func (b *backend) cut(segs []kernels.Segment, h kernels.Heads, most int) int {
	b.pieces = b.pieces[:0]
	at, width := 0, 2*h.KV*h.Dim
	for _, s := range segs {
		lo, tokens := int(s.Queries()), int(s.Hi-s.Queries())
		cuts := min(max(1, tokens*(h.Q/h.KV)/pieceRows), max(1, tokens), most)
		for i := range cuts {
			p := piece(s, lo+tokens*i/cuts, lo+tokens*(i+1)/cuts, h.Window)
			if p.lo == p.hi {
				continue
			}
			p.at = C.int64_t(at)
			at += int(p.last-p.first) * width
			b.pieces = append(b.pieces, p)
		}
	}
	return at
}

// piece returns query rows [lo, hi) of s.
func piece(s kernels.Segment, lo, hi, window int) C.piece {
	p := C.piece{lo: C.int32_t(lo), hi: C.int32_t(hi)}
	p.s = C.segment{C.int32_t(s.PrefixLo), C.int32_t(s.PrefixHi), C.int32_t(s.Lo), C.int32_t(s.Hi)}
	shift := int(s.PrefixHi-s.PrefixLo) - int(s.Lo) // from rows to key numbers
	p.last = C.int32_t(hi + shift)
	if window > 0 {
		p.first = C.int32_t(max(0, lo+shift+1-window))
	}
	return p
}

// cost is about proportional to the time that a piece takes.
func cost(p *C.piece, window int) int {
	rows := int(p.hi - p.lo)
	seen := int(p.last) - rows/2
	if window > 0 {
		seen = min(seen, window)
	}
	return rows * seen
}

// byCost runs task for all pieces and kv heads, the largest first, so that the
// goroutines finish together.
func (b *backend) byCost(a *C.attention_args, task func(p *C.piece, kv C.long, scratch *C.float)) {
	b.order = b.order[:0]
	for i := range b.pieces {
		b.order = append(b.order, i)
	}
	window := int(a.window)
	slices.SortStableFunc(b.order, func(i, j int) int {
		return cmp.Compare(cost(&b.pieces[j], window), cost(&b.pieces[i], window))
	})
	heads := int(a.kv_heads)
	b.parallel(len(b.order)*heads, b.attentionScratch(a), func(i int, scratch *C.float) {
		task(&b.pieces[b.order[i/heads]], C.long(i%heads), scratch)
	})
}

// attentionScratch returns the floats of scratch memory that any of the pieces needs.
func (b *backend) attentionScratch(a *C.attention_args) int {
	need := 0
	for i := range b.pieces {
		if b.onTiles() {
			need = max(need, int(C.run_amx_attention_scratch(b.tiles, a, &b.pieces[i])))
			continue
		}
		need = max(need, int(C.run_attention_scratch(b.set, a, &b.pieces[i])))
	}
	return need
}
