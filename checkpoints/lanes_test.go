package checkpoints

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

// everyClass returns floats of each kind: all bfloat16 values, among them zeros, subnormals,
// infinities and NaNs of all payloads that it has, and what lies between them at, next
// to and far from ties.
func everyClass() []uint32 {
	var values []uint32
	for high := range uint32(1 << 16) {
		for _, low := range []uint32{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff} {
			values = append(values, high<<16|low)
		}
	}
	return values
}

func everyHalf() []uint32 {
	var values []uint32
	for h := range uint32(1 << 16) {
		values = append(values, h)
	}
	return values
}

// mixed returns values in an order in which neighbours are of different kinds.
func mixed(values []uint32) []uint32 {
	out := make([]uint32, len(values))
	for i := range out {
		out[i] = values[i*40_009%len(values)] // a prime
	}
	return out
}

func elements(size int, values []uint32) []byte {
	var out []byte
	for _, v := range values {
		out = append(out, binary.LittleEndian.AppendUint32(nil, v)[:size]...)
	}
	return out
}

func TestConversionsByLanesEqualThoseOfSingleElements(t *testing.T) {
	tests := []struct {
		dst, src string
		values   []uint32
		one      func(uint32) uint32
	}{
		{"F32", "BF16", everyHalf(), func(v uint32) uint32 { return v << 16 }},
		{"F32", "F16", everyHalf(), func(v uint32) uint32 { return halfToFloat(uint16(v)) }},
		{"BF16", "F16", everyHalf(), func(v uint32) uint32 { return uint32(floatToBF16(halfToFloat(uint16(v)))) }},
		{"BF16", "F32", everyClass(), func(v uint32) uint32 { return uint32(floatToBF16(v)) }},
	}
	for _, c := range tests {
		t.Run(c.src+" to "+c.dst, func(t *testing.T) {
			convert, err := converter(c.dst, c.src)
			if err != nil {
				t.Fatal(err)
			}
			in, out := sizeOf[c.src], sizeOf[c.dst]
			for _, values := range [][]uint32{c.values, mixed(c.values)} {
				var ones []uint32
				for _, v := range values {
					ones = append(ones, c.one(v))
				}
				from, want := elements(in, values), elements(out, ones)
				check := func(lo, hi int) {
					t.Helper()
					got := make([]byte, (hi-lo)*out)
					convert(got, from[lo*in:hi*in])
					if i := firstDifference(got, want[lo*out:hi*out]); i >= 0 {
						t.Fatalf("elements [%d, %d): %#x, the first that differs, becomes %x", lo, hi, values[lo+i/out], got[i/out*out:][:out])
					}
				}
				for lane := range 8 { // every value in every lane
					check(lane, len(values))
				}
				for n := range 20 { // every rest after whole words
					check(n, 2*n)
				}
			}
		})
	}
}

// firstDifference returns the index of the first byte that differs, or -1.
func firstDifference(a, b []byte) int {
	if slices.Equal(a, b) {
		return -1
	}
	i := 0
	for a[i] == b[i] {
		i++
	}
	return i
}

func TestFloatsRoundToTheNearerNeighbour(t *testing.T) {
	for _, v := range everyClass() {
		exact := float64(math.Float32frombits(v))
		got := floatToBF16(v)
		if math.IsNaN(exact) {
			if !math.IsNaN(bf16Value(got)) {
				t.Fatalf("NaN %#x becomes %#x", v, got)
			}
			continue
		}
		down, up := uint16(v>>16), uint16(v>>16)+1 // toward zero and away from it
		below, above := math.Abs(exact-bf16Value(down)), math.Abs(bf16Value(up)-exact)
		want := down
		if v&0xffff != 0 && (above < below || above == below && up%2 == 0) {
			want = up
		}
		if got != want {
			t.Fatalf("%#x, %v, becomes %#x, want %#x", v, exact, got, want)
		}
	}
}

// bf16Value returns the value of a bfloat16. Infinities count as the power of two that
// follows the largest number, as rounding takes them.
func bf16Value(h uint16) float64 {
	v := float64(math.Float32frombits(uint32(h) << 16))
	if math.IsInf(v, 0) {
		return math.Copysign(0x1p128, v)
	}
	return v
}
