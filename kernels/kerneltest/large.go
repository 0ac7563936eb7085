package kerneltest

import (
	"bytes"
	"fmt"
	"slices"

	"rmtrain/kernels"
)

// A largeCase is an operation at the size of a real model, where float64 on one core would
// take hours. The backend computes all of it; the reference computes samples of the result
// from those parts of the operands that they depend on. Operands are tensors of their own,
// aligned as those of a model are, where those of other cases lie askew between guards.
type largeCase struct {
	testCase
	samples []sample
}

// A sample is a part of the outputs and how the reference computes it.
type sample struct {
	cut map[int]cut // the part of each operand; all of those that are not in it
	out []int       // the outputs to compare
	// run is the operation on the parts; nil is that of the case.
	run func(ref kernels.Backend, t []kernels.Tensor)
}

// A cut names rows and columns; nil is all of them.
type cut struct{ rows, cols []int }

// largeBlock is after how many elements the values of a large operand repeat: a prime, so
// that no two rows or columns are alike.
const largeBlock = 1_000_003

// A source is the values that an operand starts with.
type source struct {
	dt    kernels.DType
	shape [2]int
	block []float64 // element i is block[i % len(block)]
}

func (c largeCase) sources(dt kernels.DType) []source {
	r, out := seeded(c.name), make([]source, len(c.in))
	for i, o := range c.in {
		s := source{dt: o.kind.dtype(dt), shape: [2]int{o.shape[0], 1}}
		if len(o.shape) > 1 {
			s.shape[1] = o.shape[1]
		}
		if s.len() > largeBlock {
			o.shape = []int{largeBlock}
		}
		s.block = round(s.dt, o.elements(r))
		out[i] = s
	}
	return out
}

func (s source) len() int { return s.shape[0] * s.shape[1] }

// bytes returns all elements.
func (s source) bytes() []byte {
	mem := make([]byte, s.len()*s.dt.Size())
	for n := copy(mem, encode(s.dt, s.block)); n < len(mem); {
		n += copy(mem[n:], mem[:n]) // n is a whole number of blocks
	}
	return mem
}

// visit calls f with the positions of the elements in a part, in order.
func (c cut) visit(shape [2]int, f func(i int)) {
	rows, cols := c.rows, c.cols
	if rows == nil {
		rows = upTo(shape[0])
	}
	if cols == nil {
		cols = upTo(shape[1])
	}
	for _, r := range rows {
		for _, col := range cols {
			f(r*shape[1] + col)
		}
	}
}

// shapeOf returns the shape of the part of an operand; vectors stay vectors.
func (c cut) shapeOf(shape []int) []int {
	out := append([]int{}, shape...)
	if c.rows != nil {
		out[0] = len(c.rows)
	}
	if c.cols != nil {
		out[1] = len(c.cols)
	}
	return out
}

func upTo(n int) []int { return span(0, n) }

// span returns lo, lo+1, ..., hi-1.
func span(lo, hi int) []int {
	out := make([]int, hi-lo)
	for i := range out {
		out[i] = lo + i
	}
	return out
}

// some returns up to 24 of n positions, in order: the first, the last, and others in between
// at uneven distances if there is room.
func some(n int) []int {
	const most, uneven = 24, 3
	if n <= most {
		return upTo(n)
	}
	out := make([]int, most)
	for i := range out {
		out[i] = i * (n - 1) / (most - 1)
		if i > 0 && i < most-1 && n > uneven*most {
			out[i] += i % uneven
		}
	}
	return out
}

// outputs runs c on tensors of b that start with src and returns the bytes of its outputs.
func (c largeCase) outputs(b kernels.Backend, src []source) ([][]byte, error) {
	ts := make([]kernels.Tensor, len(src))
	for i, s := range src {
		t, err := b.Alloc("kerneltest", s.dt, c.in[i].shape...)
		if err != nil {
			return nil, fmt.Errorf("%s: alloc operand %d: %w", c.name, i, err)
		}
		defer b.Free(t)
		b.Upload(t, s.bytes())
		ts[i] = t
	}
	c.run(b, ts)
	out := make([][]byte, len(c.out))
	for i, o := range c.out {
		out[i] = make([]byte, ts[o].Bytes())
		b.Download(out[i], ts[o])
	}
	if err := b.Sync(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return out, nil
}

// compareSamples returns where the samples differ from the reference's.
func (c largeCase) compareSamples(b kernels.Backend, dt kernels.DType) (errs []error) {
	src := c.sources(dt)
	got, err := c.outputs(b, src)
	if err != nil {
		return []error{err}
	}
	for _, s := range c.samples {
		want := s.expected(c.testCase, src)
		for k, i := range c.out {
			if !slices.Contains(s.out, i) {
				continue
			}
			d := src[i].dt
			part := s.cut[i].bytes(got[k], src[i].shape, d.Size())
			if err := differ(decode(d, part), want[i], Tol[d][c.class], finite); err != nil {
				errs = append(errs, fmt.Errorf("%s: a sample of operand %d: %w", c.name, i, err))
			}
		}
	}
	return errs
}

// bytes returns the elements of the part.
func (c cut) bytes(mem []byte, shape [2]int, size int) []byte {
	var out []byte
	c.visit(shape, func(i int) { out = append(out, mem[i*size:(i+1)*size]...) })
	return out
}

// expected returns what the parts of all operands hold after the operation in float64.
func (s sample) expected(c testCase, src []source) [][]float64 {
	part := testCase{run: c.run}
	if s.run != nil {
		part.run = s.run
	}
	values := make([][]float64, len(c.in))
	for i, o := range c.in {
		o.shape = s.cut[i].shapeOf(o.shape)
		part.in = append(part.in, o)
		s.cut[i].visit(src[i].shape, func(at int) { values[i] = append(values[i], src[i].block[at%len(src[i].block)]) })
	}
	return part.expected(values)
}

// repeat runs c so many times and wants the same bits.
func (c largeCase) repeat(b kernels.Backend, dt kernels.DType, times int) error {
	src := c.sources(dt)
	first, err := c.outputs(b, src)
	for n := 2; err == nil && n <= times; n++ {
		var again [][]byte
		if again, err = c.outputs(b, src); err != nil {
			break
		}
		for k := range first {
			if !bytes.Equal(again[k], first[k]) {
				return fmt.Errorf("%s: operand %d has other bits in run %d of %d", c.name, c.out[k], n, times)
			}
		}
	}
	return err
}

// LargeErrors returns what the named large check finds wrong with b.
func (s Sizes) LargeErrors(b kernels.Backend, dt kernels.DType, name string) []error {
	c, err := s.find(name)
	if err != nil {
		return []error{err}
	}
	return c.compareSamples(b, dt)
}

// Repeat runs the operation of the named large check on b so many times and wants the same
// bits each time.
func (s Sizes) Repeat(b kernels.Backend, dt kernels.DType, name string, times int) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	return c.repeat(b, dt, times)
}

// LargeNames lists the large checks.
func (s Sizes) LargeNames() (names []string) {
	for _, c := range s.cases() {
		names = append(names, c.name)
	}
	return names
}

func (s Sizes) find(name string) (largeCase, error) {
	for _, c := range s.cases() {
		if c.name == name {
			return c, nil
		}
	}
	return largeCase{}, fmt.Errorf("kerneltest: there is no large check %q", name)
}
