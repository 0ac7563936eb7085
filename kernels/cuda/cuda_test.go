//go:build nvidia

package cuda

import (
	"os"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
)

// EnvRequire names the environment variable that makes a missing device a failure: where
// the hardware, or the emulator, must be, a skip would hide that it is not.
const EnvRequire = "RMTRAIN_REQUIRE"

// needDevice skips the test, or fails it, if there is no GPU and no emulator.
func needDevice(t testing.TB) {
	t.Helper()
	if _, err := Devices(); err != nil {
		if os.Getenv(EnvRequire) == "cuda" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func newBackend(t testing.TB, dt kernels.DType) *backend {
	t.Helper()
	return newWith(t, dt, images())
}

// newWith returns a backend with kernels of the given modules.
func newWith(t testing.TB, dt kernels.DType, images map[string]string) *backend {
	t.Helper()
	needDevice(t)
	b, err := newFrom(dt, 0, images)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil && !t.Failed() {
			t.Error(err)
		}
	})
	return b
}

var types = []kernels.DType{kernels.F32, kernels.BF16}

func TestConformance(t *testing.T) {
	for _, dt := range types {
		t.Run(dt.String(), func(t *testing.T) {
			b := newBackend(t, dt)
			for _, name := range kerneltest.Names() {
				for _, err := range kerneltest.Errors(b, dt, name) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	needDevice(t)
	info, err := Describe(0)
	if err != nil {
		t.Fatal(err)
	}
	if info.Devices < 1 || info.Driver < 12000 || info.Name == "" || info.Capability < "8.0" || info.Memory == 0 || info.Processors == 0 {
		t.Errorf("%+v", info)
	}
	if want := len(images()); info.Modules != want || info.Kernels < want {
		t.Errorf("%d modules with %d kernels, embedded are %d", info.Modules, info.Kernels, want)
	}
	if _, err := Describe(99); err == nil {
		t.Error("there is no device 99, and it is described")
	}
}
