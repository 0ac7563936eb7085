//go:build nvidia

package cuda

import (
	"errors"
	"fmt"

	"rmtrain/kernels"
)

type backend struct {
	*device
	memory
	act kernels.DType // of activations and weights
	lt  *cublasLt

	attention attention

	// Scratch memory grows and is kept: operations run one after the other.
	parts region // gradients of weights by chunks of rows, and partial sums
	links region // rows of the same id: next, then follows
	fault region // the number of an operation that met a wrong index, 0 if none has
	asked bool   // whether an operation with indices was issued since fault was read
}

// New returns a backend on the GPU of that number whose activations and weights are of type
// dt, F32 or BF16. It is for one goroutine at a time.
func New(dt kernels.DType, ordinal int) (kernels.Backend, error) {
	b, err := newFrom(dt, ordinal, images())
	if err != nil {
		return nil, err
	}
	return b, nil
}

// newFrom is New with kernels of the given modules.
func newFrom(dt kernels.DType, ordinal int, images map[string]string) (*backend, error) {
	if dt != kernels.F32 && dt != kernels.BF16 {
		return nil, fmt.Errorf("cuda: cannot compute in %v (use F32 or BF16)", dt)
	}
	d, err := openDevice(ordinal, images)
	if err != nil {
		return nil, err
	}
	b := &backend{device: d, memory: newMemory(d), act: dt}
	if err := b.prepare(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *backend) prepare() (err error) {
	if b.lt, err = openLt(b.device); err != nil {
		return err
	}
	if err := b.grow(&b.fault, 4); err != nil {
		return err
	}
	b.do("clear the fault word", func() error { return b.clear(b.fault.at, 4) })
	return b.err
}

// Name returns "cuda", the device's number and name, and the compute type.
func (b *backend) Name() string {
	return fmt.Sprintf("cuda:%d(%s, %v)", b.ordinal, b.device.name, b.act)
}

// Close gives back all memory and the device; the tensors are invalid afterwards.
func (b *backend) Close() error {
	err := b.memory.close(append(b.attention.regions(), &b.parts, &b.links, &b.fault)...)
	if b.lt != nil {
		err = errors.Join(err, b.lt.close(b.device))
	}
	if e := b.device.close(); err == nil {
		err = e
	}
	return err
}

// do runs f, which issues work for an operation, unless something has failed before.
func (b *backend) do(op string, f func() error) {
	if b.err != nil {
		return
	}
	if err := b.with(f); err != nil {
		b.fail(fmt.Errorf("cuda: %s: %w", op, err))
	}
}

// run launches one kernel for the operation.
func (b *backend) run(op, kernel string, grid, block dim, args ...any) {
	b.do(op, func() error { return b.launch(kernel, grid, block, 0, args...) })
}

// typed returns the name of a kernel for elements of type dt.
func typed(kernel string, dt kernels.DType) string {
	if dt == kernels.BF16 {
		return kernel + "_bf16"
	}
	return kernel + "_f32"
}
