package cpu

import "golang.org/x/sys/unix"

// adviseHugePages asks for huge pages, which save a few percent of a training
// step. The kernel may not have any, so the answer does not matter.
func adviseHugePages(mem []byte) { _ = unix.Madvise(mem, unix.MADV_HUGEPAGE) }
