package cpu

import (
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// quietMonitor makes the threads that the process has now, Go's monitor among them,
// wait for a core until it is free or a time slice ends. The monitor wakes up every
// 20 µs for some milliseconds whenever it has seen C run for 10 ms, and each time it
// interrupts a kernel, which costs that core a fifth to a third of its rate. The
// policy is that of sched(7) for batch work; it needs no rights, threads and processes
// that are started later do not inherit it, and a policy that somebody chose stays. A
// system that does not allow it is slower, so the answer does not matter.
var quietMonitor = sync.OnceFunc(func() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		attr, err := unix.SchedGetAttr(id, 0)
		if err != nil || attr.Policy != unix.SCHED_NORMAL {
			continue
		}
		attr.Policy = unix.SCHED_BATCH
		attr.Flags = unix.SCHED_FLAG_RESET_ON_FORK
		_ = unix.SchedSetAttr(id, attr, 0)
	}
})
