package cpu

import (
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
)

// each runs f on every instruction set that this machine has, in both types.
func each(t *testing.T, f func(t *testing.T, b *backend)) {
	for _, isa := range available() {
		for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
			t.Run(isa+"/"+dt.String(), func(t *testing.T) {
				b, err := newFor(dt, isa)
				if err != nil {
					t.Fatal(err)
				}
				f(t, b.(*backend))
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestConformance(t *testing.T) {
	each(t, func(t *testing.T, b *backend) { kerneltest.Run(t, b, b.act) })
}
