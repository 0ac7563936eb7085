// Package cpu is the fast backend for any CPU: C kernels, written with GNU vector
// extensions, for AVX-512, AVX2 and everything else, and intrinsics for AMX, chosen
// at run time and run by goroutines.
//
// C knows arithmetic (kernels.h lists the kernels), Go knows the rest: shapes,
// memory, and how an operation is cut into tasks. No result depends on how it was
// cut, so neither on the number of threads, which is GOMAXPROCS.
package cpu

/*
#cgo CFLAGS: -O3 -std=gnu11 -Wall -Wno-misleading-indentation -Wno-psabi
#cgo LDFLAGS: -lm
#include "kernels.h"
#include "amx.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"rmtrain/kernels"
)

// EnvCPU names the environment variable that forces an instruction set.
const EnvCPU = "RMTRAIN_CPU"

type backend struct {
	memory
	sets
	act kernels.DType // of activations and weights
	set *C.kernel_set // for elements of type act
	dry bool          // operations take their scratch memory, and do nothing; see Plan

	// Scratch memory grows and is kept: operations run one at a time.
	workers []region // one per goroutine of an operation
	strips  region   // MatMul: the transposed operand
	parts   region   // gradients that are added up in order
	pieces  []C.piece
	order   []int   // of pieces, by cost
	role    []uint8 // of rows in attention
	sums    []float64
}

// sets are the kernels for one instruction set, nil if this CPU or this build
// lacks it.
type sets struct {
	isa       string
	f32, bf16 *C.kernel_set
	tiles     *C.amx_set // MatMul of bfloat16, nil without AMX
}

// New returns a backend whose activations and weights are of type dt, F32 or BF16.
// It uses the best instruction set that this CPU has, or the one that the
// environment variable RMTRAIN_CPU names: amx, avx512, avx2 or portable.
func New(dt kernels.DType) (kernels.Backend, error) { return newFor(dt, os.Getenv(EnvCPU)) }

// newFor is New with an instruction set, or the best if isa is empty.
func newFor(dt kernels.DType, isa string) (kernels.Backend, error) {
	if dt != kernels.F32 && dt != kernels.BF16 {
		return nil, fmt.Errorf("cpu: cannot compute in %v (use F32 or BF16)", dt)
	}
	s, err := choose(known(), isa)
	if err != nil {
		return nil, err
	}
	quietMonitor()
	b := &backend{memory: newMemory(), sets: s, act: dt, set: s.of(dt)}
	b.countScratch()
	return b, nil
}

// Plan returns a backend of the same instruction set that only counts scratch memory; see
// kernels.Planner. It maps what it allocates, and touches none of it.
func (b *backend) Plan(dt kernels.DType) (kernels.Backend, error) {
	p, err := newFor(dt, b.isa)
	if err != nil {
		return nil, err
	}
	dry := p.(*backend)
	dry.dry, dry.strips.most, dry.parts.most = true, true, true
	for i := range dry.workers {
		dry.workers[i].most = true
	}
	return dry, nil
}

// countScratch has Used count scratch memory, that of as many goroutines as there are
// cores or threads() now.
func (b *backend) countScratch() {
	b.workers = make([]region, max(threads(), runtime.NumCPU()))
	for i := range b.workers {
		b.workers[i].total = b.held
	}
	b.strips.total, b.parts.total = b.held, b.held
}

// known returns all instruction sets, best first.
func known() []sets {
	var all []sets
	for i := C.int(0); ; i++ {
		var name *C.char
		s := sets{f32: C.kernels_at(i, 0, &name), bf16: C.kernels_at(i, 1, &name), tiles: C.amx_at(i)}
		if name == nil {
			return all
		}
		s.isa = C.GoString(name)
		all = append(all, s)
	}
}

// choose returns the instruction set of that name, or the best if isa is empty.
func choose(all []sets, isa string) (sets, error) {
	var names, usable []string
	for _, s := range all {
		names = append(names, s.isa)
		if s.f32 == nil {
			continue
		}
		if isa == "" || isa == s.isa {
			return s, nil
		}
		usable = append(usable, s.isa)
	}
	if slices.Contains(names, isa) {
		return sets{}, fmt.Errorf("cpu: %s=%s: this CPU, or this build, lacks it (usable: %s)", EnvCPU, isa, strings.Join(usable, ", "))
	}
	return sets{}, fmt.Errorf("cpu: %s=%s: unknown instruction set (known: %s)", EnvCPU, isa, strings.Join(names, ", "))
}

// of returns the kernels for elements of type dt, F32 or BF16.
func (s sets) of(dt kernels.DType) *C.kernel_set {
	if dt == kernels.F32 {
		return s.f32
	}
	return s.bf16
}

// Name returns "cpu", the instruction set and the compute type.
func (b *backend) Name() string {
	return fmt.Sprintf("cpu(%s, %v)", b.isa, b.act)
}

// Close gives back all memory; the tensors are invalid afterwards.
func (b *backend) Close() error {
	err := b.memory.close()
	for i := range b.workers {
		err = errors.Join(err, b.workers[i].free())
	}
	return errors.Join(err, b.strips.free(), b.parts.free())
}
