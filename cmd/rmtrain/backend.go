package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
)

// devices are the values of --device and of the configuration's device.
var devices = []string{"auto", "cpu", "cuda"}

// openBackend returns the backend for a device. Only this file knows which exist.
func openBackend(device string, dt kernels.DType) (kernels.Backend, error) {
	switch device {
	case "auto", "cpu":
		return cpu.New(dt)
	case "cuda":
		return nil, fmt.Errorf("device cuda: this program was built without CUDA (use device cpu)")
	}
	return nil, fmt.Errorf("device %q is unknown (choose one of %q)", device, devices)
}

// dtypeNames are the values of --dtype and of model.dtype.
var dtypeNames = []string{"float32", "bfloat16"}

func parseDType(name string) (kernels.DType, error) {
	i := slices.Index(dtypeNames, name)
	if i < 0 {
		return 0, fmt.Errorf("dtype %q is unknown (choose one of %q)", name, dtypeNames)
	}
	return []kernels.DType{kernels.F32, kernels.BF16}[i], nil
}

// measurePeak returns the floating point operations per second of the backend's
// best matrix product, 2·1024³ operations a piece.
func measurePeak(b kernels.Backend, dt kernels.DType) (float64, error) {
	const n = 1024
	var m [3]kernels.Tensor
	for i := range m {
		var err error
		if m[i], err = b.Alloc("measurement", dt, n, n); err != nil {
			return 0, err
		}
		defer b.Free(m[i])
	}
	best := time.Duration(math.MaxInt64)
	for begin, n := time.Now(), 0; n < 2 || time.Since(begin) < 50*time.Millisecond; n++ {
		start := time.Now()
		b.MatMul(m[0], m[1], m[2], kernels.NT, false)
		if err := b.Sync(); err != nil {
			return 0, err
		}
		best = min(best, time.Since(start))
	}
	return 2 * n * n * n / best.Seconds(), nil
}
