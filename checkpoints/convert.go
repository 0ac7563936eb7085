package checkpoints

import (
	"encoding/binary"
	"fmt"
	"math"
)

// sizeOf holds the element types that weights come in, and their bytes.
var sizeOf = map[string]int{"F64": 8, "F32": 4, "F16": 2, "BF16": 2}

func convertible(dtype string) bool { return sizeOf[dtype] > 0 }

// converter returns a function that converts whole slices of elements. F64 goes to
// BF16 directly: rounding twice could round wrongly.
func converter(dst, src string) (func(dst, src []byte), error) {
	if !convertible(src) {
		return nil, fmt.Errorf("elements of type %s are not weights (F32, BF16, F16 and F64 are)", src)
	}
	if dst != "F32" && dst != "BF16" {
		return nil, fmt.Errorf("cannot convert to %q, only to F32 and BF16", dst)
	}
	if dst == src {
		return func(d, s []byte) { copy(d, s) }, nil
	}
	if dst == "BF16" {
		return narrow(src), nil
	}
	return widen(src), nil
}

// widen converts to float32.
func widen(src string) func(dst, src []byte) {
	switch src {
	case "BF16":
		return widenBF16
	case "F16":
		return widenHalf
	}
	le := binary.LittleEndian
	return func(d, s []byte) { // F64
		for i := range len(s) / 8 {
			v := math.Float64frombits(le.Uint64(s[8*i:]))
			le.PutUint32(d[4*i:], math.Float32bits(float32(v)))
		}
	}
}

// narrow converts to bfloat16.
func narrow(src string) func(dst, src []byte) {
	switch src {
	case "F32":
		return narrowFloat
	case "F16":
		return narrowHalf
	}
	le := binary.LittleEndian
	return func(d, s []byte) { // F64
		for i := range len(s) / 8 {
			le.PutUint16(d[2*i:], doubleToBF16(math.Float64frombits(le.Uint64(s[8*i:]))))
		}
	}
}

// floatToBF16 rounds the bits of a float32 to nearest, ties to even. NaN stays NaN.
func floatToBF16(b uint32) uint16 {
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// doubleToBF16 rounds once: the float32 on the way is rounded to odd, which keeps
// what decides the second rounding.
func doubleToBF16(v float64) uint16 {
	f := float32(v)
	b := math.Float32bits(f)
	if back := float64(f); back != v && !math.IsNaN(v) && !math.IsInf(v, 0) {
		if math.Abs(back) > math.Abs(v) {
			b-- // the neighbour nearer to zero
		}
		b |= 1
	}
	return floatToBF16(b)
}

// halfToFloat widens the bits of an IEEE half to those of a float32.
func halfToFloat(h uint16) uint32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch {
	case exp == 0x1f: // infinity and NaN
		return sign | 0x7f800000 | frac<<13
	case exp != 0:
		return sign | (exp+112)<<23 | frac<<13
	case frac == 0:
		return sign
	}
	exp = 113
	for frac&0x400 == 0 { // subnormal halves are normal floats
		frac <<= 1
		exp--
	}
	return sign | exp<<23 | (frac&0x3ff)<<13
}
