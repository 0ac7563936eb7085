package infer

import (
	"encoding/binary"
	"fmt"
	"math"

	"rmtrain/checkpoints"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

// LoadModel checks that dir holds all that the network needs, and loads it. A model
// without a value head takes head, in float32; one that has a head keeps it.
func LoadModel(dir *checkpoints.Dir, b kernels.Backend, c llama.Config, o llama.Options, head []float32) (*llama.Model, error) {
	m, err := llama.New(b, c, o)
	if err != nil {
		return nil, fmt.Errorf("infer: allocate the model of %s: %w", dir.Path, err)
	}
	var want []checkpoints.Want
	for _, p := range m.Params() {
		want = append(want, checkpoints.Want{Name: p.Name, Shape: p.Shape, Optional: p.Name == headName && head != nil})
	}
	if err := dir.Check(want); err != nil {
		m.Close()
		return nil, err
	}
	err = m.LoadFrom(func(p llama.Param) (llama.Source, error) {
		if p.Name == headName && !dir.Has(p.Name) {
			return whole(p, func(dst []byte) error { return putFloats(dst, p.Weight.DType, head) })
		}
		t, err := dir.Tensor(p.Name, p.Weight.DType.String())
		if err != nil || !t.Gathered {
			return t.Read, err
		}
		return whole(p, func(dst []byte) error { return t.Read(dst, 0) })
	})
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// whole returns a source of what read writes at once.
func whole(p llama.Param, read func(dst []byte) error) (llama.Source, error) {
	all := make([]byte, p.Weight.Bytes())
	if err := read(all); err != nil {
		return nil, err
	}
	return func(dst []byte, off int64) error {
		copy(dst, all[off:])
		return nil
	}, nil
}

// putFloats writes x to dst as dt, little endian, rounding to nearest even.
func putFloats(dst []byte, dt kernels.DType, x []float32) error {
	if len(dst) != len(x)*dt.Size() {
		return fmt.Errorf("infer: a value head of %d numbers does not fit a model of %d channels", len(x), len(dst)/dt.Size())
	}
	for i, v := range x {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("infer: number %d of the value head is %v", i, v)
		}
		bits := math.Float32bits(v)
		switch dt {
		case kernels.BF16:
			bits += 0x7fff + bits>>16&1
			binary.LittleEndian.PutUint16(dst[2*i:], uint16(bits>>16))
		default:
			binary.LittleEndian.PutUint32(dst[4*i:], bits)
		}
	}
	return nil
}
