//go:build nvidia

package cuda

import (
	"errors"

	"rmtrain/kernels"
)

var errNoAttention = errors.New("not built yet (use device cpu)")

// Attention fails: its kernel is not built yet.
func (b *backend) Attention(out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	b.do("Attention", func() error { return errNoAttention })
}

// AttentionBack fails: its kernel is not built yet.
func (b *backend) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	b.do("AttentionBack", func() error { return errNoAttention })
}
