package kerneltest

import (
	"encoding/binary"
	"fmt"
	"math"

	"rmtrain/kernels"
)

func adamWChecks() []check {
	return []check{
		{"exact/AdamW/parameter is the rounded master", roundedMaster},
		{"exact/AdamW stochastic/what a master would be, rounded by the dither", dithered},
		{"exact/AdamW stochastic/stays without an update", stays},
		{"exact/AdamW stochastic/beyond bfloat16", ditheredLimits},
		{"shapes/AdamW stochastic/is asked for", optsIn},
	}
}

// roundedMaster wants a BF16 parameter to be its master rounded to nearest even.
func roundedMaster(b kernels.Backend, dt kernels.DType) []error {
	if dt != kernels.BF16 {
		return nil
	}
	var errs []error
	for _, c := range adamwCases() {
		if len(c.in) != 5 {
			continue // no master
		}
		after, more := c.evaluate(b, dt, c.problem(dt).values)
		if errs = append(errs, more...); after == nil {
			return errs
		}
		param, master := decode(kernels.BF16, after[0]), decode(kernels.F32, after[1])
		for i := range param {
			if want := nearestBF16(master[i]); param[i] != want {
				return append(errs, fmt.Errorf("%s: element %d is %g, but its master is %g", c.name, i, param[i], master[i]))
			}
		}
	}
	return errs
}

// update is the step of the checks of stochastic rounding, some of whose fields they change.
var update = kernels.AdamW{LR: 1e-2, Beta1: .9, Beta2: .95, Eps: 1e-2, WeightDecay: .1, GradScale: .5, Step: 1}

// An adamWState is what AdamW reads: a BF16 parameter and its moments and gradient.
type adamWState struct{ param, m, v, grad []float64 }

func randomAdamWState(n int) adamWState {
	r := seeded("AdamW stochastic")
	of := func(o operand) []float64 { return round(o.kind.dtype(kernels.BF16), o.elements(r)) }
	return adamWState{of(act(n)), of(stat(n)), of(stat(n).positive()), of(stat(n))}
}

// run makes a step on aligned tensors of b and returns the bytes of the moments and of the
// parameter: of its master, or of itself if the step is stochastic.
func (s adamWState) run(b kernels.Backend, step kernels.AdamW) (out [3][]byte, err error) {
	put := func(dt kernels.DType, v []float64) (t kernels.Tensor) {
		if err == nil {
			if t, err = b.Alloc("kerneltest", dt, len(v)); err == nil {
				b.Upload(t, encode(dt, v))
			}
		}
		return t
	}
	step.M, step.V, step.Grad = put(kernels.F32, s.m), put(kernels.F32, s.v), put(kernels.F32, s.grad)
	step.Param = put(kernels.BF16, s.param)
	result := step.Param
	if !step.Stochastic {
		step.Master = put(kernels.F32, s.param)
		result = step.Master
	}
	defer func() {
		for _, t := range []kernels.Tensor{step.Param, step.Master, step.M, step.V, step.Grad} {
			b.Free(t)
		}
	}()
	if err != nil {
		return out, err
	}
	b.AdamW(step)
	for i, t := range []kernels.Tensor{step.M, step.V, result} {
		out[i] = make([]byte, t.Bytes())
		b.Download(out[i], t)
	}
	return out, b.Sync()
}

// dithers wants a stochastic step to have the moments that it has with a master, and the
// parameter to be the master rounded by the numbers of kernels.Dither.
func (s adamWState) dithers(b kernels.Backend, step kernels.AdamW) error {
	wide, err := s.run(b, step)
	if err != nil {
		return err
	}
	step.Stochastic = true
	narrow, err := s.run(b, step)
	if err != nil {
		return err
	}
	if string(wide[0]) != string(narrow[0]) || string(wide[1]) != string(narrow[1]) {
		return fmt.Errorf("AdamW of %d elements, step %d: moments differ from those beside a master", len(s.param), step.Step)
	}
	d := kernels.NewDither(step.Seed, step.Step)
	for i := range s.param {
		master := math.Float32frombits(binary.LittleEndian.Uint32(wide[2][4*i:]))
		got, want := binary.LittleEndian.Uint16(narrow[2][2*i:]), d.Round(master, i)
		if got != want && !(isNaN16(got) && isNaN16(want)) {
			return fmt.Errorf("AdamW, seed %d, step %d: element %d of %d is %#04x, want %#04x, which %g is rounded to",
				step.Seed, step.Step, i, len(s.param), got, want, master)
		}
	}
	return nil
}

