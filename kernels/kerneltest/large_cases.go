package kerneltest

import (
	"encoding/binary"
	"fmt"

	"rmtrain/kernels"
)

// Sizes are those of the large checks.
type Sizes struct {
	Rows        int // tokens of a batch
	Hidden, FFN int // channels
	// Tokens are the rows of matrix products and of SwiGLU, whose operands are larger.
	Tokens int
	Heads  kernels.Heads
	// Prompt and Answers are the tokens of one group for attention.
	Prompt  int
	Answers []int
}

// largeTable is the number of rows of tables that rows are taken from.
const largeTable = 4096

// cases returns every operation of kernels.Ops but Zero.
func (s Sizes) cases() (cs []largeCase) {
	cs = append(cs, s.elementwise()...)
	cs = append(cs, s.byRows()...)
	cs = append(cs, s.indexed()...)
	cs = append(cs, s.valueHead()...)
	cs = append(cs, s.products()...)
	return append(cs, s.attention())
}

// rowSamples cuts the operands that have a row for each row of out[0].
func rowSamples(c testCase) largeCase {
	rows := some(c.in[c.rows[0]].shape[0])
	s := sample{cut: map[int]cut{}}
	for _, i := range c.rows {
		s.cut[i] = cut{rows: rows}
	}
	for _, i := range c.out {
		if _, ok := s.cut[i]; ok {
			s.out = append(s.out, i)
		}
	}
	return largeCase{c, []sample{s}}
}

// columnSample cuts matrices to some columns, and vectors to the same channels.
func columnSample(cols []int, out int, matrices, vectors []int) sample {
	s := sample{cut: map[int]cut{}, out: []int{out}}
	for _, i := range matrices {
		s.cut[i] = cut{cols: cols}
	}
	for _, i := range vectors {
		s.cut[i] = cut{rows: cols}
	}
	return s
}

func (s Sizes) elementwise() []largeCase {
	n, h := s.Rows, s.Hidden
	size := fmt.Sprintf("%dx%d", n, h)
	bias := testCase{name: "AddBiasBack/" + size, class: LongSum,
		in: []operand{stat(h), act(n, h)}, out: []int{0},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.AddBiasBack(t[0], t[1]) }}
	wide := fmt.Sprintf("%dx%d", s.Tokens, s.FFN)
	few := max(1, n/16)
	squares := sumSq(fmt.Sprintf("SumSq/%dx%d", few, h), act(few, h), false)
	squares.class = LongSum
	step := kernels.AdamW{LR: .1, Beta1: .9, Beta2: .95, Eps: 1e-2, WeightDecay: .1, GradScale: .5, Step: 3}
	of := func(k kind) operand { return operand{kind: k, shape: []int{few, h}} }
	adam := testCase{name: fmt.Sprintf("AdamW/%dx%d", few, h), class: Elementwise,
		in:  []operand{of(activation), of(statistic), of(statistic), of(statistic).positive(), of(statistic)},
		out: []int{0, 1, 2, 3}, rows: []int{0, 1, 2, 3, 4},
		run: func(b kernels.Backend, t []kernels.Tensor) { adamW(b, step, t) }}
	stochastic := testCase{name: fmt.Sprintf("AdamW stochastic/%dx%d", few, h), class: Elementwise,
		in:  []operand{of(activation), of(statistic), of(statistic).positive(), of(statistic)},
		out: []int{0, 1, 2}, rows: []int{0, 1, 2, 3},
		run: func(b kernels.Backend, t []kernels.Tensor) { stochasticAdamW(b, step, t) }}
	return []largeCase{
		rowSamples(testCase{name: "Add/" + size, class: Elementwise,
			in: []operand{act(n, h), act(n, h), act(n, h)}, out: []int{0}, rows: []int{0, 1, 2},
			run: func(b kernels.Backend, t []kernels.Tensor) { b.Add(t[0], t[1], t[2]) }}),
		rowSamples(testCase{name: "AddBias/" + size, class: Elementwise,
			in: []operand{act(n, h), act(h)}, out: []int{0}, rows: []int{0},
			run: func(b kernels.Backend, t []kernels.Tensor) { b.AddBias(t[0], t[1]) }}),
		{bias, []sample{columnSample(some(h), 0, []int{1}, []int{0})}},
		rowSamples(swiglu("SwiGLU/"+wide, s.Tokens, s.FFN, 1, false)),
		rowSamples(swigluBack("SwiGLUBack/"+wide, s.Tokens, s.FFN, 1, false)),
		{squares, []sample{{out: []int{0}}}},
		rowSamples(adam),
		rowSamples(stochastic),
	}
}

