//go:build nvidia

package cuda

import (
	"fmt"
	"math"
	"slices"

	"rmtrain/kernels"
)

// attention is what its operations keep on the device: the work lists of the last batch,
// which all layers share, and scratch memory.
type attention struct {
	forward, back attentionPlan
	stats         region    // RowStat of attention.cuh
	copies        [4]region // of operands, see through
}

func (a *attention) regions() []*region {
	all := []*region{&a.forward.memory, &a.back.memory, &a.stats}
	for i := range a.copies {
		all = append(all, &a.copies[i])
	}
	return all
}

// attentionThreads is the block of attention kernels, THREADS of attention.cuh; those of
// dK and dV have their own.
const attentionThreads = 128

// Attention computes out and lse; see kernels.Ops. A block has one tile of queries of one
// segment and key head.
func (b *backend) Attention(out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	b.wantAttention("Attention", h, out, lse, qkv)
	wantSegments("Attention", segs, qkv.Rows())
	rows, o, l, q := qkv.Rows(), b.addr(out), b.addr(lse), b.addr(qkv)
	b.do("Attention", func() error {
		k, err := forwardKernel(b.act, h.Dim)
		if err != nil {
			return err
		}
		plan, err := b.plan(&b.attention.forward, segs, h, k, false)
		if err != nil || plan.queries == 0 {
			return err
		}
		operands := []headed{{o, rows * h.Q, true}, {q, rows * (h.Q + 2*h.KV), false}}
		return b.through(h.Dim, operands, func(at []address, channels int32) error {
			return b.launch(k.name, dim{plan.queries, h.KV, 1}, line(k.threads), k.shared,
				at[0], l, at[1], plan.queriesAt, int32(h.Q), int32(h.KV), channels, window(h), k.scale(h.Dim))
		})
	})
}

// AttentionBack overwrites dqkv; see kernels.Ops. Blocks with a tile of queries write dQ,
// blocks with a tile of keys write dK and dV.
func (b *backend) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	b.wantAttention("AttentionBack", h, out, lse, qkv)
	if dqkv.Shape != qkv.Shape || dqkv.DType != b.act || dout.Shape != out.Shape || dout.DType != b.act {
		panic(misfit("AttentionBack", dqkv, dout, out, lse, qkv))
	}
	wantPrefixes("AttentionBack", segs, wantSegments("AttentionBack", segs, qkv.Rows()))
	rows, heads := qkv.Rows(), h.Q+2*h.KV
	operands := []headed{{b.addr(dqkv), rows * heads, true}, {b.addr(dout), rows * h.Q, false}, {b.addr(out), rows * h.Q, false}, {b.addr(qkv), rows * heads, false}}
	l := b.addr(lse)
	b.do("AttentionBack", func() error {
		k, err := backKernels(b.act, h.Dim)
		if err != nil {
			return err
		}
		plan, err := b.plan(&b.attention.back, segs, h, k.attentionKernel, true)
		if err != nil || plan.keys == 0 {
			return err
		}
		if err := b.grow(&b.attention.stats, 8*rows*h.Q); err != nil {
			return err
		}
		return b.through(h.Dim, operands, func(at []address, channels int32) error {
			return b.launchBack(k, plan, at, l, h, channels)
		})
	})
}

// launchBack runs the kernels of AttentionBack on dqkv, dout, out and qkv.
func (b *backend) launchBack(k backKernel, plan *attentionPlan, at []address, lse address, h kernels.Heads, channels int32) error {
	byQueries, byKeys := dim{plan.queries, h.KV, 1}, dim{plan.keys, h.KV, 1}
	block, stats := line(attentionThreads), b.attention.stats.at
	heads := []any{int32(h.Q), int32(h.KV), channels}
	factors := []any{window(h), float32(1 / math.Sqrt(float64(h.Dim)))}
	if b.act == kernels.BF16 {
		factors = append(factors, k.scale(h.Dim))
	}
	delta := slices.Concat([]any{stats, at[1], at[2], lse, plan.queriesAt}, heads, []any{k.unit()})
	if err := b.launch(typed("attention_delta", b.act), byQueries, block, 0, delta...); err != nil {
		return err
	}
	operands := []any{at[0], at[1], stats, at[3]}
	queries := slices.Concat(operands, []any{plan.queriesAt}, heads, factors)
	if err := b.launch(k.name, byQueries, line(k.threads), k.shared, queries...); err != nil {
		return err
	}
	keys := slices.Concat(operands, []any{plan.keysAt, plan.runsAt}, heads, factors)
	return b.launch(k.byKeys, byKeys, line(k.byKeysThreads), k.byKeysShared, keys...)
}

