package reference

import (
	"encoding/binary"
	"fmt"
	"math"

	"rmtrain/kernels"
)

func (b *backend) AdamW(a kernels.AdamW) {
	weights, n := a.Param, a.Param.Len()
	ok := a.Param.DType == b.act && (b.act == kernels.BF16 || !a.Stochastic)
	if b.act == kernels.BF16 && !a.Stochastic {
		weights = a.Master
		ok = ok && a.Master.DType == b.stat && a.Master.Len() == n && a.Master.Buf != nil
	} else {
		ok = ok && a.Master.Buf == nil
	}
	for _, t := range []kernels.Tensor{a.M, a.V, a.Grad} {
		ok = ok && t.DType == b.stat && t.Len() == n
	}
	want(ok, "AdamW", a.Param, a.Master, a.M, a.V, a.Grad)
	if a.Step < 1 {
		panic(fmt.Sprintf("reference: AdamW: step %d, the first is 1", a.Step))
	}
	p, m, v, g := load(weights), load(a.M), load(a.V), load(a.Grad)
	correction1 := 1 - math.Pow(a.Beta1, float64(a.Step))
	correction2 := 1 - math.Pow(a.Beta2, float64(a.Step))
	for i := range p {
		e := g[i] * a.GradScale
		p[i] -= a.LR * a.WeightDecay * p[i]
		m[i] = a.Beta1*m[i] + (1-a.Beta1)*e
		v[i] = a.Beta2*v[i] + (1-a.Beta2)*e*e
		p[i] -= a.LR / correction1 * m[i] / (math.Sqrt(v[i]/correction2) + a.Eps)
	}
	store(a.M, m)
	store(a.V, v)
	if a.Stochastic {
		storeDithered(weights, p, kernels.NewDither(a.Seed, a.Step))
		return
	}
	store(weights, p)
	if b.act == kernels.BF16 {
		store(a.Param, load(weights)) // rounded from the float32 weights, so that the two agree
	}
}

// storeDithered rounds v to float32, and that to bfloat16 by the numbers of d.
func storeDithered(t kernels.Tensor, v []float64, d kernels.Dither) {
	mem := raw(t)
	for i, x := range v {
		binary.LittleEndian.PutUint16(mem[2*i:], d.Round(float32(x), i))
	}
}
