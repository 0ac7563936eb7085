// Package reference implements kernels.Backend as the shortest loops that say
// what each operation means. It is the specification that other backends are
// compared with, so nothing here is optimized.
//
// Every operation reads its operands as float64, computes in float64 and rounds
// each result once, to nearest even, to the type of the tensor that receives it.
// Sums run in the order of rows, of channels and of keys. Wrong shapes, ids and
// rows panic, naming the operation and the shapes of all operands.
package reference

import (
	"fmt"
	"maps"
	"unsafe"

	"rmtrain/kernels"
)

type backend struct {
	act, stat kernels.DType // types of activations and weights, and of statistics
	live      map[*kernels.Buffer]allocation
	used      map[string]int64
}

type allocation struct {
	tag   string
	bytes int64
}

// New returns a backend whose activations and weights are of type dt: F64, F32 or
// BF16.
func New(dt kernels.DType) kernels.Backend {
	switch dt {
	case kernels.F64, kernels.F32, kernels.BF16:
		return &backend{
			act:  dt,
			stat: dt.Stat(),
			live: map[*kernels.Buffer]allocation{},
			used: map[string]int64{},
		}
	}
	panic(fmt.Sprintf("reference: cannot compute in %v", dt))
}

func (b *backend) Name() string { return fmt.Sprintf("reference(%v)", b.act) }

// Close drops the accounting; the memory is the garbage collector's.
func (b *backend) Close() error {
	clear(b.live)
	clear(b.used)
	return nil
}

func (b *backend) Sync() error { return nil }

func (b *backend) Alloc(tag string, dt kernels.DType, shape ...int) (kernels.Tensor, error) {
	t := kernels.Tensor{DType: dt, Shape: [3]int{1, 1, 1}}
	if len(shape) == 0 || len(shape) > len(t.Shape) {
		panic(fmt.Sprintf("reference: Alloc %s: %d dimensions, want 1 to 3", tag, len(shape)))
	}
	for i, n := range shape {
		if n < 0 {
			panic(fmt.Sprintf("reference: Alloc %s: negative dimension in %v", tag, shape))
		}
		t.Shape[i] = n
	}
	words := make([]uint64, (t.Bytes()+7)/8+1) // aligned for every element type
	t.Buf = &kernels.Buffer{Host: unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words))[:t.Bytes()]}
	b.live[t.Buf] = allocation{tag, int64(t.Bytes())}
	b.used[tag] += int64(t.Bytes())
	return t, nil
}

// Free gives back the whole buffer of t. Freeing a tensor without a buffer does
// nothing; freeing one twice panics.
func (b *backend) Free(t kernels.Tensor) {
	if t.Buf == nil {
		return
	}
	a, ok := b.live[t.Buf]
	if !ok {
		panic(fmt.Sprintf("reference: Free %v: not allocated here, or freed before", t.Shape))
	}
	delete(b.live, t.Buf)
	t.Buf.Host = nil
	if b.used[a.tag] -= a.bytes; b.used[a.tag] == 0 {
		delete(b.used, a.tag)
	}
}

func (b *backend) Used() map[string]int64 { return maps.Clone(b.used) }

func (b *backend) Upload(dst kernels.Tensor, src []byte) {
	wantBytes("Upload", dst, src)
	copy(raw(dst), src)
}

func (b *backend) Download(dst []byte, src kernels.Tensor) {
	wantBytes("Download", src, dst)
	copy(dst, raw(src))
}

func wantBytes(op string, t kernels.Tensor, host []byte) {
	if len(host) != t.Bytes() {
		panic(fmt.Sprintf("reference: %s: %d bytes for %v%v, which has %d", op, len(host), t.DType, t.Shape, t.Bytes()))
	}
}
