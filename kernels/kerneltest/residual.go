package kerneltest

import (
	"fmt"
	"slices"

	"rmtrain/kernels"
)

// residualChecks hold for a backend that is a kernels.ResidualAdder: on the operands of every
// product it has the bits of MatMul and of Add after it.
func residualChecks() (cs []check) {
	sizes := append(slices.Clone(matmulSizes), [3]int{9, 7, 0}, [3]int{40, 600, 1400}) // all that a backend may cut
	for _, s := range sizes {
		m, n, k := s[0], s[1], s[2]
		c := testCase{name: fmt.Sprintf("MatMulAdd/%dx%dx%d", m, n, k), out: []int{0},
			in: []operand{act(m, n), act(m, n), act(m, k), act(n, k)}}
		cs = append(cs, check{"exact/fused/" + c.name, c.fused}, check{"shapes/" + c.name, c.fusedShapes})
	}
	return cs
}

// fused runs MatMulAdd and its parts, also with a kept weight.
func (c testCase) fused(b kernels.Backend, dt kernels.DType) []error {
	if _, ok := b.(kernels.ResidualAdder); !ok {
		return nil
	}
	values := c.inputs(dt, nil)
	c.run = func(b kernels.Backend, t []kernels.Tensor) {
		b.MatMul(t[0], t[2], t[3], kernels.NT, false)
		b.Add(t[0], t[1], t[0])
	}
	want, errs := c.evaluate(b, dt, values)
	for _, keep := range []bool{false, true} {
		c.run = func(b kernels.Backend, t []kernels.Tensor) {
			if k, ok := b.(kernels.Keeper); ok && keep {
				if err := k.Keep(t[3], kernels.NT); err != nil {
					errs = append(errs, err)
				}
			}
			b.(kernels.ResidualAdder).MatMulAdd(t[0], t[1], t[2], t[3])
		}
		got, more := c.evaluate(b, dt, values)
		if errs = append(errs, more...); len(errs) > 0 {
			return errs
		}
		if string(got[0]) != string(want[0]) {
			errs = append(errs, fmt.Errorf("%s, keep %v: other bits than MatMul and Add have", c.name, keep))
		}
	}
	return errs
}

func (c testCase) fusedShapes(b kernels.Backend, dt kernels.DType) (errs []error) {
	adder, ok := b.(kernels.ResidualAdder)
	if !ok {
		return nil
	}
	c.run = func(_ kernels.Backend, t []kernels.Tensor) { adder.MatMulAdd(t[0], t[1], t[2], t[3]) }
	values := c.inputs(dt, nil)
	for i := range c.in {
		if !c.panics(b, dt, values, i, 1, whole) || !c.panics(b, dt, values, i, 0, whole) {
			errs = append(errs, fmt.Errorf("%s: no panic with another shape of operand %d", c.name, i))
		}
	}
	for i := range 2 {
		if !c.panics(b, dt, values, i, 1, allButLastColumn) {
			errs = append(errs, fmt.Errorf("%s: no panic with columns of a tensor as operand %d", c.name, i))
		}
	}
	return errs
}
