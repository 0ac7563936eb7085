package train

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"

	"rmtrain/configs"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

// optimizerTag names the optimizer's memory in the accounting of kernels.Memory.
const optimizerTag = "optimizer"

// normBytes is the size of the scalar that holds the squared norm of all gradients.
const normBytes = 8

// A slot is a trained parameter with its optimizer state.
type slot struct {
	llama.Param
	master, m, v kernels.Tensor // master has no memory unless hasMaster
	seed         uint64         // of stochastic rounding
}

// An optimizer is AdamW over every parameter with a gradient.
type optimizer struct {
	b     kernels.Backend
	c     configs.Train
	slots []slot
	sumSq kernels.Tensor
}

// newOptimizer allocates moments of zero and master copies of the weights.
func newOptimizer(b kernels.Backend, c configs.Train, params []llama.Param) (*optimizer, error) {
	o, err := allocateOptimizer(b, c, params)
	if err == nil {
		err = o.copyMasters()
	}
	if err != nil {
		o.close()
		return nil, fmt.Errorf("train: optimizer: %w", err)
	}
	return o, nil
}

// allocateOptimizer allocates moments and masters of zero. On error it returns what has to be
// closed.
func allocateOptimizer(b kernels.Backend, c configs.Train, params []llama.Param) (*optimizer, error) {
	o := &optimizer{b: b, c: c}
	a := allocator{b: b}
	o.sumSq = a.alloc(kernels.F64, [3]int{1, 1, 1})
	for _, p := range params {
		if p.Grad.Buf == nil {
			continue
		}
		s := slot{Param: p}
		if c.StochasticRounding && p.Weight.DType != kernels.BF16 {
			return o, fmt.Errorf("train.stochastic_rounding rounds to bfloat16, but weights are %v (leave it out, or set model.dtype to bfloat16)", p.Weight.DType)
		}
		s.seed = roundingSeed(c.Seed, p.Name)
		stat := p.Weight.DType.Stat()
		s.m, s.v = a.alloc(stat, p.Weight.Shape), a.alloc(stat, p.Weight.Shape)
		if hasMaster(c, p.Weight.DType) {
			s.master = a.alloc(kernels.F32, p.Weight.Shape)
		}
		o.slots = append(o.slots, s)
	}
	if a.err == nil && len(o.slots) == 0 {
		a.err = fmt.Errorf("every parameter is frozen (take something out of train.freeze)")
	}
	return o, a.err
}

// hasMaster tells whether parameters of type dt are rounded from a float32 copy.
func hasMaster(c configs.Train, dt kernels.DType) bool {
	return dt == kernels.BF16 && !c.StochasticRounding
}

// roundingSeed gives every parameter of a run random numbers of its own.
func roundingSeed(seed int, name string) uint64 {
	h := fnv.New64a()
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(seed)))
	h.Write([]byte(name))
	return h.Sum64()
}

// stateBytes is what the optimizer keeps per element of a parameter of type dt:
// two moments, and a master copy if it has one.
func stateBytes(c configs.Train, dt kernels.DType) int64 {
	n := 2 * dt.Stat().Size()
	if hasMaster(c, dt) {
		n += kernels.F32.Size()
	}
	return int64(n)
}

// An allocator keeps the first error.
type allocator struct {
	b   kernels.Backend
	err error
}

func (a *allocator) alloc(dt kernels.DType, shape [3]int) kernels.Tensor {
	if a.err != nil {
		return kernels.Tensor{}
	}
	t, err := a.b.Alloc(optimizerTag, dt, shape[:]...)
	if err != nil {
		a.err = fmt.Errorf("allocate state: %w (freeze layers, or use a device with more memory)", err)
		return kernels.Tensor{}
	}
	return t
}

// copyMasters widens the bfloat16 weights into their float32 masters.
func (o *optimizer) copyMasters() error {
	var narrow, wide []byte
	for _, s := range o.slots {
		if s.master.Buf == nil {
			continue
		}
		narrow, wide = resizeBytes(narrow, s.Weight.Bytes()), resizeBytes(wide, s.master.Bytes())
		o.b.Download(narrow, s.Weight)
		for i := 0; i < len(narrow)/2; i++ {
			binary.LittleEndian.PutUint16(wide[4*i:], 0)
			copy(wide[4*i+2:4*i+4], narrow[2*i:2*i+2])
		}
		o.b.Upload(s.master, wide)
	}
	return o.b.Sync()
}

func resizeBytes(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// gradNorm returns the 2-norm of all gradients; NaN or infinity if one of them is.
func (o *optimizer) gradNorm() (float64, error) {
	o.b.Zero(o.sumSq)
	for _, s := range o.slots {
		o.b.SumSq(o.sumSq, s.Grad)
	}
	var raw [normBytes]byte
	o.b.Download(raw[:], o.sumSq)
	if err := o.b.Sync(); err != nil {
		return 0, fmt.Errorf("train: norm of gradients: %w", err)
	}
	return math.Sqrt(math.Float64frombits(binary.LittleEndian.Uint64(raw[:]))), nil
}

// clip returns by what gradients are multiplied, as torch's clip_grad_norm_ does.
func clip(norm, maxNorm float64) float64 {
	if maxNorm == 0 {
		return 1
	}
	return math.Min(1, maxNorm/(norm+1e-6))
}

// update changes the parameters. n counts updates from 1.
func (o *optimizer) update(n int, lr, scale float64) error {
	for _, s := range o.slots {
		decay := 0.0
		if s.Decay {
			decay = o.c.WeightDecay
		}
		o.b.AdamW(kernels.AdamW{
			Param: s.Weight, Master: s.master, M: s.m, V: s.v, Grad: s.Grad,
			LR: lr, Beta1: o.c.AdamBeta1, Beta2: o.c.AdamBeta2, Eps: o.c.AdamEpsilon,
			WeightDecay: decay, GradScale: scale, Step: n,
			Stochastic: o.c.StochasticRounding, Seed: s.seed,
		})
	}
	if err := o.b.Sync(); err != nil {
		return fmt.Errorf("train: optimizer update: %w", err)
	}
	return nil
}

func (o *optimizer) close() {
	for _, s := range o.slots {
		for _, t := range []kernels.Tensor{s.master, s.m, s.v} {
			if t.Buf != nil {
				o.b.Free(t)
			}
		}
	}
	if o.sumSq.Buf != nil {
		o.b.Free(o.sumSq)
	}
}
