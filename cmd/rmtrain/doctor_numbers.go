package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
)

// numberChecks compare what operations compute.
func (d *doctor) numberChecks() []doctorCheck {
	const section = "operations"
	var cs []doctorCheck
	cs = append(cs, d.perType(section, "conformance suite", "numbers within tolerance of float64, odd shapes, NaN, bounds, the same bits in any company", d.conformance)...)
	cs = append(cs, d.perType(section, "real shapes", "the same, at the sizes of a model, by samples", d.large)...)
	cs = append(cs, d.perType(section, "recorded bits", "operations that only copy and add give the bits that were recorded elsewhere", d.recorded)...)
	return append(cs, d.perType(section, fmt.Sprintf("%d times", repetitions), "no race: every operation repeats to the bit", d.repeated)...)
}

// repetitions of every operation; a race that shows once in ten runs escapes one time in ten.
const repetitions = 20

// sizes are those of the large checks: of a 34B model on a GPU, smaller on a CPU, so that
// it takes seconds, and such that an emulator executes some million elements.
func (d *doctor) sizes() kerneltest.Sizes {
	switch {
	case d.quick:
		return kerneltest.Sizes{Rows: 48, Hidden: 512, FFN: 384, Tokens: 40,
			Heads: kernels.Heads{Q: 8, KV: 1, Dim: 64}, Prompt: 21, Answers: []int{9, 1, 14}}
	case !d.gpu:
		return kerneltest.Sizes{Rows: 512, Hidden: 2048, FFN: 5632, Tokens: 192,
			Heads: kernels.Heads{Q: 32, KV: 4, Dim: 64}, Prompt: 120, Answers: []int{40, 7, 61, 33, 50, 1, 28}}
	}
	return kerneltest.Sizes{Rows: 16384, Hidden: 7168, FFN: 20480, Tokens: 4096,
		Heads: kernels.Heads{Q: 64, KV: 8, Dim: 128}, Prompt: 300, Answers: []int{150, 40, 210, 133, 190, 1, 98}}
}

// repeatSizes are smaller, since every run takes its operands to the device and back.
func (d *doctor) repeatSizes() kerneltest.Sizes {
	s := d.sizes()
	if d.quick {
		s.Rows, s.Hidden, s.FFN, s.Tokens = 33, 136, 72, 17
		s.Heads.Q, s.Prompt, s.Answers = 2, 9, []int{5, 1, 7}
		return s
	}
	s.Rows, s.Tokens, s.FFN = s.Rows/16, s.Tokens/8, s.FFN/4
	return s
}

func (d *doctor) conformance(ctx context.Context, b kernels.Backend, dt kernels.DType) finding {
	names := kerneltest.Names()
	all := len(names)
	if d.quick {
		names = firstOfEach(names)
	}
	return eachName(ctx, names, fmt.Sprintf("of %d checks of the suite", all), func(name string) []error {
		return kerneltest.Errors(b, dt, name)
	})
}

// firstOfEach keeps the first check of each kind for each operation, KIND/OPERATION/...
func firstOfEach(names []string) (first []string) {
	seen := map[string]bool{}
	for _, name := range names {
		parts := strings.SplitN(name, "/", 4)
		key := strings.Join(parts[:min(2, len(parts))], "/")
		if parts[0] == "exact" && len(parts) > 2 { // exact/WHAT/OPERATION/...
			key += "/" + parts[2]
		}
		if !seen[key] {
			seen[key] = true
			first = append(first, name)
		}
	}
	return first
}

// eachName runs what belongs to each name and tells how many failed.
func eachName(ctx context.Context, names []string, what string, run func(name string) []error) finding {
	var errs []error
	bad := 0
	for _, name := range names {
		if ctx.Err() != nil {
			return fail(context.Cause(ctx))
		}
		if found := run(name); len(found) > 0 {
			bad++
			for _, err := range found {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	if bad > 0 {
		return fail(fmt.Errorf("%d of %d fail\n%w", bad, len(names), shortened(errs)))
	}
	return pass("%d %s", len(names), what)
}

func (d *doctor) large(ctx context.Context, b kernels.Backend, dt kernels.DType) finding {
	s := d.sizes()
	what := fmt.Sprintf("operations: %d rows of %d channels, products of %d x %d x %d, attention with %d:%d heads of %d", s.Rows, s.Hidden, s.Tokens, s.FFN, s.Hidden, s.Heads.Q, s.Heads.KV, s.Heads.Dim)
	return eachName(ctx, s.LargeNames(), what, func(name string) []error { return s.LargeErrors(b, dt, name) })
}

// repeated runs every operation again and again while another backend of the same device
// works, too. An emulator executes one thing at a time.
func (d *doctor) repeated(ctx context.Context, b kernels.Backend, dt kernels.DType) (f finding) {
	s, how := d.repeatSizes(), "operations, each while another backend of the device works"
	if d.emulated {
		how = "operations, without other work (an emulator does one thing at a time)"
	} else {
		stop, err := d.load(dt)
		if err != nil {
			return fail(err)
		}
		defer func() {
			if err := stop(); err != nil {
				f = fail(fmt.Errorf("the other backend: %w", err))
			}
		}()
	}
	return eachName(ctx, s.LargeNames(), how, func(name string) []error {
		if err := s.Repeat(b, dt, name, repetitions); err != nil {
			return []error{err}
		}
		return nil
	})
}

// load multiplies matrices on a backend of its own until stop is called.
func (d *doctor) load(dt kernels.DType) (stop func() error, err error) {
	b, err := d.open(d.device, dt)
	if err != nil {
		return nil, err
	}
	const n = 384
	var m [3]kernels.Tensor
	for i := range m {
		if m[i], err = b.Alloc("load", dt, n, n); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for err == nil {
			select {
			case <-done:
				return
			default:
				b.MatMul(m[0], m[1], m[2], kernels.NT, false)
				err = b.Sync()
			}
		}
	})
	return func() error {
		close(done)
		wait.Wait()
		return errors.Join(err, b.Close())
	}, nil
}
