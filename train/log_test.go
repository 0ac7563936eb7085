package train

import "testing"

func TestRatesAreBrief(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{
		0: " 0.00 ", 0.314: " 0.31 ", 9.5: " 9.50 ", 72.36: " 72.4 ", 512.4: "  512 ", 999.6: " 1.00k", 53551: " 53.6k", 1.234e6: " 1.23M", 4.2e10: " 42.0G",
	} {
		if got := brief(x); got != want {
			t.Errorf("%g is %q, want %q", x, got, want)
		}
	}
}
