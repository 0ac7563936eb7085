//go:build nvidia

package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"rmtrain/kernels"
)

// needGPU skips the test if the driver sees no GPU, nor the emulator; where
// RMTRAIN_REQUIRE is cuda it fails.
func needGPU(t *testing.T) {
	t.Helper()
	if haveGPU() {
		return
	}
	if os.Getenv("RMTRAIN_REQUIRE") == "cuda" {
		t.Fatal("there is no GPU")
	}
	t.Skip("there is no GPU")
}

// A GPU sums in another order than the CPU, which may change the trained model by no more
// than other micro-batches do.
func TestTrainingOnAGPUAgreesWithTheCPU(t *testing.T) {
	needGPU(t)
	settings := []string{"train.max_steps=2", "train.prompts_per_step=4", "data.eval=[]"}
	cpu := floats(t, weights(t, trained(t, append(settings, "device=cpu")...)))
	gpu := floats(t, weights(t, trained(t, append(settings, "device=cuda")...)))
	if d := distance(gpu, cpu); d == 0 || !(d <= 2e-3) {
		t.Errorf("relative distance of the weights' changes %g, want rounding, which is neither 0 nor above 2e-3", d)
	}
}

func TestDevicesThatAreTheFirstGPU(t *testing.T) {
	needGPU(t)
	for _, device := range []string{"auto", "cuda", "cuda:0"} {
		b, err := openBackend(device, kernels.BF16)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(b.Name(), "cuda:0(") {
			t.Errorf("device %s is %s", device, b.Name())
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBF16TrainsOnAGPU(t *testing.T) {
	needGPU(t)
	out := ok(t, training(t, t.TempDir()+"/out", "train.max_steps=2", "train.prompts_per_step=4", "data.eval=[]", "device=cuda", "model.dtype=bfloat16")...)
	if !strings.Contains(out, "step 2/2") {
		t.Errorf("no second step:\n%s", out)
	}
}

func TestAGPUThatIsNotThereIsAnError(t *testing.T) {
	needGPU(t)
	fails(t, training(t, t.TempDir()+"/out", "device=cuda:99"), "nothing was started", "there is no device 99")
}

// Memory that is gone before training begins is an error with what was planned, and what
// would fit.
func TestTooLittleMemoryOfAGPUIsAnErrorWithAPlan(t *testing.T) {
	needGPU(t)
	args := training(t, t.TempDir()+"/out", "device=cuda", "train.recompute=never", "train.max_tokens_per_batch=8192")
	r := runWith(t, []string{"EMULATOR_MEMORY=50000000"}, args...)
	if r.status != 1 || !regexp.MustCompile(`out of memory(?s:.*)planned was\n(?s:.*) total +\d+\.\d MiB\nwould fit: --set train.max_tokens_per_batch=2048, `).MatchString(r.stderr) {
		t.Errorf("status %d\n%s\n%s", r.status, r.stdout, r.stderr)
	}
}