// A headed operand is count heads at an address.
type headed struct {
	at      address
	count   int
	written bool
}

// through calls run with operands whose heads begin at multiples of 16 bytes, as the
// bfloat16 kernels need, and their channels: with the given ones if they do, else with copies
// whose heads are padded by zeros. What is written is copied back, and copied there first:
// not all rows are.
func (b *backend) through(channels int, operands []headed, run func(at []address, channels int32) error) error {
	at, fits := make([]address, len(operands)), channels%pack == 0
	for i, o := range operands {
		at[i], fits = o.at, fits && o.at%16 == 0
	}
	if b.act == kernels.F32 || fits {
		return run(at, int32(channels))
	}
	padded := pack * up(channels, pack)
	for i, o := range operands {
		if err := b.grow(&b.attention.copies[i], kernels.BF16.Size()*o.count*padded); err != nil {
			return err
		}
		at[i] = b.attention.copies[i].at
		if err := b.repack(at[i], o.at, o.count, padded, channels); err != nil {
			return err
		}
	}
	if err := run(at, int32(padded)); err != nil {
		return err
	}
	for i, o := range operands {
		if !o.written {
			continue
		}
		if err := b.repack(o.at, at[i], o.count, channels, padded); err != nil {
			return err
		}
	}
	return nil
}

// repack copies count heads of from channels to heads of to channels.
func (b *backend) repack(dst, src address, count, to, from int) error {
	blocks := min(up(count*to, 256), 1<<16)
	return b.launch("attention_repack", dim{blocks, 1, 1}, line(256), 0, dst, src, int32(count), int32(to), int32(from))
}

func (b *backend) wantAttention(op string, h kernels.Heads, out, lse, qkv kernels.Tensor) {
	if h.Q <= 0 || h.KV <= 0 || h.Dim <= 0 || h.Q%h.KV != 0 || h.Window < 0 {
		panic(fmt.Sprintf("cuda: %s: impossible heads %+v", op, h))
	}
	rows := qkv.Rows()
	if !matrix(qkv, b.act, rows, h.QKV()) || !matrix(out, b.act, rows, h.Q*h.Dim) || !matrix(lse, kernels.F32, rows, h.Q) {
		panic(misfit(op, out, lse, qkv))
	}
}

// wantSegments panics unless all segments lie within rows and no row is in two. It returns
// which rows are in one.
func wantSegments(op string, segs []kernels.Segment, rows int) []bool {
	owned := make([]bool, rows)
	for _, s := range segs {
		if s.PrefixLo < 0 || s.PrefixLo > s.PrefixHi || int(s.PrefixHi) > rows || s.Lo < 0 || s.Lo > s.Hi || int(s.Hi) > rows {
			panic(fmt.Sprintf("cuda: %s: segment %+v of %d rows", op, s, rows))
		}
		for r := s.Lo; r < s.Hi; r++ {
			if owned[r] {
				panic(fmt.Sprintf("cuda: %s: row %d is in two segments: %+v", op, r, segs))
			}
			owned[r] = true
		}
	}
	return owned
}

// wantPrefixes panics if a gradient would be lost: that of a prefix row which is in no
// segment.
func wantPrefixes(op string, segs []kernels.Segment, owned []bool) {
	for _, s := range segs {
		for r := s.PrefixLo; r < s.PrefixHi; r++ {
			if !owned[r] {
				panic(fmt.Sprintf("cuda: %s: prefix row %d is in no segment: %+v", op, r, segs))
			}
		}
	}
}
