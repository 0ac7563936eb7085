package reference_test

import (
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
	"rmtrain/kernels/reference"
)

var dtypes = []kernels.DType{kernels.F64, kernels.F32, kernels.BF16}

func TestConformance(t *testing.T) {
	for _, dt := range dtypes {
		t.Run(dt.String(), func(t *testing.T) {
			t.Parallel()
			kerneltest.Run(t, reference.New(dt), dt)
		})
	}
}

func BenchmarkReference(b *testing.B) { kerneltest.Bench(b, reference.New(kernels.F32), kernels.F32) }
