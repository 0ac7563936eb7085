//go:build nvidia

package cuda

import (
	"fmt"
	"strings"

	"rmtrain/kernels"
)

// misfit is the panic for operands of wrong types or shapes.
func misfit(op string, operands ...kernels.Tensor) string {
	names := make([]string, len(operands))
	for i, t := range operands {
		names[i] = t.String()
	}
	return fmt.Sprintf("cuda: %s: operands do not fit: %s", op, strings.Join(names, " "))
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

// pack is the number of elements that a thread loads at a time, PACK of device.cuh.
const pack = 8

// quad is that of kernels whose operands are mostly float32, QUAD of device.cuh.
const quad = 4

// aligned reports, as a kernel's last argument, whether rows of cols elements can be loaded
// in packs at these addresses.
func aligned(cols int, at ...address) int32 {
	if cols%pack != 0 {
		return 0
	}
	for _, a := range at {
		if a%16 != 0 {
			return 0
		}
	}
	return 1
}

// up returns how many runs of unit cover n.
func up(n, unit int) int { return (n + unit - 1) / unit }

// line is a block of n threads.
func line(n int) dim { return dim{n, 1, 1} }

// rowBlock is the block of a kernel that has one for each row of cols elements: it must
// depend on cols alone, as the order of sums depends on it.
func rowBlock(cols int) dim { return line(min(256, 32*up(up(cols, pack), 32))) }
