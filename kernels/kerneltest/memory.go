package kerneltest

import (
	"fmt"
	"slices"
	"sync"

	"rmtrain/kernels"
)

func memoryChecks() []check {
	return []check{
		{"memory/starts zeroed", startsZeroed},
		{"memory/used by tag", usedByTag},
		{"memory/slices cross to the host unchanged", slicesCross},
		{"memory/order of operations", orderOfOperations},
		{"memory/filled as uploaded", filledAsUploaded},
	}
}

// startsZeroed reuses memory that was not zero.
func startsZeroed(b kernels.Backend, dt kernels.DType) (errs []error) {
	for range 3 {
		t, err := b.Alloc("kerneltest", dt, 130, 70)
		if err != nil {
			return []error{err}
		}
		mem := make([]byte, t.Bytes())
		b.Download(mem, t)
		if slices.ContainsFunc(mem, func(c byte) bool { return c != 0 }) {
			errs = append(errs, fmt.Errorf("memory from Alloc is not zero"))
		}
		b.Upload(t, slices.Repeat([]byte{0xa5}, len(mem)))
		b.Free(t)
	}
	return errs
}

func usedByTag(b kernels.Backend, dt kernels.DType) (errs []error) {
	const one, two = "kerneltest one", "kerneltest two"
	expect := func(when string, wantOne, wantTwo int) {
		used := b.Used()
		// A backend may count the bytes that it adds for alignment.
		const slack = 4096
		for tag, want := range map[string]int{one: wantOne, two: wantTwo} {
			if got := int(used[tag]); got < want || got > want+slack || want == 0 && got != 0 {
				errs = append(errs, fmt.Errorf("in use are %d bytes of %q %s, want %d", got, tag, when, want))
			}
		}
	}
	x, err1 := b.Alloc(one, dt, 33, 7)
	y, err2 := b.Alloc(two, kernels.I32, 5)
	z, err3 := b.Alloc(two, kernels.F64, 1)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return []error{err}
		}
	}
	expect("after allocating", x.Bytes(), y.Bytes()+z.Bytes())
	b.Free(y)
	expect("after freeing one of two", x.Bytes(), z.Bytes())
	b.Free(x)
	b.Free(z)
	expect("after freeing all", 0, 0)
	return errs
}

func slicesCross(b kernels.Backend, dt kernels.DType) (errs []error) {
	t, err := b.Alloc("kerneltest", dt, 9, 5)
	if err != nil {
		return []error{err}
	}
	defer b.Free(t)
	want := make([]byte, t.Bytes())
	for i := range want {
		want[i] = byte(7 * i)
	}
	b.Upload(t, want)
	part := t.Slice(3, 5)
	row := t.Bytes() / t.Rows()
	got := make([]byte, part.Bytes())
	if b.Download(got, part); string(got) != string(want[3*row:5*row]) {
		errs = append(errs, fmt.Errorf("a Download of rows 3 and 4 of 9 gives other bytes"))
	}
	clear(want[3*row : 5*row])
	b.Upload(part, want[3*row:5*row])
	got = make([]byte, t.Bytes())
	if b.Download(got, t); string(got) != string(want) {
		errs = append(errs, fmt.Errorf("an Upload to rows 3 and 4 of 9 does not change exactly these"))
	}
	return errs
}

// filledAsUploaded holds for a backend that is a kernels.Filler. The tensors are small and
// large, and what is filled is also part of one.
func filledAsUploaded(b kernels.Backend, dt kernels.DType) (errs []error) {
	filler, ok := b.(kernels.Filler)
	if !ok {
		return nil
	}
	for _, rows := range []int{1, 33, 9000} {
		t, err := b.Alloc("kerneltest", dt, rows+1, 300)
		if err != nil {
			return []error{err}
		}
		part := t.Slice(1, rows+1)
		want := make([]byte, part.Bytes())
		for i := range want {
			want[i] = byte(i * 7 >> 3)
		}
		var mu sync.Mutex
		covered := 0
		err = filler.Fill(part, func(p []byte, off int64) error {
			mu.Lock()
			defer mu.Unlock()
			covered += copy(p, want[off:])
			return nil
		})
		got := make([]byte, len(want))
		if b.Download(got, part); err != nil || covered != len(want) || !slices.Equal(got, want) {
			errs = append(errs, fmt.Errorf("to Fill %d rows asks for %d of %d bytes, and gives the same bytes as Upload: %t, %v", rows, covered, len(want), slices.Equal(got, want), err))
		}
		b.Free(t)
	}
	return errs
}

// orderOfOperations uploads between operations and frees what they read.
func orderOfOperations(b kernels.Backend, dt kernels.DType) []error {
	const n = 1000
	x, err1 := b.Alloc("kerneltest", dt, n)
	y, err2 := b.Alloc("kerneltest", dt, n)
	for _, err := range []error{err1, err2} {
		if err != nil {
			return []error{err}
		}
	}
	defer b.Free(y)
	host := encode(dt, slices.Repeat([]float64{1}, n))
	b.Upload(x, host)
	clear(host) // Upload has taken its copy
	b.Add(y, x, x)
	b.Upload(x, encode(dt, slices.Repeat([]float64{4}, n)))
	b.Add(y, y, x)
	b.Zero(x)
	b.Free(x)
	if got := load(b, y); got[0] != 6 || got[n-1] != 6 {
		return []error{fmt.Errorf("(1+1)+4 with an Upload in between is %g and %g, want 6", got[0], got[n-1])}
	}
	return nil
}
