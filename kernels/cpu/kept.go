package cpu

// #include "kernels.h"
import "C"

import (
	"fmt"
	"slices"

	"rmtrain/kernels"
)

// A kept form is a weight as the products of one mode read it as their b. It is made
// by the first product after the weight was written.
type kept struct {
	region
	w     kernels.Tensor
	mode  kernels.Trans
	bytes int64
	fresh bool // it is the form of what the weight is now
}

// KeptBytes returns the memory that Keep takes; see kernels.Keeper. Without AMX keeping
// bfloat16 would treble its memory, which is why one has it: packed, it is float32.
func (b *backend) KeptBytes(w kernels.Tensor, mode kernels.Trans) int64 {
	n, k := columnsOf(w, mode)
	if b.onTiles() {
		return 2 * int64((n+tileBlock-1)/tileBlock*tileBlock) * int64((k+tileBlock-1)/tileBlock*tileBlock)
	}
	if b.act != kernels.F32 {
		return 0
	}
	cols := int(b.set.tile_cols)
	return 4 * int64((n+cols-1)/cols*cols) * int64(k)
}

// Keep makes room for the packed form of w; see kernels.Keeper.
func (b *backend) Keep(w kernels.Tensor, mode kernels.Trans) error {
	bytes := b.KeptBytes(w, mode)
	if bytes == 0 || b.keptFor(w, mode) != nil {
		return nil
	}
	if !matrix(w, b.act, w.Rows(), w.Cols()) {
		panic(misfit("Keep", w))
	}
	r, err := newRegion(int(bytes))
	if err != nil {
		return fmt.Errorf("%w for %s %v", err, kernels.KeptTag, w.Shape)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.live[w.Buf]; !ok {
		panic(fmt.Sprintf("cpu: Keep %v%v: not allocated here", w.DType, w.Shape))
	}
	b.kept[w.Buf] = append(b.kept[w.Buf], &kept{region: r, w: w, mode: mode, bytes: bytes})
	b.used[kernels.KeptTag] += bytes
	return nil
}

// columnsOf returns the columns and rows of the operand b that w is in a product.
func columnsOf(w kernels.Tensor, mode kernels.Trans) (n, k int) {
	if mode == kernels.NT {
		return w.Rows(), w.Cols()
	}
	return w.Cols(), w.Rows()
}

// keptFor returns where w is kept for products of a mode, or nil.
func (b *backend) keptFor(w kernels.Tensor, mode kernels.Trans) *kept {
	all := b.kept[w.Buf]
	i := slices.IndexFunc(all, func(p *kept) bool { return p.mode == mode && p.w == w })
	if i < 0 {
		return nil
	}
	return all[i]
}

// packed returns the kept form of the product's b, which it makes if need be, or nil.
func (b *backend) packed(w kernels.Tensor, mode kernels.Trans, g *C.gemm_args) *C.float {
	p := b.keptFor(w, mode)
	if p == nil {
		return nil
	}
	dst := cfloats(p.floats())
	switch {
	case p.fresh:
	case b.onTiles():
		b.packKept(dst, g)
		p.fresh = b.err == nil
	default:
		strips := (int(g.n) + int(b.set.tile_cols) - 1) / int(b.set.tile_cols)
		b.parallel(strips, 0, func(i int, _ *C.float) {
			C.run_pack_cols(b.set, dst, g.b, g.n, g.k, C.long(i), C.long(i+1))
		})
		p.fresh = b.err == nil
	}
	return dst
}

// written forgets the kept forms of what an operation, which is about to run, writes
// to: of the whole buffer, for a tensor may be a part of it.
func (m *memory) written(outs ...kernels.Tensor) {
	if len(m.kept) == 0 {
		return
	}
	for _, t := range outs {
		for _, p := range m.kept[t.Buf] {
			p.fresh = false
		}
	}
}
