package reference

import (
	"fmt"
	"strings"

	"rmtrain/kernels"
)

// want panics unless ok, naming the operation and all its operands.
func want(ok bool, op string, operands ...kernels.Tensor) {
	if ok {
		return
	}
	names := make([]string, len(operands))
	for i, t := range operands {
		names[i] = t.String()
	}
	panic(fmt.Sprintf("reference: %s: operands do not fit: %s", op, strings.Join(names, " ")))
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
	return t.Stride == 0 && t.DType == dt && (t.Shape == [3]int{n, 1, 1} || t.Shape == [3]int{1, n, 1})
}

// wantIndices panics unless all indices are in [0, n).
func wantIndices(op, kind string, indices []int32, n int) {
	for i, v := range indices {
		if v < 0 || int(v) >= n {
			panic(fmt.Sprintf("reference: %s: %s %d at %d is outside of [0, %d)", op, kind, v, i, n))
		}
	}
}
