package kerneltest

import (
	"testing"

	"rmtrain/kernels"
)

// Bench times the cases of the suite on b, whose compute type is dt, and reports
// GFLOP/s for MatMul.
func Bench(b *testing.B, backend kernels.Backend, dt kernels.DType) {
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			gs, err := c.allocate(backend, dt, c.problem(dt).values)
			defer free(backend, gs)
			if err != nil {
				b.Fatal(err)
			}
			ts := tensors(gs)
			for b.Loop() {
				c.run(backend, ts)
				if err := backend.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			if c.flops > 0 {
				b.ReportMetric(c.flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			}
		})
	}
}
