package train

import (
	"fmt"
	"slices"

	"rmtrain/checkpoints"
	"rmtrain/kernels"
)

// weights returns every parameter of the model, read from the device as it is written.
func (t *trainer) weights() []checkpoints.Tensor {
	var out []checkpoints.Tensor
	for _, p := range t.in.Model.Params() {
		out = append(out, stored(t.in.Backend, p.Name, p.Shape, p.Weight))
	}
	return out
}

// A named tensor is a part of a training state.
type named struct {
	name   string
	shape  []int
	tensor kernels.Tensor
}

// stateTensors returns what a state holds: of each trained parameter the weights
// under its own name, and the moments and the master copy under PyTorch's names.
// Frozen parameters are those of the base model, which the identity names.
func (o *optimizer) stateTensors() []named {
	var out []named
	for _, s := range o.slots {
		out = append(out,
			named{s.Name, s.Shape, s.Weight},
			named{"exp_avg." + s.Name, s.Shape, s.m},
			named{"exp_avg_sq." + s.Name, s.Shape, s.v})
		if s.master.Buf != nil {
			out = append(out, named{"master." + s.Name, s.Shape, s.master})
		}
	}
	return out
}

// stored describes a tensor of b to package checkpoints.
func stored(b kernels.Backend, name string, shape []int, t kernels.Tensor) checkpoints.Tensor {
	return checkpoints.Tensor{
		Name: name, DType: t.DType.String(), Shape: slices.Clone(shape),
		Read: func(dst []byte, off int64) error {
			part, err := window(t, off, len(dst))
			if err != nil {
				return fmt.Errorf("train: read %s: %w", name, err)
			}
			b.Download(dst, part)
			return b.Sync()
		},
	}
}

// window returns n bytes of t from byte off, which must be whole elements.
func window(t kernels.Tensor, off int64, n int) (kernels.Tensor, error) {
	size := t.DType.Size()
	if int(off)%size != 0 || n%size != 0 || off < 0 || int(off)+n > t.Bytes() {
		return t, fmt.Errorf("bytes [%d, %d) of %d are not whole elements", off, off+int64(n), t.Bytes())
	}
	t.Off += int(off)
	t.Shape = [3]int{n / size, 1, 1}
	return t, nil
}
