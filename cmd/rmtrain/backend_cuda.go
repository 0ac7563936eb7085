//go:build nvidia

package main

import (
	"rmtrain/kernels"
	"rmtrain/kernels/cuda"
)

func openCUDA(dt kernels.DType, number int) (kernels.Backend, error) { return cuda.New(dt, number) }

// haveGPU reports whether the driver sees a GPU.
func haveGPU() bool {
	_, err := cuda.Devices()
	return err == nil
}
