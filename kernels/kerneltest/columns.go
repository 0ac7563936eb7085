package kerneltest

import (
	"slices"
	"strings"

	"rmtrain/kernels"
)

// withColumns appends, for each case that has operands which may be columns of a tensor,
// one in which they are.
func withColumns(cs []testCase) []testCase {
	for _, c := range cs {
		if len(c.columns) > 0 {
			cs = append(cs, c.inColumns())
		}
	}
	return cs
}

// inColumns returns c on the columns of wider tensors, whose others must stay as they are.
func (c testCase) inColumns() testCase {
	const before, behind = 3, 5 // columns
	operation, variant, _ := strings.Cut(c.name, "/")
	out := c
	out.name, out.small, out.in, out.columns = operation+"/columns/"+variant, false, slices.Clone(c.in), nil
	for _, i := range c.columns {
		shape := slices.Clone(c.in[i].shape)
		shape[1] += before + behind
		out.in[i].shape = shape
	}
	out.run = func(b kernels.Backend, t []kernels.Tensor) {
		t = slices.Clone(t)
		for _, i := range c.columns {
			t[i] = t[i].Columns(before, t[i].Cols()-behind)
		}
		c.run(b, t)
	}
	return out
}
