package safetensors

import (
	"fmt"
	"math"
)

// bits holds the element types of the format and their size in bits. F4 and the
// six-bit types pack several elements into a byte.
var bits = map[string]int64{
	"F64": 64, "F32": 32, "F16": 16, "BF16": 16,
	"I64": 64, "I32": 32, "I16": 16, "I8": 8,
	"U64": 64, "U32": 32, "U16": 16, "U8": 8,
	"BOOL": 8, "C64": 64,
	"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}

// Size returns the bytes of a tensor. It fails for an unknown type, a negative
// dimension, a size that overflows, and one that does not end on a whole byte.
func Size(dtype string, shape []int) (int64, error) {
	b, ok := bits[dtype]
	if !ok {
		return 0, fmt.Errorf("unknown dtype %q", dtype)
	}
	n, empty := int64(1), false
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("negative dimension in shape %v", shape)
		}
		if d == 0 {
			empty = true
			continue
		}
		if n > math.MaxInt64/int64(d) {
			return 0, fmt.Errorf("shape %v overflows", shape)
		}
		n *= int64(d)
	}
	if empty {
		return 0, nil
	}
	if n > math.MaxInt64/b {
		return 0, fmt.Errorf("shape %v overflows", shape)
	}
	if n*b%8 != 0 {
		return 0, fmt.Errorf("shape %v of %s does not end on a whole byte", shape, dtype)
	}
	return n * b / 8, nil
}
