package cpu

// #include "amx.h"
import "C"

import "unsafe"

// tileBlock is the unit in which AMX products are cut.
const tileBlock = C.AMX_BLOCK

// A multiplication takes a sixth of a nanosecond at most, so packing costs more of them.
var tileCosts = costs{160, 32}

// tileProduct is MatMul on AMX tiles.
func (b *backend) tileProduct(g *C.gemm_args) {
	if !b.packTiles(g) {
		return
	}
	m, n := int(g.m), int(g.n)
	mc, nc := b.tilePlan(m, n, int(g.k))
	across := (n + nc - 1) / nc
	b.parallel(across*((m+mc-1)/mc), b.tileScratch(mc, nc, int(g.k)), func(t int, scratch *C.float) {
		i, j := t/across*mc, t%across*nc
		C.run_amx_gemm(b.tiles, g, C.long(i), C.long(min(m, i+mc)), C.long(j), C.long(min(n, j+nc)), scratch)
	})
}

// tilePlan cuts c[m,n] into tasks; see plan.
func (b *backend) tilePlan(m, n, k int) (mc, nc int) {
	most := int(C.run_amx_columns(b.tiles, C.long(k)))
	if b.dry { // fewer rows may be cut into larger tasks
		return min(m, maxRows), min(n, most)
	}
	return plan(m, n, maxRows, tileBlock, tileBlock, most, tileCosts)
}

// tileScratch is what a task of mc rows and nc columns needs, in floats.
func (b *backend) tileScratch(mc, nc, k int) int {
	return int(C.run_amx_scratch(b.tiles, C.long(mc), C.long(nc), C.long(k)))
}

// packTiles replaces the operand a by a copy in tiles.
func (b *backend) packTiles(g *C.gemm_args) bool {
	const run = 8 // blocks that are read at a time: 512 bytes of a row
	blocks, k := (int(g.m)+tileBlock-1)/tileBlock, (int(g.k)+tileBlock-1)/tileBlock*tileBlock
	if b.fail(b.strips.grow(blocks * tileBlock * k / 2)); b.err != nil {
		return false
	}
	a, dst := g.a, unsafe.Pointer(cfloats(b.strips.floats()))
	b.parallel((blocks+run-1)/run, 0, func(i int, _ *C.float) {
		C.run_amx_pack_rows(b.tiles, (*C.uint16_t)(dst), a, g.m, g.k, C.long(run*i), C.long(min(blocks, run*i+run)))
	})
	g.a.p, g.packed = dst, 1
	return true
}

// packKept packs all of b into dst.
func (b *backend) packKept(dst *C.float, g *C.gemm_args) {
	blocks := (int(g.n) + tileBlock - 1) / tileBlock
	b.parallel(blocks, 0, func(i int, _ *C.float) {
		C.run_amx_pack_cols(b.tiles, (*C.uint16_t)(unsafe.Pointer(dst)), g.b, g.n, g.k, C.long(i), C.long(i+1))
	})
}
