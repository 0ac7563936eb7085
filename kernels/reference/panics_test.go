package reference_test

import (
	"fmt"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/reference"
)

func TestMisusePanicsWithTheReason(t *testing.T) {
	b := reference.New(kernels.F64)
	x, narrow, w := alloc(t, b, nil, 3, 8), alloc(t, b, nil, 3, 4), alloc(t, b, nil, 8)
	lse := alloc(t, b, nil, 3, 2)
	stats, scores := alloc(t, b, nil, 3), alloc(t, b, nil, 1)
	far, negative, zeros := allocInts(t, b, 3), allocInts(t, b, -1), allocInts(t, b, 0, 0, 0)
	heads := kernels.Heads{Q: 2, KV: 1, Dim: 2}
	seg := func(prefixLo, prefixHi, lo, hi int32) kernels.Segment {
		return kernels.Segment{PrefixLo: prefixLo, PrefixHi: prefixHi, Lo: lo, Hi: hi}
	}
	attend := func(h kernels.Heads, segs ...kernels.Segment) func() {
		return func() { b.Attention(narrow, lse, x, segs, h) }
	}
	freed := alloc(t, b, nil, 1)
	b.Free(freed)
	half, err := b.Alloc("test", kernels.BF16, 3, 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		do   func()
		want []string
	}{
		{"shapes", func() { b.RMSNorm(x, stats, x, narrow, 1) }, []string{"RMSNorm", "F64[3 8 1] F64[3 1 1] F64[3 8 1] F64[3 4 1]"}},
		{"types", func() { b.Add(x, x, half) }, []string{"Add", "F64[3 8 1] F64[3 8 1] BF16[3 8 1]"}},
		{"table", func() { b.RoPE(x, zeros, alloc(t, b, nil, 1, 3), heads, false) }, []string{"RoPE", "F64[1 3 1]"}},
		{"id beyond the table", func() { b.Embed(alloc(t, b, nil, 1, 8), x, far) }, []string{"Embed: id 3", "[0, 3)"}},
		{"negative id", func() { b.EmbedBack(x, alloc(t, b, nil, 1, 8), negative, -1) }, []string{"EmbedBack: id -1"}},
		{"row", func() { b.ValueHead(scores, x, far, w) }, []string{"ValueHead: row 3"}},
		{"row of gradient", func() { b.ValueHeadBack(x, w, scores, x, negative, w) }, []string{"ValueHeadBack: row -1"}},
		{"position", func() { b.RoPE(x, allocInts(t, b, 0, 1, 0), alloc(t, b, nil, 1, 2), heads, false) }, []string{"RoPE: position 1"}},
		{"heads", attend(kernels.Heads{Q: 3, KV: 2, Dim: 2}), []string{"Attention: impossible heads", "Q:3 KV:2"}},
		{"window", attend(kernels.Heads{Q: 2, KV: 1, Dim: 2, Window: -1}), []string{"Attention: impossible heads", "Window:-1"}},
		{"segment beyond the rows", attend(heads, seg(0, 0, 0, 4)), []string{"Attention: segment", "of 3 rows"}},
		{"prefix beyond the rows", attend(heads, seg(0, 4, 0, 1)), []string{"Attention: segment"}},
		{"segments overlap", attend(heads, seg(0, 0, 0, 2), seg(0, 0, 1, 3)), []string{"row 1 is in two segments"}},
		{"prefix without a gradient", func() {
			b.AttentionBack(x, narrow, narrow, lse, x, []kernels.Segment{seg(0, 1, 1, 3)}, heads)
		}, []string{"prefix row 0 is in no segment"}},
		{"mode", func() { b.MatMul(x, x, x, 7, false) }, []string{"MatMul: unknown mode 7"}},
		{"step", func() { b.AdamW(kernels.AdamW{Param: w, M: w, V: w, Grad: w}) }, []string{"AdamW: step 0"}},
		{"master of float64", func() { b.AdamW(kernels.AdamW{Param: w, Master: w, M: w, V: w, Grad: w, Step: 1}) }, []string{"AdamW: operands"}},
		{"upload", func() { b.Upload(w, make([]byte, 63)) }, []string{"Upload: 63 bytes", "which has 64"}},
		{"freed twice", func() { b.Free(freed) }, []string{"Free", "freed before"}},
		{"used after free", func() { b.Zero(freed) }, []string{"no memory"}},
		{"compute type", func() { reference.New(kernels.I32) }, []string{"cannot compute in I32"}},
		{"dimensions", func() { _, _ = b.Alloc("test", kernels.F64, 1, 1, 1, 1) }, []string{"4 dimensions"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				message := fmt.Sprint(recover())
				for _, part := range c.want {
					if !strings.Contains(message, part) {
						t.Errorf("panic %q does not say %q", message, part)
					}
				}
			}()
			c.do()
		})
	}
}

func TestFreeOfNothing(t *testing.T) {
	b := reference.New(kernels.F32)
	b.Free(kernels.Tensor{})
	if used := b.Used(); len(used) != 0 {
		t.Errorf("used %v, want nothing", used)
	}
}
