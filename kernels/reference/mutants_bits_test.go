package reference_test

import (
	"encoding/binary"
	"math"

	"rmtrain/kernels"
)

// bytesOf returns the memory of t.
func bytesOf(t kernels.Tensor) []byte { return t.Buf.Host[t.Off : t.Off+t.Bytes()] }

// flip changes the lowest bit of the last element of t.
func flip(t kernels.Tensor) { bytesOf(t)[t.Bytes()-t.DType.Size()] ^= 1 }

func float32At(t kernels.Tensor, i int) float64 {
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(bytesOf(t)[4*i:])))
}

func setFloat32(t kernels.Tensor, i int, x float64) {
	binary.LittleEndian.PutUint32(bytesOf(t)[4*i:], math.Float32bits(float32(x)))
}

func bfloat16At(t kernels.Tensor, i int) float32 {
	return math.Float32frombits(uint32(binary.LittleEndian.Uint16(bytesOf(t)[2*i:])) << 16)
}

// truncateBFloat16 sets an element by cutting bits off.
func truncateBFloat16(t kernels.Tensor, i int, x float32) {
	binary.LittleEndian.PutUint16(bytesOf(t)[2*i:], uint16(math.Float32bits(x)>>16))
}

type betaZero struct{ mutant }

func (m betaZero) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	if !accumulate {
		for i := range out.Len() {
			setFloat32(out, i, 0*float32At(out, i))
		}
	}
	m.Backend.MatMul(out, a, b, mode, true)
}

type countsRows struct{ mutant }

func (m countsRows) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	m.Backend.MatMul(out, a, b, mode, accumulate)
	if out.Rows() == 1 {
		flip(out)
	}
}

type differsEveryTime struct {
	mutant
	calls int
}

func (m *differsEveryTime) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	m.Backend.MatMul(out, a, b, mode, accumulate)
	if m.calls++; m.calls%2 == 0 {
		flip(out)
	}
}

type noticesSharing struct{ mutant }

func (m noticesSharing) Attention(out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	m.Backend.Attention(out, lse, qkv, segs, h)
	for _, s := range segs {
		if s.PrefixHi > s.PrefixLo {
			flip(out.Slice(int(s.Lo), int(s.Hi)))
		}
	}
}

type noticesGroups struct{ mutant }

func (m noticesGroups) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	m.Backend.AttentionBack(dqkv, dout, out, lse, qkv, segs, h)
	if segs[0].Lo == segs[len(segs)-1].PrefixLo {
		flip(dqkv)
	}
}

// interleaved pairs channel 2j with 2j+1.
type interleaved struct{ mutant }

func (m interleaved) RoPE(qkv, pos, table kernels.Tensor, h kernels.Heads, inverse bool) {
	m.permute(qkv, h, func(j int) int { return j/2 + j%2*h.Dim/2 })
	m.Backend.RoPE(qkv, pos, table, h, inverse)
	m.permute(qkv, h, func(j int) int { return j%(h.Dim/2)*2 + j/(h.Dim/2) })
}

// permute moves channel j of every query and key head to channel to(j).
func (m interleaved) permute(qkv kernels.Tensor, h kernels.Heads, to func(int) int) {
	mem, size := bytesOf(qkv), qkv.DType.Size()
	for r := range qkv.Rows() {
		for head := range h.Q + h.KV {
			part := mem[(r*h.QKV()+head*h.Dim)*size:][:h.Dim*size]
			before := append([]byte(nil), part...)
			for j := range h.Dim {
				copy(part[to(j)*size:], before[j*size:(j+1)*size])
			}
		}
	}
}

type keepsOtherRows struct{ mutant }

func (m keepsOtherRows) ValueHeadBack(dx, dw, dscore, x, rows, w kernels.Tensor) {
	before := append([]byte(nil), bytesOf(dx)...)
	m.Backend.ValueHeadBack(dx, dw, dscore, x, rows, w)
	for i := range dx.Len() {
		if float32At(dx, i) == 0 {
			copy(bytesOf(dx)[4*i:4*i+4], before[4*i:])
		}
	}
}

type swallowsNaN struct{ mutant }

