package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
)

// devices are the values of --device and of the configuration's device; cuda:N is the GPU
// of that number.
var devices = []string{"auto", "cpu", "cuda", "cuda:N"}

// A device is where to compute, as a user names it.
type device struct {
	kind   string // auto, cpu or cuda
	number int    // of the GPU
}

func parseDevice(name string) (device, error) {
	if number, ok := strings.CutPrefix(name, "cuda:"); ok {
		n, err := strconv.ParseUint(number, 10, 16)
		if err == nil {
			return device{"cuda", int(n)}, nil
		}
	} else if slices.Contains(devices, name) {
		return device{kind: name}, nil
	}
	return device{}, fmt.Errorf("device %q is unknown (choose auto, cpu, cuda, or cuda:N for the GPU of number N, counted from 0)", name)
}

func knownDevice(name string) bool {
	_, err := parseDevice(name)
	return err == nil
}

// openBackend returns the backend for a device. Only this file, and the one that knows
// whether CUDA is built, know which exist. auto is the first GPU if there is one, and a GPU
// that cannot be used is an error: the CPU in its place would be a hundred times slower
// without a word.
func openBackend(name string, dt kernels.DType) (kernels.Backend, error) {
	d, err := parseDevice(name)
	switch {
	case err != nil:
		return nil, err
	case d.kind == "cuda":
		return openCUDA(dt, d.number)
	case d.kind == "auto" && haveGPU():
		b, err := openCUDA(dt, 0)
		if err != nil {
			return nil, fmt.Errorf("%w (or choose device cpu)", err)
		}
		return b, nil
	}
	return cpu.New(dt)
}

// memoryOf returns what is available where b computes, and whether that is a GPU.
func memoryOf(b kernels.Backend) (available int64, gpu bool) {
	if device, ok := b.(interface{ Available() (int64, error) }); ok {
		if n, err := device.Available(); err == nil {
			return n, true
		}
	}
	return availableMemory(), false
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

// peakSize returns how many rows matrices have that fill where b computes.
func peakSize(b kernels.Backend) int {
	switch _, gpu := memoryOf(b); {
	case !gpu:
		return 1024
	case strings.Contains(b.Name(), emulatedName):
		return 64
	}
	return 8192
}

// measurePeak returns the floating point operations per second of the backend's
// best product of large square matrices, or of smaller ones if memory is short.
func measurePeak(b kernels.Backend, dt kernels.DType) (float64, error) {
	n := peakSize(b)
	peak, err := measureProduct(b, dt, n)
	for errors.Is(err, kernels.ErrOutOfMemory) && n > 1024 {
		n /= 2
		peak, err = measureProduct(b, dt, n)
	}
	return peak, err
}

// measureProduct is measurePeak for matrices of n rows.
func measureProduct(b kernels.Backend, dt kernels.DType, n int) (float64, error) {
	var m [3]kernels.Tensor
	for i := range m {
		var err error
		if m[i], err = b.Alloc("measurement", dt, n, n); err != nil {
			return 0, err
		}
		defer b.Free(m[i])
	}
	best := time.Duration(math.MaxInt64)
	for begin, times := time.Now(), 0; times < 2 || time.Since(begin) < 50*time.Millisecond; times++ {
		start := time.Now()
		b.MatMul(m[0], m[1], m[2], kernels.NT, false)
		if err := b.Sync(); err != nil {
			return 0, err
		}
		best = min(best, time.Since(start))
	}
	return 2 * math.Pow(float64(n), 3) / best.Seconds(), nil
}
