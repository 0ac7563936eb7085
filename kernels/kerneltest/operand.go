package kerneltest

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"rmtrain/kernels"
)

// kind says which type an operand has, given the compute type.
type kind int

const (
	activation kind = iota // the compute type
	statistic              // its Stat
	index                  // I32
	double                 // F64
)

func (k kind) dtype(dt kernels.DType) kernels.DType {
	return [...]kernels.DType{dt, dt.Stat(), kernels.I32, kernels.F64}[k]
}

// An operand of a case.
type operand struct {
	kind    kind
	shape   []int
	fill    func(r *rand.Rand, i int) float64 // element i; nil is normal
	indices []int32
	anyRows bool // the operation does not fix the number of rows
}

func act(shape ...int) operand  { return operand{kind: activation, shape: shape} }
func stat(shape ...int) operand { return operand{kind: statistic, shape: shape} }
func ids(v ...int32) operand    { return operand{kind: index, shape: []int{len(v)}, indices: v} }
func total() operand            { return operand{kind: double, shape: []int{1}} }

// times scales the random elements.
func (o operand) times(scale float64) operand {
	o.fill = func(r *rand.Rand, _ int) float64 { return scale * r.NormFloat64() }
	return o
}

// positive makes the elements squares.
func (o operand) positive() operand {
	o.fill = func(r *rand.Rand, _ int) float64 { x := r.NormFloat64(); return x * x }
	return o
}

// ofAnyRows marks an operand whose number of rows is free.
func (o operand) ofAnyRows() operand {
	o.anyRows = true
	return o
}

// angles is a RoPE table.
func angles(positions, dim int) operand {
	o := stat(positions, dim).ofAnyRows()
	o.fill = func(_ *rand.Rand, i int) float64 {
		p, j := i/dim, i%dim
		a := float64(p) * math.Pow(1e4, -2*float64(j%(dim/2))/float64(dim))
		if j < dim/2 {
			return math.Cos(a)
		}
		return math.Sin(a)
	}
	return o
}

// indicesBelow returns n random indices in [0, limit).
func indicesBelow(limit, n int) operand {
	r, v := seeded("indices"), make([]int32, n)
	for i := range v {
		v[i] = int32(r.IntN(limit))
	}
	return ids(v...)
}

func seeded(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(h.Sum64(), 1))
}

// encode rounds v to dt, and decode is its inverse. Values meant for BF16 must
// have been rounded to it before.
func encode(dt kernels.DType, v []float64) []byte {
	mem := make([]byte, 0, len(v)*dt.Size())
	for _, x := range v {
		switch dt {
		case kernels.F64:
			mem = binary.LittleEndian.AppendUint64(mem, math.Float64bits(x))
		case kernels.F32:
			mem = binary.LittleEndian.AppendUint32(mem, math.Float32bits(float32(x)))
		case kernels.BF16:
			mem = binary.LittleEndian.AppendUint16(mem, uint16(math.Float32bits(float32(x))>>16))
		case kernels.I32:
			mem = binary.LittleEndian.AppendUint32(mem, uint32(int32(x)))
		}
	}
	return mem
}

func decode(dt kernels.DType, mem []byte) []float64 {
	v := make([]float64, len(mem)/dt.Size())
	for i := range v {
		switch dt {
		case kernels.F64:
			v[i] = math.Float64frombits(binary.LittleEndian.Uint64(mem[8*i:]))
		case kernels.F32:
			v[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(mem[4*i:])))
		case kernels.BF16:
			v[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(mem[2*i:])) << 16))
		case kernels.I32:
			v[i] = float64(int32(binary.LittleEndian.Uint32(mem[4*i:])))
		}
	}
	return v
}

// nearestBF16 rounds a float32 to nearest even.
func nearestBF16(x float64) float64 {
	bits := math.Float32bits(float32(x))
	bits += 0x7fff + bits>>16&1
	return float64(math.Float32frombits(bits &^ 0xffff))
}

// round returns v as type dt holds it. BF16 is cut, not rounded: any
// representable value will do for an input.
func round(dt kernels.DType, v []float64) []float64 {
	if dt == kernels.F64 || dt == kernels.I32 {
		return v
	}
	return decode(dt, encode(dt, v))
}
