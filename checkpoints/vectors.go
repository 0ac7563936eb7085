package checkpoints

/*
#cgo CFLAGS: -O3 -std=gnu11 -Wall
#include "vectors.h"
*/
import "C"

import "unsafe"

// widenBF16 converts bfloat16 to float32. This and narrowFloat are C since opening a model
// of the other type would wait for the same loops in Go.
func widenBF16(d, s []byte) {
	n := len(s) / 2
	C.bf16_to_float(first(d, 4*n), first(s, 2*n), C.long(n))
}

// narrowFloat converts float32 to bfloat16.
func narrowFloat(d, s []byte) {
	n := len(s) / 4
	C.float_to_bf16(first(d, 2*n), first(s, 4*n), C.long(n))
}

// first returns where p begins, which has at least n bytes.
func first(p []byte, n int) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(p[:n])) }
