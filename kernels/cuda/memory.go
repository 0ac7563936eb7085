//go:build nvidia

package cuda

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"gorgonia.org/cu"

	"rmtrain/kernels"
)

// memory is the part of a backend that holds tensors, and its first failure.
type memory struct {
	device *device
	mu     *sync.Mutex // a report of memory may come from another goroutine
	live   map[*kernels.Buffer]*allocation
	used   map[string]int64
	ring   ring // of the stream that computes
	bulk   ring // of the other
	err    error
}

type allocation struct {
	touch
	tag   string
	bytes int64
}

func newMemory(d *device) memory {
	return memory{device: d, mu: new(sync.Mutex), live: map[*kernels.Buffer]*allocation{}, used: map[string]int64{},
		ring: ring{stream: &d.compute, bytes: bulkBytes}, bulk: ring{stream: &d.copies, bytes: bulkSlot}}
}

// fail keeps the first failure.
func (m *memory) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// Alloc returns zeroed memory of its own; see kernels.Memory.
func (m *memory) Alloc(tag string, dt kernels.DType, shape ...int) (kernels.Tensor, error) {
	t := kernels.Tensor{DType: dt, Shape: [3]int{1, 1, 1}}
	if len(shape) == 0 || len(shape) > len(t.Shape) {
		panic(fmt.Sprintf("cuda: Alloc %s: %d dimensions, want 1 to 3", tag, len(shape)))
	}
	elements := 1
	for i, n := range shape {
		if n < 0 {
			panic(fmt.Sprintf("cuda: Alloc %s: negative dimension in %v", tag, shape))
		}
		if n > 0 && elements > math.MaxInt/16/n {
			return kernels.Tensor{}, fmt.Errorf("cuda: allocate %s %v: more than any memory", tag, shape)
		}
		elements *= n
		t.Shape[i] = n
	}
	if m.err != nil {
		return kernels.Tensor{}, m.err
	}
	at, err := m.device.alloc(max(t.Bytes(), 1))
	if err != nil {
		return kernels.Tensor{}, m.refused(err, tag, t)
	}
	t.Buf = &kernels.Buffer{Dev: uintptr(at)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live[t.Buf] = &allocation{touch{computed: m.device.compute.run}, tag, int64(t.Bytes())} // it is being cleared
	m.used[tag] += int64(t.Bytes())
	return t, nil
}

// refused says what the device's memory is in use for.
func (m *memory) refused(err error, tag string, t kernels.Tensor) error {
	free, total := "unknown", "unknown"
	m.device.with(func() error {
		f, n, err := cu.MemInfo()
		if err == nil {
			free, total = gib(f), gib(n)
		}
		return err
	})
	return fmt.Errorf("cuda: allocate %s of %s %v%v on %s: %w; %s of %s GiB are free, in use here are %s GiB (use smaller batches, or recompute)",
		gib(int64(t.Bytes()))+" GiB", tag, t.DType, t.Shape, m.device.name, err, free, total, m.table())
}

// Available returns the bytes of the device's memory that nobody uses.
func (m *memory) Available() (free int64, err error) {
	err = m.device.with(func() error {
		free, _, err = cu.MemInfo()
		return err
	})
	return free, err
}

// table lists the bytes in use by tag, the largest first.
func (m *memory) table() string {
	used := m.Used()
	tags := slices.SortedFunc(maps.Keys(used), func(a, b string) int {
		return cmp.Or(cmp.Compare(used[b], used[a]), strings.Compare(a, b))
	})
	for i, tag := range tags {
		tags[i] = tag + " " + gib(used[tag])
	}
	if len(tags) == 0 {
		return "0"
	}
	return strings.Join(tags, ", ")
}

func gib(bytes int64) string { return fmt.Sprintf("%.3g", float64(bytes)/(1<<30)) }

// Free gives back the whole buffer of t once all operations are done. Freeing a tensor
// without a buffer does nothing; freeing one twice panics.
func (m *memory) Free(t kernels.Tensor) {
	if t.Buf == nil {
		return
	}
	m.mu.Lock()
	a, ok := m.live[t.Buf]
	if !ok {
		m.mu.Unlock()
		panic(fmt.Sprintf("cuda: Free %v%v: not allocated here, or freed before", t.DType, t.Shape))
	}
	delete(m.live, t.Buf)
	if m.used[a.tag] -= a.bytes; m.used[a.tag] == 0 {
		delete(m.used, a.tag)
	}
	m.mu.Unlock()
	if err := m.device.free(address(t.Buf.Dev)); err != nil {
		m.fail(fmt.Errorf("cuda: free %s: %w", a.tag, err))
	}
	t.Buf.Dev = 0
}

// Used returns the bytes of live tensors and of scratch memory by tag. It may be called
// while an operation runs.
func (m *memory) Used() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	used := maps.Clone(m.used)
	if n := m.device.scratch.Load(); n > 0 {
		used[kernels.ScratchTag] = n
	}
	return used
}

func (m *memory) close(scratch ...*region) error {
	for buf := range m.live {
		if err := m.device.free(address(buf.Dev)); err != nil {
			m.fail(fmt.Errorf("cuda: free: %w", err))
		}
		buf.Dev = 0
	}
	clear(m.live)
	clear(m.used)
	err := m.err
	for _, r := range scratch {
		err = errors.Join(err, m.device.release(r))
	}
	return errors.Join(err, m.ring.close(m.device), m.bulk.close(m.device))
}

