package cpu

// #include "kernels.h"
import "C"

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"rmtrain/kernels"
)

const flatUnit = 1 << 12 // elements of a flat array that are not cut

// Zero clears x.
func (b *backend) Zero(x kernels.Tensor) {
	b.written(x)
	bytes := raw(x)
	b.runs(len(bytes), 1<<16, func(lo, hi int) { clear(bytes[lo:hi]) })
}

// clear is Zero of what may be columns of a tensor.
func (b *backend) clear(x kernels.Tensor) {
	if x.Stride == 0 {
		b.Zero(x)
		return
	}
	b.written(x)
	b.runs(x.Rows(), rowUnit, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			clear(raw(x.Row(r)))
		}
	})
}

// Add computes out = x + y.
func (b *backend) Add(out, x, y kernels.Tensor) {
	if out.DType != b.act || x.DType != b.act || y.DType != b.act || out.Shape != x.Shape || out.Shape != y.Shape {
		panic(misfit("Add", out, x, y))
	}
	b.written(out)
	size := b.act.Size()
	o, p, q := ptr(out), ptr(x), ptr(y)
	b.runs(out.Len(), flatUnit, func(lo, hi int) {
		C.run_add(b.set, unsafe.Add(o, lo*size), unsafe.Add(p, lo*size), unsafe.Add(q, lo*size), C.long(hi-lo))
	})
}

// SumSq adds the sum of the squares of x to out, in runs of fixed length.
func (b *backend) SumSq(out, x kernels.Tensor) {
	if !vector(out, kernels.F64, 1) || (x.DType != kernels.F32 && x.DType != kernels.BF16) {
		panic(misfit("SumSq", out, x))
	}
	b.written(out)
	const run = 1 << 15
	n := x.Len()
	count := (n + run - 1) / run
	b.sums = slices.Grow(b.sums[:0], count)[:count]
	set, p, size := b.of(x.DType), ptr(x), x.DType.Size()
	b.parallel(count, 0, func(i int, _ *C.float) {
		C.run_sum_squares(set, (*C.double)(&b.sums[i]), unsafe.Add(p, i*run*size), C.long(min(run, n-i*run)))
	})
	if b.err != nil || b.dry {
		return
	}
	total := 0.0
	for _, s := range b.sums {
		total += s
	}
	*(*float64)(ptr(out)) += total
}

// AdamW makes one step of the optimizer; see kernels.AdamW.
func (b *backend) AdamW(a kernels.AdamW) {
	n := a.Param.Len()
	master := a.Master
	ok := a.Param.DType == b.act && (b.act == kernels.BF16 || !a.Stochastic)
	if b.act == kernels.F32 || a.Stochastic {
		ok = ok && master.Buf == nil
		master = a.Param
	}
	wide := []kernels.Tensor{a.M, a.V, a.Grad}
	if !a.Stochastic {
		wide = append(wide, master)
	}
	for _, t := range wide {
		ok = ok && t.DType == kernels.F32 && t.Len() == n
	}
	if !ok {
		panic(misfit("AdamW", a.Param, a.Master, a.M, a.V, a.Grad))
	}
	if a.Step < 1 {
		panic(fmt.Sprintf("cpu: AdamW: step %d, the first is 1", a.Step))
	}
	b.written(a.Param, master, a.M, a.V)
	hyper := [...]C.float{
		C.float(a.LR / (1 - math.Pow(a.Beta1, float64(a.Step)))),
		C.float(a.Beta1), C.float(1 - a.Beta1), C.float(a.Beta2), C.float(1 - a.Beta2),
		C.float(1 / math.Sqrt(1-math.Pow(a.Beta2, float64(a.Step)))),
		C.float(a.Eps), C.float(1 - a.LR*a.WeightDecay), C.float(a.GradScale),
	}
	numbers := kernels.NewDither(a.Seed, a.Step)
	size, p, w := a.Param.DType.Size(), ptr(a.Param), ptr(master)
	m, v, g := float32s(a.M), float32s(a.V), float32s(a.Grad)
	b.runs(n, flatUnit, func(lo, hi int) {
		var weights *C.float
		if !a.Stochastic {
			weights = (*C.float)(unsafe.Add(w, 4*lo))
		}
		d := C.dither{first: C.uint64_t(lo), low: C.uint32_t(numbers.Low), high: C.uint32_t(numbers.High)}
		C.run_adamw(b.set, unsafe.Add(p, lo*size), weights, cfloats(m[lo:]), cfloats(v[lo:]), cfloats(g[lo:]), C.long(hi-lo), &hyper[0], &d)
	})
}
