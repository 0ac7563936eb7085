package cpu

// #include <stdint.h>
import "C"

import (
	"fmt"
	"strings"
	"unsafe"

	"rmtrain/kernels"
)

// misfit is the panic for operands of wrong types or shapes.
func misfit(op string, operands ...kernels.Tensor) string {
	names := make([]string, len(operands))
	for i, t := range operands {
		names[i] = t.String()
	}
	return fmt.Sprintf("cpu: %s: operands do not fit: %s", op, strings.Join(names, " "))
}

// matrix reports whether t is contiguous, of type dt and shape [rows, cols].
func matrix(t kernels.Tensor, dt kernels.DType, rows, cols int) bool {
	return t.Stride == 0 && columns(t, dt, rows, cols)
}

// columns reports whether t, which may be columns of a tensor, is of type dt and shape
// [rows, cols].
func columns(t kernels.Tensor, dt kernels.DType, rows, cols int) bool {
	return t.DType == dt && t.Shape == [3]int{rows, cols, 1}
}

// vector reports whether t has n elements of type dt along one axis.
func vector(t kernels.Tensor, dt kernels.DType, n int) bool {
	return t.DType == dt && (t.Shape == [3]int{n, 1, 1} || t.Shape == [3]int{1, n, 1})
}

// indices returns the elements of t, which must be in [0, limit): C does not check.
func indices(op, kind string, t kernels.Tensor, limit int) []int32 {
	v := unsafe.Slice((*int32)(ptr(t)), t.Len())
	for i, x := range v {
		if x < 0 || int(x) >= limit {
			panic(fmt.Sprintf("cpu: %s: %s %d at %d is outside of [0, %d)", op, kind, x, i, limit))
		}
	}
	return v
}

func wantBytes(op string, t kernels.Tensor, host []byte) {
	if len(host) != t.Bytes() {
		panic(fmt.Sprintf("cpu: %s: %d bytes for %v%v, which has %d", op, len(host), t.DType, t.Shape, t.Bytes()))
	}
}

// raw returns the bytes of t. It panics if t is not contiguous within a live buffer.
func raw(t kernels.Tensor) []byte {
	if t.Stride != 0 {
		panic(fmt.Sprintf("cpu: %v is not contiguous", t))
	}
	return span(t)
}

// span returns the bytes of t, which may be columns of a tensor, and those between them.
func span(t kernels.Tensor) []byte {
	if t.Buf == nil || t.Buf.Host == nil {
		panic(fmt.Sprintf("cpu: %v has no memory here", t))
	}
	return t.Buf.Host[t.Off:][:t.Span()]
}

// ptr returns where t begins, rowPtr where its row r does, and columnsPtr where t does
// that may be columns of a tensor, for C.
func ptr(t kernels.Tensor) unsafe.Pointer           { return unsafe.Pointer(unsafe.SliceData(raw(t))) }
func rowPtr(t kernels.Tensor, r int) unsafe.Pointer { return ptr(t.Slice(r, t.Rows())) }
func columnsPtr(t kernels.Tensor) unsafe.Pointer    { return unsafe.Pointer(unsafe.SliceData(span(t))) }

// float32s returns the elements of an F32 tensor.
func float32s(t kernels.Tensor) []float32 { return unsafe.Slice((*float32)(ptr(t)), t.Len()) }

// The types of C for pointers into tensors and scratch memory.
func floats(t kernels.Tensor) *C.float { return (*C.float)(ptr(t)) }
func cfloats(x []float32) *C.float     { return (*C.float)(unsafe.Pointer(unsafe.SliceData(x))) }
func ints(v []int32) *C.int32_t        { return (*C.int32_t)(unsafe.Pointer(unsafe.SliceData(v))) }
