package cpu

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"rmtrain/kernels"
)

// A region is memory outside the Go heap, so that C may hold pointers into it and
// the garbage collector never looks at it. The zero region is empty.
type region struct {
	mem    []byte
	mapped []byte        // mem and the fence behind it
	total  *atomic.Int64 // of scratch memory, in bytes; nil for other regions
	most   bool          // it grows to what it may hold, whatever it has been before
}

// hugePageMin is the size from which a region asks for huge pages.
const hugePageMin = 4 << 20

func newRegion(bytes int) (region, error) {
	mapped, err := unix.Mmap(-1, 0, max(bytes+fenceBytes, 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return region{}, fmt.Errorf("cpu: allocate %d bytes: %w", bytes, err)
	}
	if bytes >= hugePageMin {
		adviseHugePages(mapped)
	}
	fence(mapped, bytes)
	return region{mem: mapped[:bytes:bytes], mapped: mapped}, nil
}

func (r *region) free() error {
	if r.mapped == nil {
		return nil
	}
	mapped := r.mapped
	r.count(-len(r.mem))
	r.mem, r.mapped = nil, nil
	fence(mapped, len(mapped)) // others may get these addresses
	return unix.Munmap(mapped)
}

// grow makes r hold at least n floats, with room to spare so that a slowly growing
// batch does not move it each time. The contents are lost if it moves.
func (r *region) grow(n int) error {
	roomy := 4 * (n + n/4)
	if 4*n > len(r.mem) || r.most && roomy > len(r.mem) {
		if err := r.free(); err != nil {
			return fmt.Errorf("cpu: free scratch memory: %w", err)
		}
		grown, err := newRegion(roomy)
		if err != nil {
			return err
		}
		r.mem, r.mapped = grown.mem, grown.mapped
		r.count(len(r.mem))
	}
	fence(r.mapped, 4*n)
	return nil
}

func (r *region) count(bytes int) {
	if r.total != nil {
		r.total.Add(int64(bytes))
	}
}

func (r *region) floats() []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(r.mem))), len(r.mem)/4)
}

// memory is the part of a backend that holds tensors, and its first failure.
type memory struct {
	mu   *sync.Mutex // a report of memory may come from another goroutine
	live map[*kernels.Buffer]allocation
	used map[string]int64
	kept map[*kernels.Buffer][]*kept // other forms of tensors
	held *atomic.Int64               // bytes of scratch memory
	err  error
}

type allocation struct {
	region
	tag   string
	bytes int64
}

func newMemory() memory {
	return memory{mu: new(sync.Mutex), live: map[*kernels.Buffer]allocation{}, used: map[string]int64{}, kept: map[*kernels.Buffer][]*kept{}, held: new(atomic.Int64)}
}

// Alloc returns zeroed memory; see kernels.Memory.
func (m *memory) Alloc(tag string, dt kernels.DType, shape ...int) (kernels.Tensor, error) {
	t := kernels.Tensor{DType: dt, Shape: [3]int{1, 1, 1}}
	if len(shape) == 0 || len(shape) > len(t.Shape) {
		panic(fmt.Sprintf("cpu: Alloc %s: %d dimensions, want 1 to 3", tag, len(shape)))
	}
	elements := 1
	for i, n := range shape {
		if n < 0 {
			panic(fmt.Sprintf("cpu: Alloc %s: negative dimension in %v", tag, shape))
		}
		if n > 0 && elements > math.MaxInt/16/n {
			return kernels.Tensor{}, fmt.Errorf("cpu: allocate %s %v: more than any memory", tag, shape)
		}
		elements *= n
		t.Shape[i] = n
	}
	r, err := newRegion(t.Bytes())
	if err != nil {
		return kernels.Tensor{}, fmt.Errorf("%w for %s %v", err, tag, shape)
	}
	t.Buf = &kernels.Buffer{Host: r.mem}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live[t.Buf] = allocation{r, tag, int64(t.Bytes())}
	m.used[tag] += int64(t.Bytes())
	return t, nil
}

// Free gives back the whole buffer of t. Freeing a tensor without a buffer does
// nothing; freeing one twice panics.
func (m *memory) Free(t kernels.Tensor) {
	if t.Buf == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.live[t.Buf]
	if !ok {
		panic(fmt.Sprintf("cpu: Free %v%v: not allocated here, or freed before", t.DType, t.Shape))
	}
	m.fail(m.release(t.Buf, a))
}

func (m *memory) release(buf *kernels.Buffer, a allocation) error {
	delete(m.live, buf)
	buf.Host = nil
	m.discount(a.tag, a.bytes)
	err := a.free()
	for _, p := range m.kept[buf] {
		m.discount(kernels.KeptTag, p.bytes)
		err = errors.Join(err, p.free())
	}
	delete(m.kept, buf)
	return err
}

func (m *memory) discount(tag string, bytes int64) {
	if m.used[tag] -= bytes; m.used[tag] == 0 {
		delete(m.used, tag)
	}
}

func (m *memory) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for buf, a := range m.live {
		m.fail(m.release(buf, a))
	}
	return m.err
}

// fail keeps the first failure.
func (m *memory) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// Used returns the bytes of live tensors, of their kept forms and of scratch memory by
// tag. It may be called while an operation runs.
func (m *memory) Used() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	used := maps.Clone(m.used)
	if n := m.held.Load(); n > 0 {
		used[kernels.ScratchTag] = n
	}
	return used
}

// Sync returns the first failure; all operations have finished when they return.
func (m *memory) Sync() error { return m.err }

// Upload copies src to dst.
func (m *memory) Upload(dst kernels.Tensor, src []byte) {
	wantBytes("Upload", dst, src)
	m.written(dst)
	if m.err == nil {
		copy(raw(dst), src)
	}
}

// Download copies src to dst.
func (m *memory) Download(dst []byte, src kernels.Tensor) {
	wantBytes("Download", src, dst)
	if m.err == nil {
		copy(dst, raw(src))
	}
}
