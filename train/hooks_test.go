package train

import (
	"context"
	"errors"
	"math"

	"rmtrain/kernels"
)

// A hooked backend lets a test look at operations, and break them.
type hooked struct {
	kernels.Backend
	afterAdamW    func(a kernels.AdamW)
	afterScores   func(score kernels.Tensor)
	afterSumSq    func(out kernels.Tensor)
	beforeReading func(src kernels.Tensor)
	broken        bool // Sync fails
}

func (h *hooked) AdamW(a kernels.AdamW) {
	h.Backend.AdamW(a)
	if h.afterAdamW != nil {
		h.afterAdamW(a)
	}
}

func (h *hooked) ValueHead(score, x, rows, w kernels.Tensor) {
	h.Backend.ValueHead(score, x, rows, w)
	if h.afterScores != nil {
		h.afterScores(score)
	}
}

func (h *hooked) SumSq(out, x kernels.Tensor) {
	h.Backend.SumSq(out, x)
	if h.afterSumSq != nil {
		h.afterSumSq(out)
	}
}

func (h *hooked) Download(dst []byte, src kernels.Tensor) {
	if h.beforeReading != nil {
		h.beforeReading(src)
	}
	h.Backend.Download(dst, src)
}

func (h *hooked) Sync() error {
	if h.broken {
		return errors.New("the device is gone")
	}
	return h.Backend.Sync()
}

// poison writes NaN to the first element of t.
func poison(b kernels.Backend, t kernels.Tensor) {
	t.Shape = [3]int{1, 1, 1}
	b.Upload(t, appendAs(nil, t.DType, math.NaN()))
}

// stopAfter returns a context that ends in the middle of the n-th update, and the
// backend that does it.
func stopAfter(n int) (context.Context, func(kernels.Backend) kernels.Backend) {
	ctx, cancel := context.WithCancel(context.Background())
	return ctx, func(b kernels.Backend) kernels.Backend {
		return &hooked{Backend: b, afterAdamW: func(a kernels.AdamW) {
			if a.Step == n {
				cancel()
			}
		}}
	}
}
