// Package kernels defines the operations that training and scoring a reward
// model needs, and nothing else. Implementations are kernels/reference (the
// specification, slow and obvious) and kernels/cpu (fast). Each must pass
// kernels/kerneltest.
//
// Conventions, which every operation obeys:
//
//   - Outputs come first, then inputs, then attributes.
//   - Activations are [rows, channels]: the tokens of a batch are packed along
//     one axis, without padding. Sizes are read from the tensors.
//   - A backward operation is named after its forward operation plus "Back".
//     Gradients of weights and of the residual stream are accumulated (+=);
//     all other gradients are overwritten.
//   - Activations and weights have the compute type: F32, BF16, or F64 (which
//     only kernels/reference has). Statistics (rstd, lse), scores, gradients of
//     weights, optimizer state and RoPE tables are F32, or F64 when the compute
//     type is F64. Sums are accumulated in at least float32.
//   - What an operation computes for a row depends on that row (and, in
//     attention, on the rows that it sees) alone: to the bit, whatever else is
//     in the batch and however many threads there are.
//   - Operations run in the order in which they are issued and may be
//     asynchronous. A wrong shape is a programming error and panics. A failing
//     device does not: the first failure is kept, later operations do nothing,
//     and Sync returns it.
package kernels

import "errors"

// A Segment says what a run of rows attends to: all of its prefix and,
// causally, itself. A prompt is a segment with an empty prefix; each answer is
// a segment whose prefix is its prompt, so a prompt is computed once however
// many answers it has. Key number j of a segment is row PrefixLo+j in the prefix
// and then row Lo+j-(PrefixHi-PrefixLo); query row r has key number
// PrefixHi-PrefixLo+r-Lo.
type Segment struct {
	PrefixLo, PrefixHi int32
	Lo, Hi             int32
	// From, if above Lo, makes the rows before it keys only: nobody asks for what they
	// attend to. A last layer whose result is read at a few rows needs no others.
	From int32
}

// Queries returns the first of the rows [first, Hi) that attend to something.
func (s Segment) Queries() (first int32) { return min(max(s.Lo, s.From), s.Hi) }

// Heads describes a packed row of queries, keys and values, Q*Dim then KV*Dim
// then KV*Dim channels, and how far back a query sees.
type Heads struct {
	Q, KV, Dim int
	// Window, if not 0, hides from query number i all keys before i-Window+1,
	// as the sliding window of Mistral does.
	Window int
}

// QKV returns the number of channels of a packed row.
func (h Heads) QKV() int { return (h.Q + 2*h.KV) * h.Dim }

// Trans says how MatMul reads its operands.
type Trans uint8

const (
	NT Trans = iota // out = a·bᵀ   forward:          y = x·wᵀ
	NN              // out = a·b    input gradient:   dx = dy·w
	TN              // out = aᵀ·b   weight gradient:  dw = dyᵀ·x
)

// ErrOutOfMemory is in the errors of a device that lacks the memory for an operation, or
// for a tensor.
var ErrOutOfMemory = errors.New("out of memory")

// Memory is how tensors come, go and cross to the host.
type Memory interface {
	// Alloc returns zeroed memory. The tag names its purpose (weights, gradients,
	// optimizer, activations, ...) in the accounting that Used returns.
	Alloc(tag string, dt DType, shape ...int) (Tensor, error)
	Free(Tensor)
	// Upload and Download copy exactly the tensor's bytes, little endian. They
	// take effect in the order of operations; Download waits for its data.
	Upload(dst Tensor, src []byte)
	Download(dst []byte, src Tensor)
	// Used returns the bytes in use by tag.
	Used() map[string]int64
	Sync() error
}

