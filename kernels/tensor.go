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

// A Tensor is a row-major view of a Buffer, contiguous unless it was made by Columns. It
// is a plain value: copying it copies the view, not the elements.
type Tensor struct {
	DType DType
	Shape [3]int // unused dimensions are 1
	Buf   *Buffer
	Off   int // in bytes
	// Stride, if not 0, is how many elements after a row the next begins: more than a row
	// has, for it is one of Columns. Operations take such a tensor only where they say so.
	Stride int
}

// String returns the type and the shape, as messages show them.
func (t Tensor) String() string {
	if t.Stride != 0 {
		return fmt.Sprintf("%v%v of rows of %d", t.DType, t.Shape, t.Stride)
	}
	return fmt.Sprintf("%v%v", t.DType, t.Shape)
}

// Len returns the number of elements.
func (t Tensor) Len() int { return t.Shape[0] * t.Shape[1] * t.Shape[2] }

// Bytes returns the size of the elements in bytes.
func (t Tensor) Bytes() int { return t.Len() * t.DType.Size() }

// Rows and Cols return the first two dimensions.
func (t Tensor) Rows() int { return t.Shape[0] }
func (t Tensor) Cols() int { return t.Shape[1] }

// RowStride returns how many elements after a row the next begins.
func (t Tensor) RowStride() int {
	if t.Stride != 0 {
		return t.Stride
	}
	return t.Shape[1] * t.Shape[2]
}

// Span returns the bytes from the first element to the last: Bytes, if t is contiguous.
func (t Tensor) Span() int {
	if t.Len() == 0 {
		return 0
	}
	return ((t.Shape[0]-1)*t.RowStride() + t.Shape[1]*t.Shape[2]) * t.DType.Size()
}

// Slice returns rows [lo, hi) of t.
func (t Tensor) Slice(lo, hi int) Tensor {
	if lo < 0 || hi < lo || hi > t.Shape[0] {
		panic(fmt.Sprintf("kernels: slice [%d:%d) of %v", lo, hi, t))
	}
	t.Off += lo * t.RowStride() * t.DType.Size()
	t.Shape[0] = hi - lo
	return t
}

// Row returns row r of t, which is contiguous.
func (t Tensor) Row(r int) Tensor {
	t = t.Slice(r, r+1)
	t.Stride = 0
	return t
}

// Columns returns columns [lo, hi) of the matrix t.
func (t Tensor) Columns(lo, hi int) Tensor {
	if lo < 0 || hi < lo || hi > t.Shape[1] || t.Shape[2] != 1 {
		panic(fmt.Sprintf("kernels: columns [%d:%d) of %v", lo, hi, t))
	}
	if hi-lo == t.Shape[1] {
		return t
	}
	t.Stride = t.RowStride()
	t.Off += lo * t.DType.Size()
	t.Shape[1] = hi - lo
	return t
}
