//go:build nvidia

package cuda

import (
	"cmp"

	"gorgonia.org/cu"
)

// A stream is work that the device does in the order in which it is issued. There are two:
// one computes, the other takes large uploads, so that they need not wait for operations
// which do not use their destination.
//
// Work of a stream is numbered by runs, which end where the other stream or the host is told
// to wait for it. Each allocation knows the last run of either stream that may touch it, and the stream
// that touches it next waits for that run of the other unless it already does.
type stream struct {
	cu.Stream
	event cu.Event // ends runs
	run   uint64   // the number of the current one, from 1
	knows uint64   // runs of the other stream up to this one come before what is issued next
}

// A touch is the last run of each stream that may read or write some memory.
type touch struct{ computed, copied uint64 }

func (s *stream) open() (err error) {
	if s.Stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return err
	}
	s.run = 1
	s.event, err = cu.MakeEvent(cu.DisableTiming)
	return err
}

// follow makes what is issued to s from now on wait for a run of other and all before it.
func (s *stream) follow(other *stream, run uint64) error {
	if run <= s.knows {
		return nil
	}
	if err := other.event.Record(other.Stream); err != nil {
		return err
	}
	if err := s.Wait(other.event, 0); err != nil {
		return err
	}
	s.knows = other.run
	other.run++
	return nil
}

// close gives back what open took, as far as it came.
func (s *stream) close() (err error) {
	if s.event != (cu.Event{}) {
		err = cu.DestroyEvent(&s.event)
	}
	if s.Stream != (cu.Stream{}) {
		err = cmp.Or(err, s.Destroy())
	}
	return err
}

// beforeOperation orders what an operation does with memory of this touch after the uploads
// into it.
func (d *device) beforeOperation(t *touch) error {
	t.computed = d.compute.run
	if t.copied <= d.compute.knows {
		return nil
	}
	return d.with(func() error { return d.compute.follow(&d.copies, t.copied) })
}

// beforeCopy orders a copy on the other stream into memory of this touch after the operations
// that use it. It is called with the context current.
func (d *device) beforeCopy(t *touch) error {
	t.copied = d.copies.run
	return d.copies.follow(&d.compute, t.computed)
}

// settle waits for everything that was issued, which ends both streams' runs. It is called
// with the context current.
func (d *device) settle() error {
	if err := d.compute.Synchronize(); err != nil {
		return err
	}
	if err := d.copies.Synchronize(); err != nil {
		return err
	}
	d.compute.knows, d.copies.knows = d.copies.run, d.compute.run
	d.compute.run++
	d.copies.run++
	return nil
}