// Ops is the arithmetic of a Llama trunk, a value head and AdamW.
type Ops interface {
	Zero(x Tensor)
	// Add computes out = a + b elementwise; out may be a or b.
	Add(out, a, b Tensor)
	// AddBias adds bias [cols] to every row of x, in place.
	AddBias(x, bias Tensor)
	// AddBiasBack adds the column sums of dout to dbias.
	AddBiasBack(dbias, dout Tensor)
	// Embed copies row ids[r] of table to row r of out. The table may be activations, and
	// some columns of a tensor.
	Embed(out, table, ids Tensor)
	// EmbedBack adds row r of dout to row ids[r] of dtable, in the order of rows,
	// except where ids[r] == skip (pass -1 for none): PyTorch's padding_idx.
	EmbedBack(dtable, dout, ids Tensor, skip int32)
	// Scatter is the gradient of an Embed from a table of activations: it overwrites
	// dtable by the sums of the rows r of dout with the same ids[r], zero without any.
	// dtable may be some columns of a tensor.
	Scatter(dtable, dout, ids Tensor)
	// RMSNorm computes rstd = 1/sqrt(mean(x²)+eps) and out = x*rstd*w by row.
	RMSNorm(out, rstd, x, w Tensor, eps float64)
	// RMSNormBack adds to dx (the residual stream) and to dw.
	RMSNormBack(dx, dw, dout, x, w, rstd Tensor)
	// MatMul computes out (+)= the product of a and b; see Trans. With mode TN out
	// is the gradient of a weight and has its type, F32. out and a may be some columns of
	// a tensor.
	MatMul(out, a, b Tensor, mode Trans, accumulate bool)
	// RoPE rotates the query and key heads of qkv, in place, by the angles of
	// their positions; inverse rotates back. Row p of table [positions, Dim] holds
	// Dim/2 cosines, then Dim/2 sines; channel j pairs with channel j+Dim/2, which
	// is Hugging Face's half-split convention.
	RoPE(qkv, pos, table Tensor, h Heads, inverse bool)
	// Attention computes softmax(q·kᵀ/sqrt(Dim))·v for every row of every segment,
	// except those that are keys only, into out [rows, Q*Dim], and the log of the
	// softmax's denominator into lse [rows, Q].
	Attention(out, lse, qkv Tensor, segs []Segment, h Heads)
	// AttentionBack overwrites dqkv on the rows of the segments. The gradient of the
	// queries of rows that are keys only is zero.
	AttentionBack(dqkv, dout, out, lse, qkv Tensor, segs []Segment, h Heads)
	// SwiGLU computes out = silu(gate)*up, where gateUp is gate | up by columns.
	SwiGLU(out, gateUp Tensor)
	SwiGLUBack(dgateUp, dout, gateUp Tensor)
	// ValueHead computes score[i] = x[rows[i]]·w.
	ValueHead(score, x, rows, w Tensor)
	// ValueHeadBack overwrites dx (zero outside of rows) and adds to dw.
	ValueHeadBack(dx, dw, dscore, x, rows, w Tensor)
	// SumSq adds the sum of the squares of x, taken in float64 and in a fixed
	// order, to out, an F64 tensor of one element. It is NaN or Inf if x has such.
	SumSq(out, x Tensor)
	AdamW(a AdamW)
}

// The purposes, in Used, of what Keep allocates, and of what operations need while they
// run, which a backend may hold for the next.
const (
	KeptTag    = "packed weights"
	ScratchTag = "scratch"
)

// A Keeper is a Backend that can hold a second form of a weight which its products
// read faster. Results have the same bits with and without.
type Keeper interface {
	// Keep says that w will be b of many a MatMul of this mode between two writes to
	// it. It may be written at any time, by any operation. What is kept belongs to w:
	// Free gives it back. Keeping a weight again does nothing.
	Keep(w Tensor, mode Trans) error
	// KeptBytes returns the memory that Keep takes for a tensor like w, which needs no
	// buffer.
	KeptBytes(w Tensor, mode Trans) int64
}

// A Filler is a Backend that takes what a tensor is to hold from where it is read, without a
// buffer of the tensor's size on the host, and copies it while more is read.
type Filler interface {
	// Fill has the effect of Upload. It calls read, from several goroutines at a time, for
	// pieces of whole elements that make up dst, with where they begin, in bytes. An error of
	// read is returned and leaves dst with any contents.
	Fill(dst Tensor, read func(p []byte, off int64) error) error
}

// A Planner is a Backend that knows beforehand what scratch memory operations need.
type Planner interface {
	// Plan returns a Backend of the same kind, for activations of type dt, whose operations
	// compute nothing but hold the scratch memory that they would here: Used counts it.
	// Its tensors take no memory but where they are uploaded to.
	Plan(dt DType) (Backend, error)
}

// A ResidualAdder is a Backend that adds to the residual stream as it makes what is added.
type ResidualAdder interface {
	// MatMulAdd computes out = residual + a·bᵀ, to the bits of MatMul and of Add after it.
	// out is neither of the others, and of their type.
	MatMulAdd(out, residual, a, b Tensor)
}

// A Backend runs operations on one device.
type Backend interface {
	Name() string
	Memory
	Ops
	Close() error
}

// AdamW is one step of Adam with decoupled weight decay (Loshchilov and Hutter,
// arXiv 1711.05101) in the arithmetic of torch.optim.AdamW: g = Grad*GradScale;
// p -= LR*WeightDecay*p; m, v are the moments; p -= LR/(1-Beta1^Step) * m /
// (sqrt(v/(1-Beta2^Step)) + Eps).
type AdamW struct {
	Param Tensor
	// Master is the float32 copy of Param when Param is BF16: the update is made
	// there and rounded into Param. Its Buf is nil otherwise.
	Master                                        Tensor
	M, V, Grad                                    Tensor
	LR, Beta1, Beta2, Eps, WeightDecay, GradScale float64
	Step                                          int // from 1
	// Stochastic updates a BF16 Param that has no Master: in float32, to the bits that a
	// master of Param's value would get, and rounded by the Dither of Seed and Step, where
	// an element's index is that in Param. So an update that is too small for bfloat16 is
	// made on average.
	Stochastic bool
	Seed       uint64
}