func isNaN16(bits uint16) bool { return bits&0x7fff > 0x7f80 }

// dithered steps with several seeds and counts, on whole packs and not, and on more elements
// than a task has.
func dithered(b kernels.Backend, dt kernels.DType) (errs []error) {
	if dt != kernels.BF16 {
		return nil
	}
	for _, n := range []int{1 << 13, 4099} {
		s := randomAdamWState(n)
		for _, u := range []struct {
			seed uint64
			step int
		}{{0, 1}, {0, 2}, {1, 1}, {1<<63 + 12345, 1000}} {
			step := update
			step.Seed, step.Step = u.seed, u.step
			if err := s.dithers(b, step); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// stays wants every bit of a parameter that an update leaves as it is.
func stays(b kernels.Backend, dt kernels.DType) []error {
	if dt != kernels.BF16 {
		return nil
	}
	s, step := randomAdamWState(1003), update
	step.Stochastic, step.LR = true, 0
	after, err := s.run(b, step)
	if err != nil {
		return []error{err}
	}
	if string(after[2]) != string(encode(kernels.BF16, s.param)) {
		return []error{fmt.Errorf("AdamW with a rate of 0 changes bfloat16 weights")}
	}
	return nil
}

// ditheredLimits steps over the largest bfloat16, where infinity is the next number, and from
// what is not finite.
func ditheredLimits(b kernels.Backend, dt kernels.DType) []error {
	if dt != kernels.BF16 {
		return nil
	}
	const largest = 0x1.fep127
	s, step := randomAdamWState(64), update
	for i := range s.param {
		s.param[i] = []float64{largest, -largest, math.Inf(1), math.Inf(-1), math.NaN()}[i%5]
		s.m[i], s.grad[i] = 0, -s.param[i]
		if isNotFinite(s.param[i]) {
			s.grad[i] = 1
		}
	}
	// The moments hold the sign of the gradient and its square alone, and so the step is the
	// rate: half of the distance of the largest numbers.
	step.LR, step.WeightDecay, step.Beta1, step.Beta2, step.GradScale, step.Eps = 0x1p119, 0, 0, 0, 0x1p-127, 1e-8
	if err := s.dithers(b, step); err != nil {
		return []error{err}
	}
	return nil
}

// optsIn wants a panic unless a BF16 parameter has a master or is said to do without, and no
// other is.
func optsIn(b kernels.Backend, dt kernels.DType) (errs []error) {
	s := randomAdamWState(8)
	for _, c := range []struct {
		name               string
		master, stochastic bool
		fits               bool
	}{
		{"neither a master nor stochastic", false, false, dt != kernels.BF16},
		{"a master", true, false, dt == kernels.BF16},
		{"stochastic", false, true, dt == kernels.BF16},
		{"both", true, true, false},
	} {
		adam := testCase{name: "AdamW", in: []operand{act(8), stat(8), stat(8), stat(8), stat(8)},
			run: func(b kernels.Backend, t []kernels.Tensor) {
				step := update
				step.Param, step.Master, step.M, step.V, step.Grad, step.Stochastic = t[0], t[1], t[2], t[3], t[4], c.stochastic
				b.AdamW(step)
			}}
		values := [][]float64{s.param, s.param, s.m, s.v, s.grad}
		panics := adam.panicsOn(b, dt, values, func(ts []kernels.Tensor) {
			if !c.master {
				ts[1] = kernels.Tensor{}
			}
		})
		if panics == c.fits {
			errs = append(errs, fmt.Errorf("AdamW of %v with %s: panics is %v", dt, c.name, panics))
		}
	}
	return errs
}
