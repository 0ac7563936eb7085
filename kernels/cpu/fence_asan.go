//go:build asan

package cpu

// #include <sanitizer/asan_interface.h>
import "C"

import "unsafe"

// fenceBytes is how much memory lies behind a region for fence to close.
const fenceBytes = 64

// fence makes AddressSanitizer report whoever touches mem beyond its first open bytes.
// It does not know by itself what is used of memory that was mapped.
func fence(mem []byte, open int) {
	p := unsafe.Pointer(unsafe.SliceData(mem))
	C.__asan_unpoison_memory_region(p, C.size_t(open))
	C.__asan_poison_memory_region(unsafe.Add(p, open), C.size_t(len(mem)-open))
}
