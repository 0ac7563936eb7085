package kerneltest

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"rmtrain/kernels"
	"rmtrain/kernels/reference"
)

// A problem is a case under one compute type: what the operands start with, and
// what the reference leaves in them. Neither may be changed.
type problem struct{ values, want [][]float64 }

type problemKey struct {
	name string
	dt   kernels.DType
}

// problems remembers, since one test often checks several variants of a backend.
var problems sync.Map // of problemKey to problem

func (c testCase) problem(dt kernels.DType) problem {
	key := problemKey{c.name, dt}
	if p, ok := problems.Load(key); ok {
		return p.(problem)
	}
	values := c.inputs(dt, nil)
	p := problem{values, c.expected(values)}
	problems.Store(key, p)
	return p
}

// inputs returns the elements that the operands of c start with, rounded to their
// types under compute type dt. If poison is not nil, it changes them first.
func (c testCase) inputs(dt kernels.DType, poison func([][]float64)) [][]float64 {
	r, values := seeded(c.name), make([][]float64, len(c.in))
	for i, o := range c.in {
		values[i] = round(o.kind.dtype(dt), o.elements(r))
	}
	if poison != nil {
		poison(values)
	}
	if c.prepare == nil {
		return values
	}
	ref := reference.New(kernels.F64)
	ts := c.bare(ref, values)
	c.prepare(ref, ts)
	for i, o := range c.in {
		values[i] = round(o.kind.dtype(dt), load(ref, ts[i]))
	}
	return values
}

func (o operand) elements(r *rand.Rand) []float64 {
	n := 1
	for _, s := range o.shape {
		n *= s
	}
	v := make([]float64, n)
	for i := range v {
		switch {
		case o.indices != nil:
			v[i] = float64(o.indices[i])
		case o.fill != nil:
			v[i] = o.fill(r, i)
		default:
			v[i] = r.NormFloat64()
		}
	}
	return v
}

// bare puts values into tensors of the float64 reference.
func (c testCase) bare(ref kernels.Backend, values [][]float64) []kernels.Tensor {
	ts := make([]kernels.Tensor, len(c.in))
	for i, o := range c.in {
		dt := o.kind.dtype(kernels.F64)
		ts[i], _ = ref.Alloc("kerneltest", dt, o.shape...) // the reference cannot fail
		ref.Upload(ts[i], encode(dt, values[i]))
	}
	return ts
}

// expected returns what every operand holds after the operation in float64.
func (c testCase) expected(values [][]float64) [][]float64 {
	ref := reference.New(kernels.F64)
	ts := c.bare(ref, values)
	c.run(ref, ts)
	after := make([][]float64, len(ts))
	for i := range ts {
		after[i] = load(ref, ts[i])
	}
	return after
}

func load(b kernels.Backend, t kernels.Tensor) []float64 {
	mem := make([]byte, t.Bytes())
	b.Download(mem, t)
	return decode(t.DType, mem)
}

// evaluate runs c on b between guards and returns the bytes of every operand
// afterwards. It is an error to write anywhere but into the outputs.
func (c testCase) evaluate(b kernels.Backend, dt kernels.DType, values [][]float64) (after [][]byte, errs []error) {
	gs, err := c.allocate(b, dt, values)
	defer free(b, gs)
	if err != nil {
		return nil, []error{err}
	}
	c.run(b, tensors(gs))
	if err := b.Sync(); err != nil {
		return nil, []error{fmt.Errorf("%s: %w", c.name, err)}
	}
	written := map[int]bool{}
	for _, i := range c.out {
		written[i] = true
	}
	after = make([][]byte, len(gs))
	for i, g := range gs {
		elements, intact := g.read(b)
		if !intact {
			errs = append(errs, fmt.Errorf("%s: wrote outside of operand %d", c.name, i))
		}
		if !written[i] && string(elements) != string(g.initial()) {
			errs = append(errs, fmt.Errorf("%s: changed operand %d, an input", c.name, i))
		}
		after[i] = elements
	}
	return after, errs
}

// allocate puts values into guarded tensors of b.
func (c testCase) allocate(b kernels.Backend, dt kernels.DType, values [][]float64) (gs []guarded, err error) {
	for i, o := range c.in {
		d := o.kind.dtype(dt)
		g, err := newGuarded(b, d, o.shape, encode(d, values[i]))
		if err != nil {
			return gs, fmt.Errorf("%s: alloc operand %d: %w", c.name, i, err)
		}
		gs = append(gs, g)
	}
	return gs, nil
}

func free(b kernels.Backend, gs []guarded) {
	for _, g := range gs {
		b.Free(g.parent)
	}
}

func tensors(gs []guarded) []kernels.Tensor {
	ts := make([]kernels.Tensor, len(gs))
	for i, g := range gs {
		ts[i] = g.Tensor
	}
	return ts
}

// valueChecks compare every case with the reference.
func valueChecks() (cs []check) {
	for _, c := range cases {
		cs = append(cs, check{"values/" + c.name, func(b kernels.Backend, dt kernels.DType) []error {
			return c.compare(b, dt, c.problem(dt), finite)
		}})
	}
	return cs
}

func (c testCase) compare(b kernels.Backend, dt kernels.DType, p problem, agree agreement) []error {
	got, errs := c.evaluate(b, dt, p.values)
	if got == nil {
		return errs
	}
	for _, i := range c.out {
		d := c.in[i].kind.dtype(dt)
		result := decode(d, got[i])
		err := differ(result, p.want[i], Tol[d][c.class], agree)
		if err == nil && d == kernels.BF16 {
			err = biased(c.class, result, p.want[i])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: operand %d: %w", c.name, i, err))
		}
	}
	return errs
}
