package cpu

// #include "await.h"
import "C"

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// linger is how long a worker looks out for the next operation. Operations of one
// pass follow each other within microseconds.
const linger = 200 * time.Microsecond

// A crew is the goroutines that run an operation beside the one that issues it. They
// end when no operation follows, but only after a while of looking out for one: a
// thread that sleeps takes tens of microseconds to wake, and may then be put on the
// core of the thread that woke it, where both get half of a core for milliseconds.
//
// Operations are issued one at a time. Who issues one writes work, then hands it to
// each worker by its state, and waits until none is left.
type crew struct {
	work    func(worker int)
	left    atomic.Int32 // workers that have not finished
	workers []*worker    // number i+1 is workers[i]
}

type worker struct {
	state atomic.Int32
	_     [60]byte // a cache line of its own
}

const (
	absent  = iota // no goroutine
	waiting        // a goroutine looks out for work
	working
)

// run calls work(0) ... work(count-1) at the same time and returns when all have
// returned.
func (c *crew) run(count int, work func(worker int)) {
	for len(c.workers) < count-1 {
		c.workers = append(c.workers, new(worker))
	}
	c.work = work
	c.left.Store(int32(count - 1))
	for i, w := range c.workers[:count-1] {
		if !w.state.CompareAndSwap(waiting, working) {
			w.state.Store(working)
			go c.serve(i + 1)
		}
	}
	work(0)
	for c.left.Load() != 0 {
		await(&c.left, 0)
	}
	c.work = nil
}

// serve does the work that worker number i is handed until none comes.
func (c *crew) serve(i int) {
	w := c.workers[i-1]
	for {
		c.work(i)
		w.state.Store(waiting)
		c.left.Add(-1)
		for end := time.Now().Add(linger); w.state.Load() == waiting; {
			await(&w.state, working)
			if time.Now().After(end) && w.state.CompareAndSwap(waiting, absent) {
				return
			}
		}
	}
}

// await returns when x has the value, or after some microseconds.
func await(x *atomic.Int32, value int32) {
	C.await((*C.int32_t)(unsafe.Pointer(x)), C.int32_t(value))
}
