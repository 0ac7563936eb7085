package cpu

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"rmtrain/kernels"
)

// fenced moves x to memory that ends where an unreadable page begins, so that an
// operation which reads or writes past the end crashes.
func fenced(t *testing.T, x kernels.Tensor) kernels.Tensor {
	t.Helper()
	page := unix.Getpagesize()
	size := (x.Bytes() + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, size+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mprotect(mem[size:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	copy(mem[size-x.Bytes():size], raw(x))
	x.Buf, x.Off = &kernels.Buffer{Host: mem[size-x.Bytes() : size]}, 0
	return x
}

func TestNothingPastTheEndIsTouched(t *testing.T) {
	each(t, func(t *testing.T, b *backend) {
		for _, rows := range []int{20, 23} {
			for _, op := range suiteOn(t, b, rows, func(x kernels.Tensor) kernels.Tensor { return fenced(t, x) }) {
				op.run()
			}
		}
	})
}

// TestScratchIsLargeEnough runs operations that use scratch memory with a mark
// behind the part that they asked for.
func TestScratchIsLargeEnough(t *testing.T) {
	if fenceBytes > 0 {
		t.Skip("AddressSanitizer watches all scratch memory")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const mark = 0x5a
	marked := func(t *testing.T, b *backend, name string, need int, op func()) {
		t.Helper()
		op() // grows scratch to at least need floats
		slack := b.workers[0].mem[4*need:]
		for i := range slack {
			slack[i] = mark
		}
		op()
		for i, got := range slack {
			if got != mark {
				t.Fatalf("%s writes %d bytes past its %d floats of scratch", name, i, need)
			}
		}
	}
	each(t, func(t *testing.T, b *backend) {
		r := rand.New(rand.NewPCG(11, 12))
		for _, h := range []kernels.Heads{{Q: 1, KV: 1, Dim: 1}, {Q: 6, KV: 2, Dim: 24}, {Q: 8, KV: 1, Dim: 64, Window: 30}} {
			for _, n := range []int{1, 56, 57, 224, 225, 448} {
				qkv, dqkv := filled(t, b, r, b.act, n, h.QKV()), filled(t, b, nil, b.act, n, h.QKV())
				out, lse := filled(t, b, r, b.act, n, h.Q*h.Dim), filled(t, b, nil, kernels.F32, n, h.Q)
				segs := []kernels.Segment{{Hi: int32(n)}}
				a := arguments(h)
				b.cut(segs, h, math.MaxInt)
				b.dropScratch(t)
				marked(t, b, "Attention", b.attentionScratch(&a), func() { b.Attention(out, lse, qkv, segs, h) })
				b.cut(segs, h, mostParts)
				marked(t, b, "AttentionBack", b.attentionScratch(&a), func() { b.AttentionBack(dqkv, out, out, lse, qkv, segs, h) })
			}
		}
		const m, n, k = 131, 515, 1030
		x, w, y := filled(t, b, r, b.act, m, k), filled(t, b, r, b.act, n, k), filled(t, b, nil, b.act, m, n)
		need := int(b.set.gemm_scratch)
		if b.act == kernels.BF16 {
			mc, _ := plan(m, n, maxRows, int(b.set.tile_rows), int(b.set.tile_cols), int(b.set.gemm_cols), vectorCosts)
			need += mc * int(b.set.gemm_cols)
		}
		if b.onTiles() {
			mc, nc := b.tilePlan(m, n, k)
			need = b.tileScratch(mc, nc, k)
		}
		b.dropScratch(t)
		marked(t, b, "MatMul", need, func() { b.MatMul(y, x, w, kernels.NT, true) })
	})
}

// dropScratch makes the next operation allocate scratch memory of its own size.
func (b *backend) dropScratch(t *testing.T) {
	t.Helper()
	for i := range b.workers {
		if err := b.workers[i].free(); err != nil {
			t.Fatal(err)
		}
	}
}
