package kerneltest

import (
	"fmt"
	"math"

	"rmtrain/kernels"
)

// nonfiniteChecks put a NaN or an infinity into one operand after the other,
// outputs included: what an operation overwrites must not survive. A NaN must
// reach exactly the results that it reaches in the reference.
func nonfiniteChecks() (cs []check) {
	for _, c := range cases {
		if !c.small {
			continue
		}
		cs = append(cs, check{"nonfinite/" + c.name, func(b kernels.Backend, dt kernels.DType) (errs []error) {
			for i := range c.in {
				for _, at := range c.poisoned(i) {
					for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
						for _, err := range c.comparePoisoned(b, dt, i, at, bad) {
							errs = append(errs, fmt.Errorf("with %g in element %d of operand %d: %w", bad, at, i, err))
						}
					}
				}
			}
			return errs
		}})
	}
	return cs
}

func (c testCase) comparePoisoned(b kernels.Backend, dt kernels.DType, operand, at int, bad float64) []error {
	values := c.inputs(dt, func(v [][]float64) { v[operand][at] = bad })
	p := problem{values, c.expected(values)}
	switch {
	case math.IsNaN(bad):
		return c.compare(b, dt, p, sameNaN)
	case c.class == AttendingBack:
		return c.compare(b, dt, p, anyNotFinite)
	}
	return c.compare(b, dt, p, notFinite)
}

// poisoned returns the elements of an operand that nonfinite/ changes.
func (c testCase) poisoned(operand int) []int {
	o := c.in[operand]
	switch {
	case o.kind == index:
		return nil
	case c.poison != nil:
		return c.poison[operand]
	}
	n := 1
	for _, s := range o.shape {
		n *= s
	}
	if n == 1 {
		return []int{0}
	}
	return []int{0, n / 2, n - 1}
}
