//go:build nvidia

package cuda

import (
	"unsafe"

	"gorgonia.org/cu"
)

// A ring is page-locked memory through which uploads go, so that neither do they wait for
// the operations before them, nor has the caller to keep its bytes.
type ring struct {
	mem  []byte
	done [slots]cu.Event // when the slot's last copy is done
	used [slots]bool
	next int
}

const (
	slots     = 8
	slotBytes = 4 << 20
)

// upload copies src to the device in the order of operations.
func (r *ring) upload(s cu.Stream, to address, src []byte) error {
	if err := r.open(); err != nil {
		return err
	}
	for len(src) > 0 {
		n := min(len(src), slotBytes)
		if err := r.copy(s, to, src[:n]); err != nil {
			return err
		}
		to, src = to+address(n), src[n:]
	}
	return nil
}

func (r *ring) copy(s cu.Stream, to address, src []byte) error {
	i := r.next
	r.next = (i + 1) % slots
	if r.used[i] {
		if err := r.done[i].Synchronize(); err != nil {
			return err
		}
	}
	slot := r.mem[i*slotBytes:][:len(src)]
	copy(slot, src)
	if err := cu.MemcpyHtoDAsync(cu.DevicePtr(to), unsafe.Pointer(unsafe.SliceData(slot)), int64(len(slot)), s); err != nil {
		return err
	}
	r.used[i] = true
	return r.done[i].Record(s)
}

func (r *ring) open() (err error) {
	if r.mem != nil {
		return nil
	}
	if r.mem, err = pinned(slots * slotBytes); err != nil {
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
		first := d.stream.Synchronize()
		for i := range r.done {
			if r.done[i] == (cu.Event{}) {
				continue
			}
			if err := cu.DestroyEvent(&r.done[i]); first == nil {
				first = err
			}
		}
		if err := cu.MemFreeHost(unsafe.Pointer(unsafe.SliceData(r.mem))); first == nil {
			first = err
		}
		*r = ring{}
		return first
	})
}
