package reference

import (
	"encoding/binary"
	"fmt"
	"math"

	"rmtrain/kernels"
)

// raw returns the bytes of t, which is contiguous.
func raw(t kernels.Tensor) []byte {
	if t.Stride != 0 {
		panic(fmt.Sprintf("reference: tensor %v is not contiguous", t))
	}
	if t.Buf == nil || t.Off+t.Bytes() > len(t.Buf.Host) {
		panic(fmt.Sprintf("reference: tensor %v has no memory (never allocated, or freed)", t))
	}
	return t.Buf.Host[t.Off : t.Off+t.Bytes()]
}

// load returns the elements of t, which are exactly representable in float64.
func load(t kernels.Tensor) []float64 {
	mem, v := raw(t), make([]float64, t.Len())
	for i := range v {
		switch t.DType {
		case kernels.F64:
			v[i] = math.Float64frombits(binary.LittleEndian.Uint64(mem[8*i:]))
		case kernels.F32:
			v[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(mem[4*i:])))
		case kernels.BF16:
			v[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(mem[2*i:])) << 16))
		}
	}
	return v
}

// store rounds v to the type of t.
func store(t kernels.Tensor, v []float64) {
	mem := raw(t)
	for i, x := range v {
		switch t.DType {
		case kernels.F64:
			binary.LittleEndian.PutUint64(mem[8*i:], math.Float64bits(x))
		case kernels.F32:
			binary.LittleEndian.PutUint32(mem[4*i:], math.Float32bits(float32(x)))
		case kernels.BF16:
			binary.LittleEndian.PutUint16(mem[2*i:], uint16(math.Float32bits(roundBF16(x))>>16))
		}
	}
}

// loadColumns and storeColumns do the same for what may be columns of a tensor.
func loadColumns(t kernels.Tensor) []float64 {
	v := make([]float64, 0, t.Len())
	for r := range t.Rows() {
		v = append(v, load(t.Row(r))...)
	}
	return v
}

func storeColumns(t kernels.Tensor, v []float64) {
	for r := range t.Rows() {
		store(t.Row(r), v[r*t.Cols():][:t.Cols()])
	}
}

// ints returns the elements of an I32 tensor.
func ints(t kernels.Tensor) []int32 {
	mem, v := raw(t), make([]int32, t.Len())
	for i := range v {
		v[i] = int32(binary.LittleEndian.Uint32(mem[4*i:]))
	}
	return v
}

// roundBF16 rounds x to the nearest bfloat16, ties to even, in one step: going
// through float32 would round twice.
func roundBF16(x float64) float32 {
	const (
		dropped   = 52 - 7 // bits of float64's fraction beyond bfloat16's
		minNormal = 0x1p-126
		quantum   = 0x1p-133 // distance of bfloat16's subnormal numbers
	)
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return float32(x)
	case math.Abs(x) < minNormal:
		return float32(math.RoundToEven(x/quantum) * quantum)
	}
	bits := math.Float64bits(x)
	bits += 1<<(dropped-1) - 1 + bits>>dropped&1
	return float32(math.Float64frombits(bits >> dropped << dropped))
}