func (m swallowsNaN) SwiGLU(out, gateUp kernels.Tensor) {
	m.Backend.SwiGLU(out, gateUp)
	for i := range out.Len() {
		if math.IsNaN(float32At(out, i)) {
			setFloat32(out, i, 0)
		}
	}
}

type narrowSum struct{ mutant }

func (m narrowSum) SumSq(out, x kernels.Tensor) {
	var sum float32
	for i := range x.Len() {
		sum += float32(float32At(x, i)) * float32(float32At(x, i))
	}
	before := math.Float64frombits(binary.LittleEndian.Uint64(bytesOf(out)))
	binary.LittleEndian.PutUint64(bytesOf(out), math.Float64bits(before+float64(sum)))
}

// coupledDecay is Adam with L2 regularization.
type coupledDecay struct{ mutant }

func (m coupledDecay) AdamW(a kernels.AdamW) {
	grad := append([]byte(nil), bytesOf(a.Grad)...)
	for i := range a.Grad.Len() {
		setFloat32(a.Grad, i, float32At(a.Grad, i)+a.WeightDecay*float32At(a.Param, i)/a.GradScale)
	}
	a.WeightDecay = 0
	m.Backend.AdamW(a)
	copy(bytesOf(a.Grad), grad)
}

type truncatesParameter struct{ mutant }

func (m truncatesParameter) AdamW(a kernels.AdamW) {
	m.Backend.AdamW(a)
	for i := range a.Param.Len() {
		truncateBFloat16(a.Param, i, float32(float32At(a.Master, i)))
	}
}

// roundsBy rounds element i of the updated weights, x, in its own way where there is no master.
type roundsBy struct {
	mutant
	round func(a kernels.AdamW, x float32, i int) uint16
}

func (m roundsBy) AdamW(a kernels.AdamW) {
	if !a.Stochastic {
		m.Backend.AdamW(a)
		return
	}
	a.Stochastic = false
	a.Master, _ = m.Alloc("master", kernels.F32, a.Param.Len())
	for i := range a.Param.Len() {
		setFloat32(a.Master, i, float64(bfloat16At(a.Param, i)))
	}
	m.Backend.AdamW(a)
	for i := range a.Param.Len() {
		binary.LittleEndian.PutUint16(bytesOf(a.Param)[2*i:], m.round(a, float32(float32At(a.Master, i)), i))
	}
}

func nearest(a kernels.AdamW, _ float32, i int) uint16 {
	return uint16(math.Float32bits(bfloat16At(a.Param, i)) >> 16)
}

func oneNumber(a kernels.AdamW, x float32, _ int) uint16 {
	return kernels.NewDither(a.Seed, a.Step).Round(x, 0)
}

func ignoresStep(a kernels.AdamW, x float32, i int) uint16 {
	return kernels.NewDither(a.Seed, 1).Round(x, i)
}

func ignoresSeed(a kernels.AdamW, x float32, i int) uint16 {
	return kernels.NewDither(0, a.Step).Round(x, i)
}

type truncatesSum struct{ mutant }

func (m truncatesSum) Add(out, a, b kernels.Tensor) {
	for i := range out.Len() {
		truncateBFloat16(out, i, bfloat16At(a, i)+bfloat16At(b, i))
	}
}

type writesPastEnd struct{ mutant }

func (m writesPastEnd) Add(out, a, b kernels.Tensor) {
	m.Backend.Add(out, a, b)
	out.Buf.Host[out.Off+out.Bytes()] ^= 1
}

type writesBefore struct{ mutant }

func (m writesBefore) Add(out, a, b kernels.Tensor) {
	m.Backend.Add(out, a, b)
	out.Buf.Host[out.Off-1] ^= 1
}

type changesInput struct{ mutant }

func (m changesInput) Add(out, a, b kernels.Tensor) {
	m.Backend.Add(out, a, b)
	flip(b)
}

type dirtyMemory struct{ mutant }

func (m dirtyMemory) Alloc(tag string, dt kernels.DType, shape ...int) (kernels.Tensor, error) {
	t, err := m.Backend.Alloc(tag, dt, shape...)
	flip(t)
	return t, err
}