func (s Sizes) byRows() []largeCase {
	n, h := s.Rows, s.Hidden
	size := fmt.Sprintf("%dx%d", n, h)
	back := rmsNormBack("RMSNormBack/"+size, n, h, false)
	back.class, back.prepare, back.in[5] = LongSum, nil, stat(n).positive() // any rstd will do
	backRows := rowSamples(back)
	// The gradient of the weight; that of x, which takes whole rows, means nothing there.
	backRows.samples = append(backRows.samples, columnSample(some(h), 1, []int{0, 2, 3}, []int{1, 4}))
	positions := make([]int32, n)
	for i := range positions {
		positions[i] = int32(i * 7 % largeTable)
	}
	qkv := s.Heads.QKV()
	return []largeCase{
		rowSamples(rmsNorm("RMSNorm/"+size, n, h, 1, 1e-5, false)),
		backRows,
		rowSamples(testCase{name: fmt.Sprintf("RoPE/%dx%d", n, qkv), class: Elementwise,
			in: []operand{act(n, qkv), ids(positions...), angles(largeTable, s.Heads.Dim)}, out: []int{0}, rows: []int{0, 1},
			run: func(b kernels.Backend, t []kernels.Tensor) { b.RoPE(t[0], t[1], t[2], s.Heads, false) }}),
	}
}

// indexed takes ids of which half are a few frequent ones, as in texts.
func (s Sizes) indexed() []largeCase {
	n, h := s.Rows, s.Hidden
	size := fmt.Sprintf("%dx%d", n, h)
	frequent := indicesBelow(largeTable, n)
	for i := range frequent.indices {
		if i%2 == 0 {
			frequent.indices[i] %= 8
		}
	}
	back := testCase{name: "EmbedBack/" + size, class: LongSum,
		in: []operand{stat(largeTable, h), act(n, h), frequent}, out: []int{0},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.EmbedBack(t[0], t[1], t[2], 3) }}
	at := make([]int32, n)
	for i := range at {
		at[i] = int32(2*i + 1)
	}
	scatter := testCase{name: "Scatter/" + size, class: Elementwise, // scored rows are all different
		in: []operand{act(2*n, h), act(n, h), ids(at...)}, out: []int{0},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.Scatter(t[0], t[1], t[2]) }}
	return []largeCase{
		rowSamples(testCase{name: "Embed/" + size, class: Copied,
			in: []operand{act(n, h), act(largeTable, h), frequent}, out: []int{0}, rows: []int{0, 2},
			run: func(b kernels.Backend, t []kernels.Tensor) { b.Embed(t[0], t[1], t[2]) }}),
		{back, []sample{columnSample(some(h), 0, []int{0, 1}, nil)}},
		{scatter, []sample{columnSample(some(h), 0, []int{0, 1}, nil)}},
	}
}

