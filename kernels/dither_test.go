package kernels

import (
	"math"
	"math/bits"
	"testing"
)

// The numbers are those of an implementation in Python of what Dither's comment says.
func TestDitherIsWhatItsCommentSays(t *testing.T) {
	for _, c := range []struct {
		seed uint64
		step int
		i    int
		want uint32
	}{
		{0, 1, 0, 0x7f2d},
		{0, 1, 1, 0xde8d},
		{0, 2, 0, 0xe8ae},
		{1, 1, 0, 0x60e1},
		{7, 3, 4098, 0x8cb8},
		{0x8000000000003039, 1000, 123456789, 0xe448},
		{42, 1, 1<<32 - 1, 0xad07},
		{42, 1, 1 << 32, 0x463b},
		{42, 1, 3<<32 + 5, 0xd640},
	} {
		if got := NewDither(c.seed, c.step).At(c.i); got != c.want {
			t.Errorf("seed %d, step %d, element %d: %#04x, want %#04x", c.seed, c.step, c.i, got, c.want)
		}
	}
}

// Over elements, over steps and over seeds, each bit is set half of the time, and differs from
// its value one and 2^k further on half of the time.
func TestDitherIsUniformAlongEveryAxis(t *testing.T) {
	const n = 1 << 14
	for name, at := range map[string]func(i int) uint32{
		"elements":             func(i int) uint32 { return NewDither(3, 5).At(i) },
		"elements beyond 2^32": func(i int) uint32 { return NewDither(3, 5).At(i + 1<<32 - n/2) },
		"steps":                func(i int) uint32 { return NewDither(3, 1+i).At(77) },
		"seeds":                func(i int) uint32 { return NewDither(uint64(i), 5).At(77) },
	} {
		for lag := 1; lag <= 1<<12; lag *= 2 {
			var set, flipped [16]int
			for i := range n {
				x := at(i)
				difference := x ^ at(i+lag)
				for bit := range 16 {
					set[bit] += int(x >> bit & 1)
					flipped[bit] += int(difference >> bit & 1)
				}
			}
			for bit := range 16 {
				for what, count := range map[string]int{"set": set[bit], "flipped": flipped[bit]} {
					if z := (float64(count) - n/2) / math.Sqrt(n/4); math.Abs(z) > 5 {
						t.Errorf("%s, lag %d: bit %d is %s %d times of %d", name, lag, bit, what, count, n)
					}
				}
			}
		}
	}
}

// Two steps, or two seeds, share no more numbers than chance would have it, at any shift.
func TestDithersOfStepsAreUnrelated(t *testing.T) {
	const n = 1 << 12
	a := NewDither(1, 1)
	for name, b := range map[string]Dither{"step": NewDither(1, 2), "seed": NewDither(2, 1), "step and seed": NewDither(2, 2)} {
		for shift := range 64 {
			distance := 0
			for i := range n {
				distance += bits.OnesCount32(a.At(i) ^ b.At(i+shift))
			}
			if z := (float64(distance) - 8*n) / math.Sqrt(4*n); math.Abs(z) > 5 {
				t.Errorf("another %s, shifted by %d: %d bits of %d differ", name, shift, distance, 16*n)
			}
		}
	}
}

func value(bits uint16) float64 { return float64(math.Float32frombits(uint32(bits) << 16)) }

// A number is rounded to a neighbour, and to the farther one as seldom as it is far: so the
// mean is the number.
func TestStochasticRoundingKeepsTheMean(t *testing.T) {
	const seeds = 1 << 12
	for _, x := range []float32{1, -1, 1 + 1e-4, 1 + 0x1p-9, -1 - 0x1.8p-8, 3.14159265, -2.71828183e-20, 1e38, 1e-42, 0} {
		down := uint16(math.Float32bits(x) >> 16)
		distance := value(down+1) - value(down)
		share := (float64(x) - value(down)) / distance
		up := 0
		for seed := range uint64(seeds) {
			switch got := NewDither(seed, 3).Round(x, 11); got {
			case down:
			case down + 1:
				up++
			default:
				t.Fatalf("%g became %g, between %g and %g", x, value(got), value(down), value(down+1))
			}
		}
		deviation := math.Sqrt(share * (1 - share) * seeds)
		if math.Abs(float64(up)-share*seeds) > 4*deviation {
			t.Errorf("%g: %d of %d away from zero, want %.0f within %.0f", x, up, seeds, share*seeds, 4*deviation)
		}
	}
}

func TestStochasticRoundingAtTheLimits(t *testing.T) {
	for _, c := range []struct {
		name string
		bits uint32
		want map[uint16]bool
	}{
		{"infinity", 0x7f800000, map[uint16]bool{0x7f80: true}},
		{"minus infinity", 0xff800000, map[uint16]bool{0xff80: true}},
		{"NaN", 0x7fffffff, map[uint16]bool{0x7fff: true}},
		{"NaN whose payload would be cut", 0xff800001, map[uint16]bool{0xffc0: true}},
		{"minus zero", 0x80000000, map[uint16]bool{0x8000: true}},
		{"largest bfloat16", 0x7f7f0000, map[uint16]bool{0x7f7f: true}},
		{"between that and infinity", 0x7f7f8000, map[uint16]bool{0x7f7f: true, 0x7f80: true}},
	} {
		seen := map[uint16]bool{}
		for i := range 100 {
			seen[NewDither(1, 1).Round(math.Float32frombits(c.bits), i)] = true
		}
		for bits := range seen {
			if !c.want[bits] {
				t.Errorf("%s became %#04x", c.name, bits)
			}
		}
		if len(seen) != len(c.want) {
			t.Errorf("%s became %d numbers, want %d", c.name, len(seen), len(c.want))
		}
	}
}
