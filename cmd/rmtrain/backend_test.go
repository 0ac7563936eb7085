package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rmtrain/kernels"
)

func TestDevices(t *testing.T) {
	for name, want := range map[string]device{
		"auto":   {kind: "auto"},
		"cpu":    {kind: "cpu"},
		"cuda":   {kind: "cuda"},
		"cuda:0": {"cuda", 0},
		"cuda:7": {"cuda", 7},
	} {
		if got, err := parseDevice(name); err != nil || got != want {
			t.Errorf("parseDevice(%q) = %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "gpu", "cuda:", "cuda:N", "cuda:-1", "cuda:1x", "CUDA"} {
		if d, err := parseDevice(name); err == nil {
			t.Errorf("parseDevice(%q) = %v", name, d)
		}
	}
}

// A smallGPU computes on the CPU, and says it has memory of its own: for matrices of few rows.
type smallGPU struct {
	kernels.Backend
	most  int
	asked []int
}

func (s *smallGPU) Name() string              { return "cuda:0(small)" }
func (s *smallGPU) Available() (int64, error) { return 1 << 30, nil }

func (s *smallGPU) Alloc(tag string, dt kernels.DType, shape ...int) (kernels.Tensor, error) {
	if s.asked = append(s.asked, shape[0]); shape[0] > s.most {
		return kernels.Tensor{}, fmt.Errorf("no: %w", kernels.ErrOutOfMemory)
	}
	return s.Backend.Alloc(tag, dt, shape...)
}

func TestPeakIsMeasuredWithWhatMemoryAllows(t *testing.T) {
	b, err := openBackend("cpu", kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for most, want := range map[int][]int{1024: {8192, 4096, 2048, 1024, 1024, 1024}, 0: {8192, 4096, 2048, 1024}} {
		gpu := &smallGPU{Backend: b, most: most}
		peak, err := measurePeak(gpu, kernels.F32)
		if (err == nil) != (most > 0) || (peak > 0) != (most > 0) || !slices.Equal(gpu.asked, want) {
			t.Errorf("memory for %d rows: %g, %v, having asked for %v, want %v", most, peak, err, gpu.asked, want)
		}
	}
	if inTensors(b.Used()) != 0 {
		t.Errorf("left are %v", b.Used())
	}
}

// auto must never fail for want of a GPU, and cuda must say what to do.
func TestDeviceWithoutGPU(t *testing.T) {
	if haveGPU() {
		t.Skip("there is a GPU")
	}
	b, err := openBackend("auto", kernels.F32)
	if err != nil || !strings.HasPrefix(b.Name(), "cpu(") {
		t.Fatalf("auto without a GPU: %v, %v", b, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	_, err = openBackend("cuda", kernels.F32)
	remedies := []string{"built without CUDA", "is an NVIDIA driver installed", "sees no GPU"}
	if err == nil || !slices.ContainsFunc(remedies, func(s string) bool { return strings.Contains(err.Error(), s) }) {
		t.Errorf("cuda without a GPU: %v", err)
	}
}
