package llama

import (
	"testing"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
)

// counting is a backend that counts tensors.
type counting struct {
	kernels.Backend
	tensors int
}

func (c *counting) Alloc(tag string, dt kernels.DType, shape ...int) (kernels.Tensor, error) {
	c.tensors++
	return c.Backend.Alloc(tag, dt, shape...)
}

func TestStepsAfterTheFirstAllocateNoTensor(t *testing.T) {
	be, err := cpu.New(kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	b := &counting{Backend: be}
	m := newSeeded(t, b, full, Options{DType: kernels.F32, Train: true})
	defer m.Close()
	all := groups(full)
	large, small := data.Pack(all, true), data.Pack(all[:1], true)
	_, dscore := objective(make([]float64, len(large.Scored)))
	step := func() {
		m.ZeroGrad()
		for _, batch := range []*data.Batch{large, small} {
			forward(t, m, batch)
			if err := m.Backward(dscore[:len(batch.Scored)]); err != nil {
				t.Fatal(err)
			}
		}
	}
	step()
	b.tensors = 0
	perStep := testing.AllocsPerRun(5, step)
	if b.tensors != 0 {
		t.Errorf("%d tensors allocated after the first step", b.tensors)
	}
	// Two or three of each of some 240 operations remain: what they hand to goroutines.
	if perStep > 1000 {
		t.Errorf("%g allocations of the Go heap in a step", perStep)
	}
}
