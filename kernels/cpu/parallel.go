package cpu

import "C"

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// threads is the number of goroutines that an operation runs on.
func threads() int { return runtime.GOMAXPROCS(0) }

// parallel runs task(0) ... task(n-1), each once, unless the backend has failed or is dry.
// Tasks are handed out one by one, so they may differ in cost. Each goroutine has
// need floats of scratch memory.
func (b *backend) parallel(n, need int, task func(i int, scratch *C.float)) {
	count := min(threads(), n)
	if b.dry { // another batch may have more tasks
		count = threads()
	}
	if b.err != nil || !b.scratch(count, need) || b.dry {
		return
	}
	if count <= 1 {
		for i := range n {
			task(i, b.scratchOf(0, need))
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	work := func(worker int) {
		mem := b.scratchOf(worker, need)
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			task(i, mem)
		}
	}
	for w := 1; w < count; w++ {
		wg.Go(func() { work(w) })
	}
	work(0)
	wg.Wait()
}

// scratch makes room for need floats for each of n goroutines.
func (b *backend) scratch(n, need int) bool {
	if need == 0 {
		return true
	}
	for len(b.workers) < n {
		b.workers = append(b.workers, region{})
	}
	for i := range n {
		b.fail(b.workers[i].grow(need))
	}
	return b.err == nil
}

func (b *backend) scratchOf(worker, need int) *C.float {
	if need == 0 {
		return nil
	}
	return cfloats(b.workers[worker].floats())
}

// runs calls f for runs [lo, hi) that cover [0, n), each of a multiple of unit
// except the last.
func (b *backend) runs(n, unit int, f func(lo, hi int)) {
	units := (n + unit - 1) / unit
	step := max(1, (units+4*threads()-1)/(4*threads())) * unit
	b.parallel((n+step-1)/step, 0, func(i int, _ *C.float) { f(i*step, min(n, (i+1)*step)) })
}
