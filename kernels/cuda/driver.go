//go:build nvidia

package cuda

// #include <cuda.h>
import "C"

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"
)

// What package cu lacks of the driver's interface.

// pinned returns n bytes of page-locked host memory, which copies to and from the device
// need to be asynchronous. Package cu has only its counterpart, MemFreeHost.
func pinned(n int) ([]byte, error) {
	var p unsafe.Pointer
	if e := C.cuMemAllocHost(&p, C.size_t(n)); e != C.CUDA_SUCCESS {
		return nil, fmt.Errorf("%d bytes of page-locked memory: CUDA error %d", n, int(e))
	}
	return unsafe.Slice((*byte)(p), n), nil
}

// allowShared lets launches of a kernel have so many bytes of dynamic shared memory, which
// is needed above 48 KiB.
func allowShared(f cu.Function, bytes int) error {
	function := *(*C.CUfunction)(unsafe.Pointer(&f)) // its only field
	if e := C.cuFuncSetAttribute(function, C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(bytes)); e != C.CUDA_SUCCESS {
		return fmt.Errorf("%d bytes of shared memory: CUDA error %d", bytes, int(e))
	}
	return nil
}
