package kerneltest

import (
	"fmt"

	"rmtrain/kernels"
)

// keptChecks hold for a backend that is a kernels.Keeper.
func keptChecks() []check {
	cs := []check{
		{"memory/kept weights are accounted", keptAccounted},
		{"memory/an upload reaches kept weights", keptUploads},
	}
	for _, c := range cases {
		cs = append(cs, check{"exact/kept/" + c.name, c.reachesKept})
	}
	return cs
}

var keptModes = []kernels.Trans{kernels.NT, kernels.NN}

// reachesKept keeps every output of c and multiplies by it before and after c runs.
func (c testCase) reachesKept(b kernels.Backend, dt kernels.DType) (errs []error) {
	if _, ok := b.(kernels.Keeper); !ok {
		return nil
	}
	gs, err := c.allocate(b, dt, c.problem(dt).values)
	defer free(b, gs)
	if err != nil {
		return []error{err}
	}
	for _, i := range c.out {
		if gs[i].DType == dt {
			errs = append(errs, sameWhenKept(b, gs[i].Tensor)...)
		}
	}
	c.run(b, tensors(gs))
	for _, i := range c.out {
		if gs[i].DType == dt {
			errs = append(errs, sameWhenKept(b, gs[i].Tensor)...)
		}
	}
	return errs
}

// sameWhenKept keeps w, if it is not kept already, and compares products with it and
// with a copy that is not kept: to the bit, and whole and by parts.
func sameWhenKept(b kernels.Backend, w kernels.Tensor) (errs []error) {
	mem := make([]byte, w.Bytes())
	b.Download(mem, w)
	plain, err := b.Alloc("kerneltest", w.DType, w.Rows(), w.Cols())
	if err != nil {
		return []error{err}
	}
	defer b.Free(plain)
	b.Upload(plain, mem)
	for _, mode := range keptModes {
		if err := b.(kernels.Keeper).Keep(w, mode); err != nil {
			return append(errs, err)
		}
		for _, rows := range []int{1, 17} {
			got, err1 := productWith(b, w, mode, rows)
			want, err2 := productWith(b, plain, mode, rows)
			if err1 != nil || err2 != nil {
				return append(errs, err1, err2)
			}
			if string(got) != string(want) {
				errs = append(errs, fmt.Errorf("%d rows times a kept %v, mode %d: other bits than with one that is not kept", rows, w.Shape, mode))
			}
		}
	}
	return errs
}

// productWith returns the bytes of random rows times w.
func productWith(b kernels.Backend, w kernels.Tensor, mode kernels.Trans, rows int) ([]byte, error) {
	n, k := w.Rows(), w.Cols()
	if mode == kernels.NN {
		n, k = k, n
	}
	x, err := b.Alloc("kerneltest", w.DType, rows, k)
	if err != nil {
		return nil, err
	}
	defer b.Free(x)
	out, err := b.Alloc("kerneltest", w.DType, rows, n)
	if err != nil {
		return nil, err
	}
	defer b.Free(out)
	b.Upload(x, encode(w.DType, round(w.DType, act(rows, k).elements(seeded("kept")))))
	b.MatMul(out, x, w, mode, false)
	mem := make([]byte, out.Bytes())
	b.Download(mem, out)
	return mem, b.Sync()
}

func keptAccounted(b kernels.Backend, dt kernels.DType) (errs []error) {
	keeper, ok := b.(kernels.Keeper)
	if !ok {
		return nil
	}
	before := b.Used()[kernels.KeptTag]
	expect := func(when string, want int64) {
		if got := b.Used()[kernels.KeptTag] - before; got != want {
			errs = append(errs, fmt.Errorf("kept weights take %d bytes %s, want %d", got, when, want))
		}
	}
	w, err := b.Alloc("kerneltest", dt, 70, 41)
	if err != nil {
		return []error{err}
	}
	sum := int64(0)
	for range 2 {
		for _, mode := range keptModes {
			if err := keeper.Keep(w, mode); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, mode := range keptModes {
		sum += keeper.KeptBytes(kernels.Tensor{DType: dt, Shape: w.Shape}, mode)
	}
	expect("once kept", sum)
	errs = append(errs, sameWhenKept(b, w)...)
	expect("once used", sum)
	b.Free(w)
	expect("after Free", 0)
	return errs
}

// keptUploads writes to a few rows of a kept weight.
func keptUploads(b kernels.Backend, dt kernels.DType) []error {
	if _, ok := b.(kernels.Keeper); !ok {
		return nil
	}
	w, err := b.Alloc("kerneltest", dt, 70, 41)
	if err != nil {
		return []error{err}
	}
	defer b.Free(w)
	r := seeded("uploads")
	var errs []error
	for _, rows := range [][2]int{{0, 70}, {3, 5}, {69, 70}} {
		part := w.Slice(rows[0], rows[1])
		b.Upload(part, encode(dt, round(dt, act(part.Rows(), part.Cols()).elements(r))))
		errs = append(errs, sameWhenKept(b, w)...)
	}
	return errs
}
