//go:build nvidia

package cuda

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "cublaslt.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"

	"rmtrain/kernels"
)

// A cublasLt multiplies matrices with NVIDIA's library, which is opened when a backend is.
//
// The library would choose another algorithm for another number of rows, and so other bits
// for the same row. A family is the products that differ in the number of tokens alone: it
// gets one algorithm, the library's first choice for familyTokens of them among those that
// take the sum over k in one piece and serve any number of tokens. A token's result is then
// made by the same tile program, whatever else is in the batch.
type cublasLt struct {
	handle    unsafe.Pointer
	workspace address
	families  map[family]*C.lt_family
}

// A family is out [m,n] with a sum over k, where m, or k in mode TN, is 0: the tokens.
type family struct {
	mode         kernels.Trans
	in, result   kernels.DType
	m, n, k      int
	outRow, xRow int
}

const (
	// familyTokens is the size of a training batch that fills a GPU.
	familyTokens = 4096
	// workspaceBytes is what NVIDIA recommends for Hopper.
	workspaceBytes = 32 << 20
)

func openLt(d *device) (*cublasLt, error) {
	if missing := C.lt_open(); missing != nil {
		return nil, fmt.Errorf("cuda: open cublasLt: %s (install cuBLAS of CUDA 13 or 12, for instance with pip install nvidia-cublas, and name its folder, nvidia/cu13/lib, in LD_LIBRARY_PATH)", C.GoString(missing))
	}
	lt := &cublasLt{families: map[family]*C.lt_family{}}
	err := d.with(func() error {
		if status := C.lt_create(&lt.handle); status != 0 {
			return fmt.Errorf("cuda: open cublasLt: cublasLtCreate: %s", ltStatus(status))
		}
		p, err := cu.MemAlloc(workspaceBytes)
		if err != nil {
			return fmt.Errorf("cuda: open cublasLt: allocate %d bytes: %w", workspaceBytes, err)
		}
		lt.workspace = address(p)
		d.scratch.Add(workspaceBytes)
		return nil
	})
	if err != nil {
		lt.close(d)
		return nil, err
	}
	return lt, nil
}

// close expects that all products are done.
func (lt *cublasLt) close(d *device) error {
	return d.with(func() error {
		for _, f := range lt.families {
			C.lt_forget(f)
		}
		lt.families = nil
		if lt.handle != nil {
			C.lt_destroy(lt.handle)
			lt.handle = nil
		}
		if lt.workspace == 0 {
			return nil
		}
		d.scratch.Add(-workspaceBytes)
		return cu.MemFree(cu.DevicePtr(lt.workspace))
	})
}

// multiply issues the product of aligned operands. It is called with the context current.
func (lt *cublasLt) multiply(d *device, p product) error {
	f, err := lt.family(p)
	if err != nil {
		return err
	}
	beta := C.float(0)
	if p.accumulate {
		beta = 1
	}
	stream := *(*unsafe.Pointer)(unsafe.Pointer(&d.compute.Stream)) // its only field
	status := C.lt_multiply(lt.handle, f, sizes(p), C.uint64_t(p.out), C.uint64_t(p.x), C.uint64_t(p.y), beta,
		C.uint64_t(lt.workspace), workspaceBytes, stream)
	if status != 0 {
		return fmt.Errorf("cublasLt: %s of %dx%dx%d: %s", p.name(), p.m, p.n, p.k, ltStatus(status))
	}
	return nil
}

func (lt *cublasLt) family(p product) (*C.lt_family, error) {
	key := family{p.mode, p.in, p.result, p.m, p.n, p.k, p.outRow, p.xRow}
	if p.mode == kernels.TN {
		key.k, p.k = 0, familyTokens
	} else {
		key.m, p.m = 0, familyTokens
	}
	if f := lt.families[key]; f != nil {
		return f, nil
	}
	transposed := [...][2]C.int{kernels.NT: {1, 0}, kernels.NN: {0, 0}, kernels.TN: {0, 1}}[p.mode]
	var status C.int
	f := C.lt_choose(lt.handle, ltType(p.in), ltType(p.result), transposed[0], transposed[1], sizes(p), workspaceBytes, &status)
	if f == nil {
		return nil, fmt.Errorf("cublasLt: no algorithm for %s of %dx%dx%d: %s", p.name(), p.m, p.n, p.k, ltStatus(status))
	}
	lt.families[key] = f
	return f, nil
}

func (p product) name() string {
	return fmt.Sprintf("%v %s", p.in, [...]string{kernels.NT: "x·yᵀ", kernels.NN: "x·y", kernels.TN: "xᵀ·y"}[p.mode])
}

func sizes(p product) C.lt_sizes {
	return C.lt_sizes{C.uint64_t(p.m), C.uint64_t(p.n), C.uint64_t(p.k), C.uint64_t(p.outRow), C.uint64_t(p.xRow)}
}

func ltType(dt kernels.DType) C.int {
	if dt == kernels.BF16 {
		return C.LT_BF16
	}
	return C.LT_F32
}

// ltStatus says what a cublasStatus_t means.
func ltStatus(status C.int) string {
	names := map[C.int]string{1: "not initialized", 3: "out of memory", 7: "invalid value", 8: "unsupported architecture",
		13: "execution failed", 14: "internal error", 15: "not supported"}
	if name, ok := names[status]; ok {
		return name
	}
	return fmt.Sprintf("status %d", int(status))
}
