package kerneltest

import (
	"fmt"
	"slices"

	"rmtrain/kernels"
)

func exactChecks() (cs []check) {
	for _, c := range cases {
		cs = append(cs, check{"exact/repeated/" + c.name, c.repeats})
		if c.rows != nil && c.in[c.rows[0]].shape[0] > 1 {
			cs = append(cs, check{"exact/rows/" + c.name, c.rowsAlone})
		}
	}
	for mode, name := range []string{"NT", "NN"} {
		c := matmul(name, kernels.Trans(mode), 150, 70, 700, false, false)
		cs = append(cs, check{"exact/rows/MatMul " + name + "/1 to 33 of 150", c.fewRows})
	}
	return slices.Concat(cs, exactAttentionChecks(), adamWChecks())
}

// repeats runs c twice.
func (c testCase) repeats(b kernels.Backend, dt kernels.DType) []error {
	values := c.problem(dt).values
	first, errs := c.evaluate(b, dt, values)
	second, more := c.evaluate(b, dt, values)
	if errs = append(errs, more...); len(errs) > 0 {
		return errs
	}
	for _, i := range c.out {
		if string(first[i]) != string(second[i]) {
			errs = append(errs, fmt.Errorf("%s: operand %d differs when run again", c.name, i))
		}
	}
	return errs
}

// rowsAlone runs c on some of its rows and wants the bits that it has for them
// among all rows.
func (c testCase) rowsAlone(b kernels.Backend, dt kernels.DType) []error {
	values := c.problem(dt).values
	all, errs := c.evaluate(b, dt, values)
	if len(errs) > 0 {
		return errs
	}
	n := c.in[c.rows[0]].shape[0]
	for _, part := range [][2]int{{0, 1}, {n / 2, n/2 + 1}, {n - 1, n}, {1, n}, {0, n - 1}, {n / 3, n - n/4}} {
		lo, hi := part[0], part[1]
		some, partValues := c.slice(values, lo, hi)
		got, more := some.evaluate(b, dt, partValues)
		if errs = append(errs, more...); got == nil {
			return errs
		}
		for _, i := range c.out {
			row := len(all[i]) / n
			if slices.Contains(c.rows, i) && string(got[i]) != string(all[i][lo*row:hi*row]) {
				errs = append(errs, fmt.Errorf("%s: operand %d: rows [%d,%d) of %d differ when computed alone", c.name, i, lo, hi, n))
			}
		}
	}
	return errs
}

// fewRows runs c on 1 to 33 of its rows, for which a backend may have another path,
// and wants the bits that it has for them among all rows.
func (c testCase) fewRows(b kernels.Backend, dt kernels.DType) []error {
	values := c.inputs(dt, nil)
	all, errs := c.evaluate(b, dt, values)
	if len(errs) > 0 {
		return errs
	}
	row := len(all[0]) / c.in[0].shape[0]
	for n := 1; n <= 33; n++ {
		some, part := c.slice(values, n, 2*n)
		got, errs := some.evaluate(b, dt, part)
		if len(errs) > 0 {
			return errs
		}
		if string(got[0]) != string(all[0][n*row:2*n*row]) {
			return []error{fmt.Errorf("%s: %d rows alone differ from the same among all", c.name, n)}
		}
	}
	return nil
}

// slice returns c on rows [lo, hi) of its operands that have such rows.
func (c testCase) slice(values [][]float64, lo, hi int) (testCase, [][]float64) {
	c.in, values = slices.Clone(c.in), slices.Clone(values)
	for _, i := range c.rows {
		shape := slices.Clone(c.in[i].shape)
		row := len(values[i]) / shape[0]
		shape[0] = hi - lo
		c.in[i].shape = shape
		values[i] = values[i][lo*row : hi*row]
	}
	return c, values
}
