package cost

// A Fusion is operations that one kernel could do together, which kernels/cuda does not have.
type Fusion struct {
	Name string
	// SameBits says whether results would stay what the operations alone give.
	SameBits bool
	Note     string
	// left is what remains of an operation, itself if the fusion does not concern it.
	left func(Op) Op
}

// Fusions are those whose worth has been counted. What a fusion adds to a matrix product is
// taken to be free, as products wait for their arithmetic: so much is saved at most.
var Fusions = []Fusion{
	{
		"the addition to the residual stream in the product before it", false,
		"cuBLASLt has it: a C that is not D, and beta 1. The product is then rounded once, with the sum, where PyTorch and the operations alone round the product first",
		gone("Add"),
	},
	{
		"that addition and the RMSNorm after it", true,
		"the norm does not read the sum again",
		less("Add", 1),
	},
	{
		"dx and dw of RMSNormBack in one kernel", true,
		"what it needs of the forward pass, rstd, RMSNorm gives already",
		less("RMSNormBack", 2),
	},
	{
		"SwiGLU in the product of gate|up, its result kept", true,
		"cuBLASLt has no such epilogue: it takes a product of our own that is as fast. Kept, it takes memory that is now free",
		gone("SwiGLU"),
	},
	{
		"SwiGLU again and SwiGLUBack", true,
		"gate and up are read once. The gradients of `down` change places",
		less("SwiGLUBack", 2),
	},
}

// gone leaves nothing of an operation.
func gone(name string) func(Op) Op {
	return func(o Op) Op {
		if o.Name == name {
			return Op{Name: name}
		}
		return o
	}
}

// less leaves an operation one kernel less, which has that many activations less to read.
func less(name string, activations float64) func(Op) Op {
	return func(o Op) Op {
		if o.Name == name {
			o.Bytes -= activations * o.Activation
			o.Kernels--
		}
		return o
	}
}

// Saved returns the seconds that the fusion saves at most of all entries.
func (c Card) Saved(f Fusion, entries []Entry, a Assumptions) (seconds float64) {
	for _, e := range entries {
		seconds += float64(e.Times) * (c.Seconds(e.Op, a) - c.Seconds(f.left(e.Op), a))
	}
	return seconds
}
