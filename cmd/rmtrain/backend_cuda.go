//go:build nvidia

package main

import (
	"fmt"

	"rmtrain/kernels"
	"rmtrain/kernels/cuda"
)

func openCUDA(dt kernels.DType, number int) (kernels.Backend, error) { return cuda.New(dt, number) }

// haveGPU reports whether the driver sees a GPU.
func haveGPU() bool {
	_, err := cuda.Devices()
	return err == nil
}

// kernelFiguresOf asks the driver of the GPU of that number.
func kernelFiguresOf(number int) (figures []kernelFigure, err error) {
	all, err := cuda.Figures(number)
	for _, f := range all {
		figures = append(figures, kernelFigure{f.Kernel, f.Registers, f.Local, f.Shared, f.Table, f.TableRegisters, f.TableShared})
	}
	return figures, err
}

// describeGPU says what the GPU of that number is.
func describeGPU(number int) (string, error) {
	i, err := cuda.Describe(number)
	if err != nil {
		return "", err
	}
	ecc := map[bool]string{true: "on", false: "off"}[i.ECC]
	return fmt.Sprintf("%s, compute capability %s, %s, %d multiprocessors at up to %d MHz, ECC %s; device %d of %d; driver for CUDA %d.%d; took %d modules of PTX with %d kernels",
		i.Name, i.Capability, mebibytes(i.Memory), i.Processors, i.ProcessorClockMHz, ecc, number, i.Devices, i.Driver/1000, i.Driver%1000/10, i.Modules, i.Kernels), nil
}
