// Package cpu is the fast backend for any CPU: C kernels, written with GNU vector
// extensions, for AVX-512, AVX2 and everything else, chosen at run time and run by
// goroutines.
//
// C knows arithmetic (kernels.h lists the kernels), Go knows the rest: shapes,
// memory, and how an operation is cut into tasks. No result depends on how it was
// cut, so neither on the number of threads, which is GOMAXPROCS.
package cpu

/*
#cgo CFLAGS: -O3 -std=gnu11 -Wall -Wno-misleading-indentation -Wno-psabi
#cgo LDFLAGS: -lm
#include "kernels.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"rmtrain/kernels"
)

// EnvCPU names the environment variable that forces an instruction set.
const EnvCPU = "RMTRAIN_CPU"

type backend struct {
	memory
	act       kernels.DType // of activations and weights
	set       *C.kernel_set // for elements of type act
	f32, bf16 *C.kernel_set // for elements of either type

	// Scratch memory grows and is kept: operations run one at a time.
	workers []region // one per goroutine of an operation
	packed  region   // MatMul: the transposed operand
	parts   region   // gradients that are added up in order
	own, at []int64  // AttentionBack: places in parts
	sums    []float64
}

// New returns a backend whose activations and weights are of type dt, F32 or BF16.
// It uses the best instruction set that this CPU has, or the one that the
// environment variable RMTRAIN_CPU names: avx512, avx2 or portable.
func New(dt kernels.DType) (kernels.Backend, error) { return newFor(dt, os.Getenv(EnvCPU)) }

// newFor is New with an instruction set, or the best if isa is empty.
func newFor(dt kernels.DType, isa string) (kernels.Backend, error) {
	if dt != kernels.F32 && dt != kernels.BF16 {
		return nil, fmt.Errorf("cpu: cannot compute in %v (use F32 or BF16)", dt)
	}
	b := &backend{act: dt, memory: newMemory()}
	var known []string
	for i := 0; ; i++ {
		f32, name := setAt(i, kernels.F32)
		if name == "" {
			break
		}
		known = append(known, name)
		if isa != "" && isa != name {
			continue
		}
		if f32 != nil {
			b.f32 = f32
			b.bf16, _ = setAt(i, kernels.BF16)
			b.set = b.setFor(dt)
			return b, nil
		}
		if isa == name {
			return nil, fmt.Errorf("cpu: %s=%s: this CPU, or this build, lacks it (this one can: %s)", EnvCPU, isa, strings.Join(available(), ", "))
		}
	}
	return nil, fmt.Errorf("cpu: %s=%s: unknown instruction set (known: %s)", EnvCPU, isa, strings.Join(known, ", "))
}

// setAt returns kernel set number i, nil if this CPU lacks it, and its name, empty
// past the last.
func setAt(i int, dt kernels.DType) (*C.kernel_set, string) {
	var name *C.char
	bf16 := C.int(0)
	if dt == kernels.BF16 {
		bf16 = 1
	}
	set := C.kernels_at(C.int(i), bf16, &name)
	if name == nil {
		return nil, ""
	}
	return set, C.GoString(name)
}

// available returns the names of the instruction sets that this CPU has, best first.
func available() []string {
	var names []string
	for i := 0; ; i++ {
		set, name := setAt(i, kernels.F32)
		if name == "" {
			return names
		}
		if set != nil {
			names = append(names, name)
		}
	}
}

// Name returns "cpu", the instruction set and the compute type.
func (b *backend) Name() string {
	return fmt.Sprintf("cpu(%s, %v)", C.GoString(b.set.name), b.act)
}

// setFor returns the kernels for elements of type dt, F32 or BF16.
func (b *backend) setFor(dt kernels.DType) *C.kernel_set {
	if dt == kernels.F32 {
		return b.f32
	}
	return b.bf16
}

// Close gives back all memory; the tensors are invalid afterwards.
func (b *backend) Close() error {
	err := b.memory.close()
	for i := range b.workers {
		err = errors.Join(err, b.workers[i].free())
	}
	return errors.Join(err, b.packed.free(), b.parts.free())
}
