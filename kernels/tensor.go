package kernels

import "fmt"

// A DType is an element type.
type DType uint8

const (
	F32 DType = iota
	BF16
	I32
	F64 // kernels/reference only: the oracle that others are checked against
)

// Size returns the bytes of one element.
func (d DType) Size() int { return [...]int{4, 2, 4, 8}[d] }

// String returns the name that safetensors files use.
func (d DType) String() string { return [...]string{"F32", "BF16", "I32", "F64"}[d] }

// Stat returns the type of statistics, scores and gradients of weights for
// compute type d.
func (d DType) Stat() DType {
	if d == F64 {
		return F64
	}
	return F32
}

// A Buffer is memory that a Backend allocated.
type Buffer struct {
	Host []byte  // the memory, if the CPU can address it
	Dev  uintptr // its device address, otherwise
}

// A Tensor is a contiguous, row-major view of a Buffer. It is a plain value:
// copying it copies the view, not the elements.
type Tensor struct {
	DType DType
	Shape [3]int // unused dimensions are 1
	Buf   *Buffer
	Off   int // in bytes
}

// Len returns the number of elements.
func (t Tensor) Len() int { return t.Shape[0] * t.Shape[1] * t.Shape[2] }

// Bytes returns the size of the elements in bytes.
func (t Tensor) Bytes() int { return t.Len() * t.DType.Size() }

// Rows and Cols return the first two dimensions.
func (t Tensor) Rows() int { return t.Shape[0] }
func (t Tensor) Cols() int { return t.Shape[1] }

// Slice returns rows [lo, hi) of t.
func (t Tensor) Slice(lo, hi int) Tensor {
	if lo < 0 || hi < lo || hi > t.Shape[0] {
		panic(fmt.Sprintf("kernels: slice [%d:%d) of %v", lo, hi, t.Shape))
	}
	t.Off += lo * t.Shape[1] * t.Shape[2] * t.DType.Size()
	t.Shape[0] = hi - lo
	return t
}
