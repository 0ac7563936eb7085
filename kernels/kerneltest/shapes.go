package kerneltest

import (
	"fmt"
	"slices"

	"rmtrain/kernels"
)

// shapeChecks enlarge one operand after the other, and make columns of a wider tensor of
// each that may not be such. Each must panic.
func shapeChecks() (cs []check) {
	for _, c := range cases {
		if !c.small {
			continue
		}
		cs = append(cs, check{"shapes/" + c.name, func(b kernels.Backend, dt kernels.DType) (errs []error) {
			values := c.problem(dt).values
			for i, o := range c.in {
				for dim := range o.shape {
					if o.anyRows && dim == 0 {
						continue
					}
					if !c.panics(b, dt, values, i, dim, whole) {
						errs = append(errs, fmt.Errorf("%s: no panic with one more along axis %d of operand %d", c.name, dim, i))
					}
				}
				if !slices.Contains(c.columns, i) && !c.panics(b, dt, values, i, 1, allButLastColumn) {
					errs = append(errs, fmt.Errorf("%s: no panic with columns of a tensor as operand %d", c.name, i))
				}
			}
			return errs
		}})
	}
	return cs
}

func whole(t kernels.Tensor) kernels.Tensor { return t }

func allButLastColumn(t kernels.Tensor) kernels.Tensor { return t.Columns(0, t.Cols()-1) }

// panics reports whether c panics when an operand is the view of one with one more along
// axis dim.
func (c testCase) panics(b kernels.Backend, dt kernels.DType, values [][]float64, operand, dim int, view func(kernels.Tensor) kernels.Tensor) bool {
	c.in, values = slices.Clone(c.in), slices.Clone(values)
	shape := slices.Clone(c.in[operand].shape)
	if dim == len(shape) {
		shape = append(shape, 1)
	}
	shape[dim]++
	c.in[operand].shape = shape
	n := 1
	for _, s := range shape {
		n *= s
	}
	values[operand] = append(slices.Clone(values[operand]), make([]float64, n-len(values[operand]))...)
	return c.panicsOn(b, dt, values, func(ts []kernels.Tensor) { ts[operand] = view(ts[operand]) })
}

// panicsOn reports whether c panics on values, whose tensors are changed first.
func (c testCase) panicsOn(b kernels.Backend, dt kernels.DType, values [][]float64, change func([]kernels.Tensor)) bool {
	gs, err := c.allocate(b, dt, values)
	defer free(b, gs)
	if err != nil {
		return false
	}
	ts := tensors(gs)
	change(ts)
	panicked := false
	func() {
		defer func() { panicked = recover() != nil }()
		c.run(b, ts)
	}()
	return panicked
}
