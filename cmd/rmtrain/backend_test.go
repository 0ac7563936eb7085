package main

import (
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
