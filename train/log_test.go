package train

import (
	"syscall"
	"testing"
	"unicode/utf8"
)

func TestTheStepLineFits120Columns(t *testing.T) {
	t.Parallel()
	r := &trainer{in: Inputs{PeakFLOPS: 1}, plan: &plan{groups: 4000, perStep: 8, perEpoch: 500, total: 99999}}
	loss := 9.87654
	line := r.describe(metricsLine{
		Step: 12345, Loss: &loss, PairwiseAccuracy: 1, Margin: -9.8765, GradNorm: 98.765, LearningRate: 1.23e-5, TokensPerSecond: 98765, Utilization: 1,
	})
	if n := utf8.RuneCountInString(line); n > 120 {
		t.Errorf("%d columns: %s", n, line)
	}
}

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

// A process that is being started has all open files for a moment, until it executes its
// program: a run that ended must not seem to go on in it.
func TestAnEndedRunLeavesItsFolderUnlocked(t *testing.T) {
	dir := t.TempDir()
	l, err := openLogger(Inputs{}, dir, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := syscall.Dup(int(l.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(inherited)
	if _, err := openLogger(Inputs{}, dir, 1, 0); err == nil {
		t.Error("two runs in one folder")
	}
	l.close()
	again, err := openLogger(Inputs{}, dir, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	again.close()
}