// valueHead scores rows that end answers. The reference gets those rows alone.
func (s Sizes) valueHead() []largeCase {
	n, h := s.Rows, s.Hidden
	size := fmt.Sprintf("%dx%d", n, h)
	at := some(n)
	ends := make([]int32, len(at))
	for i := range at {
		ends[i] = int32(at[i])
	}
	forward := testCase{name: "ValueHead/" + size, class: LongSum,
		in: []operand{stat(len(at)), act(n, h), ids(ends...), act(h)}, out: []int{0},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.ValueHead(t[0], t[1], t[2], t[3]) }}
	back := testCase{name: "ValueHeadBack/" + size, class: LongSum,
		in: []operand{act(n, h), stat(h), stat(len(at)), act(n, h), ids(ends...), act(h)}, out: []int{0, 1},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.ValueHeadBack(t[0], t[1], t[2], t[3], t[4], t[5]) }}
	return []largeCase{
		{forward, []sample{{cut: map[int]cut{1: {rows: at}}, out: []int{0},
			run: func(ref kernels.Backend, t []kernels.Tensor) { ref.ValueHead(t[0], t[1], renumbered(ref, t[2]), t[3]) }}}},
		{back, []sample{{cut: map[int]cut{0: {rows: at}, 3: {rows: at}}, out: []int{0, 1},
			run: func(ref kernels.Backend, t []kernels.Tensor) {
				ref.ValueHeadBack(t[0], t[1], t[2], t[3], renumbered(ref, t[4]), t[5])
			}}}},
	}
}

// renumbered makes ids 0, 1, 2, ...: those of the rows that were cut out in their order.
func renumbered(ref kernels.Backend, ids kernels.Tensor) kernels.Tensor {
	var mem []byte
	for i := range ids.Len() {
		mem = binary.LittleEndian.AppendUint32(mem, uint32(i))
	}
	ref.Upload(ids, mem)
	return ids
}

func (s Sizes) products() []largeCase {
	t, h, f := s.Tokens, s.Hidden, s.FFN
	forward := matmul("NT", kernels.NT, t, f, h, false, false)
	input := matmul("NN", kernels.NN, t, h, f, true, false)
	weight := matmul("TN", kernels.TN, f, h, t, true, false)
	tokens, wide, narrow := some(t), some(f), some(h)
	out := []int{0}
	cs := []largeCase{
		{forward, []sample{{out: out, cut: map[int]cut{0: {tokens, wide}, 1: {rows: tokens}, 2: {rows: wide}}}}},
		{input, []sample{{out: out, cut: map[int]cut{0: {tokens, narrow}, 1: {rows: tokens}, 2: {cols: narrow}}}}},
		{weight, []sample{{out: out, cut: map[int]cut{0: {wide, narrow}, 1: {cols: wide}, 2: {cols: narrow}}}}},
	}
	for i := range cs {
		cs[i].class = LongSum
	}
	return cs
}

// attention is a group of answers to one prompt, forward and backward. Heads do not meet,
// so the reference computes the last key head and its queries alone.
func (s Sizes) attention() largeCase {
	h := s.Heads
	segs, rows := layout(group{s.Prompt, s.Answers})
	c := testCase{name: fmt.Sprintf("Attention and AttentionBack/%d:%d heads of %d, %d rows", h.Q, h.KV, h.Dim, rows), class: AttendingBack,
		// out, lse, dqkv, qkv, dout.
		in:  []operand{act(rows, h.Q*h.Dim), stat(rows, h.Q), act(rows, h.QKV()), act(rows, h.QKV()), act(rows, h.Q*h.Dim)},
		out: []int{0, 1, 2},
		run: attendBoth(segs, h)}
	ratio := h.Q / h.KV
	first := h.Q - ratio
	queries := span(first*h.Dim, h.Q*h.Dim)
	key := (h.Q + h.KV - 1) * h.Dim
	packed := append(append(append([]int{}, queries...), span(key, key+h.Dim)...), span(h.QKV()-h.Dim, h.QKV())...)
	return largeCase{c, []sample{{out: c.out,
		cut: map[int]cut{0: {cols: queries}, 1: {cols: span(first, h.Q)}, 2: {cols: packed}, 3: {cols: packed}, 4: {cols: queries}},
		run: attendBoth(segs, kernels.Heads{Q: ratio, KV: 1, Dim: h.Dim, Window: h.Window})}}}
}

func attendBoth(segs []kernels.Segment, h kernels.Heads) func(kernels.Backend, []kernels.Tensor) {
	return func(b kernels.Backend, t []kernels.Tensor) {
		b.Attention(t[0], t[1], t[3], segs, h)
		b.AttentionBack(t[2], t[4], t[0], t[1], t[3], segs, h)
	}
}
