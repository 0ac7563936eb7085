//go:build !nvidia

package main

import (
	"errors"

	"rmtrain/kernels"
)

func openCUDA(kernels.DType, int) (kernels.Backend, error) {
	return nil, errors.New("device cuda: this program was built without CUDA (use device cpu, or build it with make build CUDA=on: docs/build.md)")
}

func haveGPU() bool { return false }

var errWithoutCUDA = errors.New("this program was built without CUDA (build it with the tag nvidia; see docs/cuda.md)")

// describeGPU says how to get what is missing, as does kernelFiguresOf.
func describeGPU(int) (string, error) { return "", errWithoutCUDA }

func kernelFiguresOf(int) ([]kernelFigure, error) { return nil, errWithoutCUDA }
