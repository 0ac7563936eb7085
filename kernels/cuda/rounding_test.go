//go:build nvidia

package cuda

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"rmtrain/kernels/kerneltest"
)

// envRounding is the pattern of the checks that a child process runs: the emulator reads its
// settings once.
const envRounding = "RMTRAIN_TEST_ROUNDING"

// takesLong are the largest shapes, which TestConformance has.
var takesLong = regexp.MustCompile("130x96|many rows|long (sequence|window)")

// TestRoundingChild is what the tests below run.
func TestRoundingChild(t *testing.T) {
	pattern := os.Getenv(envRounding)
	if pattern == "" {
		t.Skip("other tests run this")
	}
	wanted := regexp.MustCompile(pattern)
	for _, dt := range types {
		b := newBackend(t, dt)
		for _, name := range kerneltest.Names() {
			if !wanted.MatchString(name) || takesLong.MatchString(name) {
				continue
			}
			for _, err := range kerneltest.Errors(b, dt, name) {
				t.Errorf("%v: %s: %v", dt, name, err)
			}
		}
	}
}

// rounded runs checks in another order of warps and blocks, on tensor cores that cut low bits
// off, with approximate functions that are off by up to so many units of 2^-23. The memory
// checks are left to TestConformance, which takes most of its time for them.
func rounded(pattern string, order, units int) (output string, err error) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestRoundingChild$")
	cmd.Env = append(os.Environ(), envRounding+"="+pattern, "EMULATOR_CHECK=0", "EMULATOR_TRUNCATE=1",
		fmt.Sprint("EMULATOR_SEED=", order), fmt.Sprint("EMULATOR_JITTER=", units))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// everyValue is the checks of numbers, of all operations.
const everyValue = "^(values|nonfinite)/"

// A card's functions may be off by one or two units, and its tensor cores need not round. With
// twice that, all numbers of all operations stay within kerneltest.Tol.
func TestUnderOtherRoundingAndOrder(t *testing.T) {
	needDevice(t)
	for order := range 4 {
		t.Run(fmt.Sprint("order ", order), func(t *testing.T) {
			t.Parallel()
			if out, err := rounded(everyValue, order, 4); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// The settings have an effect, and the checks see it.
func TestTooMuchRoundingIsSeen(t *testing.T) {
	needDevice(t)
	info, err := Describe(0)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(info.Name, "emulat") {
		t.Skipf("%s does not round as it is told", info.Name)
	}
	const units = 1 << 17
	out, err := rounded("^values/(Attention/ratio 4|SwiGLU/5x7)$", 1, units)
	for _, op := range []string{"F32: values/Attention/ratio 4: ", "BF16: values/Attention/ratio 4: ", "F32: values/SwiGLU/5x7: "} {
		if err == nil || !strings.Contains(out, op) {
			t.Errorf("functions that are off by %d units of 2^-23 passed %sthe child's error %v, output\n%s", units, op, err, out)
		}
	}
}
