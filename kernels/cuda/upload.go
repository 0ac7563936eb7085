//go:build nvidia

package cuda

import (
	"cmp"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"
)

// A ring is page-locked memory through which uploads go to one stream, so that neither do
// they wait for the work before them, nor has the caller to keep its bytes.
type ring struct {
	stream *stream
	bytes  int // of a slot
	mem    []byte
	done   [slots]cu.Event // when the slot's last copy is done
	used   [slots]bool
	next   int
}

const (
	slots = 8
	// bulkBytes is the least of an upload that goes on the stream of its own. Up to two
	// records of an event and two waits come with it, and what is uploaded for each batch is
	// less and needed at once: the ids of 262,144 rows would be as much.
	bulkBytes = 1 << 20
	// bulkSlot takes 65 µs at the 64 GB/s that PCIe 5 has on paper, some times what it costs to
	// issue a copy.
	bulkSlot = 4 << 20
)

// A fill puts the bytes of an upload from off on into a piece of the ring.
type fill func(p []byte, off int64) error

// A fillError is that of a fill, not of the device.
type fillError struct{ error }

// send copies n bytes to the device in the order of the stream. If they take more than a
// slot, several goroutines fill slots at a time; this one makes all calls of the driver. It is
// called with the context current.
func (r *ring) send(to address, n int, f fill) error {
	if err := r.open(); err != nil {
		return err
	}
	ahead := min(slots, runtime.GOMAXPROCS(0))
	var pieces []piece // being filled
	for off := 0; off < n || len(pieces) > 0; {
		if off < n && len(pieces) < ahead {
			p, err := r.begin(off, min(r.bytes, n-off), f, n > r.bytes)
			if err != nil {
				wait(pieces)
				return err
			}
			pieces, off = append(pieces, p), off+len(p.mem)
			continue
		}
		if err := r.copy(pieces[0], to); err != nil {
			wait(pieces[1:])
			return err
		}
		pieces = pieces[1:]
	}
	return nil
}

// A piece is a slot that is being filled with what belongs at off.
type piece struct {
	slot   int
	mem    []byte
	off    int
	filled chan error
}

// begin fills the next slot, here or in a goroutine.
func (r *ring) begin(off, n int, f fill, aside bool) (piece, error) {
	p := piece{r.next, r.mem[r.next*r.bytes:][:n], off, make(chan error, 1)}
	r.next = (r.next + 1) % slots
	if r.used[p.slot] {
		if err := r.done[p.slot].Synchronize(); err != nil {
			return piece{}, err
		}
	}
	run := func() { p.filled <- f(p.mem, int64(off)) }
	if aside {
		go run()
	} else {
		run()
	}
	return p, nil
}

// copy issues the copy of a piece when it is filled.
func (r *ring) copy(p piece, to address) error {
	if err := <-p.filled; err != nil {
		return fillError{err}
	}
	from := unsafe.Pointer(unsafe.SliceData(p.mem))
	if err := cu.MemcpyHtoDAsync(cu.DevicePtr(to+address(p.off)), from, int64(len(p.mem)), r.stream.Stream); err != nil {
		return err
	}
	r.used[p.slot] = true
	return r.done[p.slot].Record(r.stream.Stream)
}

// wait returns when nobody fills a slot any more.
func wait(pieces []piece) {
	for _, p := range pieces {
		<-p.filled
	}
}

func (r *ring) open() (err error) {
	if r.mem != nil {
		return nil
	}
	if r.mem, err = pinned(slots * r.bytes); err != nil {
		return err
	}
	for i := range r.done {
		if r.done[i], err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return err
		}
	}
	return nil
}

func (r *ring) close(d *device) error {
	if r.mem == nil {
		return nil
	}
	return d.with(func() error {
		first := d.settle()
		for i := range r.done {
			if r.done[i] != (cu.Event{}) {
				first = cmp.Or(first, cu.DestroyEvent(&r.done[i]))
			}
		}
		first = cmp.Or(first, cu.MemFreeHost(unsafe.Pointer(unsafe.SliceData(r.mem))))
		*r = ring{stream: r.stream, bytes: r.bytes}
		return first
	})
}
