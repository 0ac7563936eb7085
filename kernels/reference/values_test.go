package reference

import (
	"math"
	"testing"
)

func TestRoundBF16(t *testing.T) {
	const largest = 0x1.fep127
	for _, c := range []struct {
		name    string
		x, want float64
	}{
		{"exact", 1.5, 1.5},
		{"tie to even, down", 1 + 0x1p-8, 1},
		{"tie to even, up", 1 + 0x3p-8, 1 + 0x1p-6},
		{"just above a tie, which float32 would lose", 1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-7},
		{"negative", -1 - 0x3p-8, -1 - 0x1p-6},
		{"into the next binade", 2 - 0x1p-9, 2},
		{"largest", largest, largest},
		{"beyond the largest, less than half", largest + 0x1p118, largest},
		{"beyond the largest, half", largest + 0x1p119, math.Inf(1)},
		{"far beyond", -1e300, math.Inf(-1)},
		{"smallest normal", 0x1p-126, 0x1p-126},
		{"subnormal", 0x1.8p-133, 0x1p-132},
		{"tie of subnormals", 0x1p-134, 0},
		{"above a tie of subnormals", 0x1.1p-134, 0x1p-133},
		{"infinity", math.Inf(-1), math.Inf(-1)},
	} {
		if got := float64(roundBF16(c.x)); got != c.want {
			t.Errorf("%s: %v becomes %v, want %v", c.name, c.x, got, c.want)
		}
	}
	if got := roundBF16(math.NaN()); got == got {
		t.Errorf("NaN becomes %v", got)
	}
	if got := roundBF16(math.Copysign(0, -1)); got != 0 || !math.Signbit(float64(got)) {
		t.Errorf("-0 becomes %v", got)
	}
}