// addr returns where t begins for an operation, which comes after the uploads into t. It
// panics if t is not contiguous within a live buffer.
func (m *memory) addr(t kernels.Tensor) address {
	wantContiguous(t)
	return m.columnsAddr(t)
}

// columnsAddr is addr of what may be columns of a tensor.
func (m *memory) columnsAddr(t kernels.Tensor) address {
	a, at := m.locate(t)
	if err := m.device.beforeOperation(&a.touch); err != nil {
		m.fail(fmt.Errorf("cuda: wait for an upload: %w", err))
	}
	return at
}

// locate returns the allocation that holds t, and where t begins.
func (m *memory) locate(t kernels.Tensor) (*allocation, address) {
	m.mu.Lock()
	a, ok := m.live[t.Buf]
	m.mu.Unlock()
	if !ok || t.Off < 0 || int64(t.Off+t.Span()) > a.bytes {
		panic(fmt.Sprintf("cuda: %v has no memory here", t))
	}
	return a, address(t.Buf.Dev) + address(t.Off)
}

// Upload copies src to dst. It has taken its copy when it returns.
func (m *memory) Upload(dst kernels.Tensor, src []byte) {
	wantBytes("Upload", dst, src)
	m.Fill(dst, from(src))
}

// from returns what fills pieces of an upload of src.
func from(src []byte) fill {
	return func(p []byte, off int64) error {
		copy(p, src[off:])
		return nil
	}
}

// Fill makes dst what read puts into pieces of the ring; see kernels.Filler.
func (m *memory) Fill(dst kernels.Tensor, read func(p []byte, off int64) error) error {
	wantContiguous(dst)
	a, to := m.locate(dst)
	if m.err != nil {
		return m.err
	}
	err := m.device.with(func() error {
		if dst.Bytes() < bulkBytes {
			if err := m.device.beforeOperation(&a.touch); err != nil {
				return err
			}
			return m.ring.send(to, dst.Bytes(), read)
		}
		if err := m.device.beforeCopy(&a.touch); err != nil {
			return err
		}
		return m.bulk.send(to, dst.Bytes(), read)
	})
	var failed fillError
	if errors.As(err, &failed) {
		return failed.error
	}
	if err != nil {
		m.fail(fmt.Errorf("cuda: upload: %w", err))
	}
	return m.err
}

// Download copies src to dst when all operations are done.
func (m *memory) Download(dst []byte, src kernels.Tensor) {
	wantBytes("Download", src, dst)
	wantContiguous(src)
	_, from := m.locate(src)
	if m.err != nil || len(dst) == 0 {
		return
	}
	err := m.device.with(func() error {
		if err := m.device.settle(); err != nil {
			return err
		}
		return cu.MemcpyDtoH(unsafe.Pointer(unsafe.SliceData(dst)), cu.DevicePtr(from), int64(len(dst)))
	})
	if err != nil {
		m.fail(fmt.Errorf("cuda: download: %w", err))
	}
}

func wantContiguous(t kernels.Tensor) {
	if t.Stride != 0 {
		panic(fmt.Sprintf("cuda: %v is not contiguous", t))
	}
}

func wantBytes(op string, t kernels.Tensor, host []byte) {
	if len(host) != t.Bytes() {
		panic(fmt.Sprintf("cuda: %s: %d bytes for %v, which has %d", op, len(host), t, t.Bytes()))
	}
}

// alloc returns n zeroed bytes of device memory.
func (d *device) alloc(n int) (at address, err error) {
	err = d.with(func() error {
		p, err := cu.MemAlloc(int64(n))
		if err == cu.OutOfMemory {
			return kernels.ErrOutOfMemory
		}
		if err != nil {
			return err
		}
		at = address(p)
		return d.clear(at, n)
	})
	return at, err
}

// clear zeroes n bytes as an operation does.
func (d *device) clear(at address, n int) error {
	if n == 0 {
		return nil
	}
	return cu.MemsetD8Async(cu.DevicePtr(at), 0, int64(n), d.compute.Stream)
}

// clearRows zeroes rows of so many bytes, each stride bytes after the one before.
func (d *device) clearRows(at address, rows, bytes, stride int) error {
	if bytes == stride || rows*bytes == 0 {
		return d.clear(at, rows*bytes)
	}
	return cu.MemsetD2D8Async(cu.DevicePtr(at), int64(stride), 0, int64(bytes), int64(rows), d.compute.Stream)
}

// free waits for both streams, whose work may still use the memory.
func (d *device) free(at address) error {
	return d.with(func() error {
		err := d.settle()
		return cmp.Or(err, cu.MemFree(cu.DevicePtr(at)))
	})
}

// A region is scratch memory of operations: the stream that computes alone uses it. The zero
// region is empty.
type region struct {
	at    address
	bytes int
}

// grow makes r hold at least n bytes, with room to spare so that a slowly growing batch does
// not move it each time. The contents are lost if it moves.
func (d *device) grow(r *region, n int) error {
	if n <= r.bytes {
		return nil
	}
	if err := d.release(r); err != nil {
		return fmt.Errorf("free scratch memory: %w", err)
	}
	n += n / 4
	at, err := d.alloc(n)
	if err != nil {
		return fmt.Errorf("allocate %d bytes of scratch memory: %w", n, err)
	}
	*r = region{at, n}
	d.scratch.Add(int64(n))
	return nil
}

func (d *device) release(r *region) error {
	if r.bytes == 0 {
		return nil
	}
	at := r.at
	d.scratch.Add(-int64(r.bytes))
	*r = region{}
	return d.free(at)
}
