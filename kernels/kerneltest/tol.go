package kerneltest

import "rmtrain/kernels"

// A Class groups operations that round alike.
type Class int

const (
	Copied        Class = iota // no arithmetic
	Elementwise                // a few roundings for each result, and sums over a row
	Product                    // sums of products over up to some hundreds of terms
	Attending                  // softmax of products, then a sum over keys
	AttendingBack              // five products, the exponential and a difference that cancels
	LargeScores                // attention whose scores are in the tens: exp turns their rounding into error
	Exact64                    // summed in float64 whatever the compute type
	LongSum                    // sums of up to tens of thousands of terms
)

// Tol bounds the relative error of an output, by the type that holds it and the
// class of its operation. The error is the larger of
//
//	sqrt(sum (got-want)² / sum want²)      over the whole output, and
//	max |got-want| / (rms(want)+|want|)/16 so that no single element hides.
//
// F64 has room for sums taken in another order. F32 is between four and ten times
// what PyTorch 2.15 shows against float64 on the same shapes (in parentheses),
// because a plain float32 loop, which the contract allows, rounds more often than
// PyTorch's blocked sums. BF16 is twice PyTorch's own bfloat16 error (in
// parentheses); rounding the exact result alone costs about 1.7e-3.
var Tol = map[kernels.DType]map[Class]float64{
	kernels.F64: {
		Copied:        0,
		Elementwise:   1e-14,
		Product:       1e-14,
		Attending:     1e-14,
		AttendingBack: 1e-13,
		LargeScores:   1e-12,
		Exact64:       1e-13,
		LongSum:       1e-11, // the reference adds seven million squares one by one: 2^-53*sqrt(7e6) = 3e-13 on average
	},
	kernels.F32: {
		Copied:        0,
		Elementwise:   1e-6, // (2.2e-7: SwiGLU of gates in the tens)
		Product:       1e-6, // (1.1e-7)
		Attending:     1e-6, // (2.1e-7: 700 keys)
		AttendingBack: 2e-6, // (3.9e-7: head dimension 128)
		LargeScores:   1e-5, // (1.2e-6: scores with standard deviation 16)
		LongSum:       2e-5, // 20,480 terms added one by one lose 2^-25*sqrt(20480/2) = 3e-6 on average; one element may 16 times that
	},
	kernels.BF16: {
		Copied:        0,
		Elementwise:   5.2e-3, // (2.6e-3: SwiGLU, and RoPE)
		Product:       3.5e-3, // (1.8e-3)
		Attending:     4.0e-3, // (2.0e-3: scaled_dot_product_attention; written out it is 4.5e-3)
		AttendingBack: 9.7e-3, // (4.8e-3: 700 keys)
		LargeScores:   1.1e-2, // (5.2e-3)
		LongSum:       5.2e-3, // as Elementwise: sums are float32, and rounding their result is what counts
	},
}
