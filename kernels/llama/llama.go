// Package llama is the network: a Llama trunk with a bias-free value head in
// place of the language-model head. Forward and Backward are flat lists of kernel
// calls; there is no graph and no autograd.
package llama

import (
	"errors"
	"fmt"

	"rmtrain/data"
	"rmtrain/kernels"
)

// Forward returns the score of every answer of batch, in order. A batch may be
// larger than Options said: the room grows. The batch must stay as it is until
// Backward.
func (m *Model) Forward(batch *data.Batch) ([]float64, error) {
	if err := m.setBatch(batch); err != nil {
		return nil, fmt.Errorf("llama: forward: %w", err)
	}
	if len(batch.Tokens) == 0 {
		return nil, nil
	}
	b, v := m.b, m.view
	b.Embed(m.res(0), m.w.Embed, v.ids)
	layers := resident(m.w.Blocks)
	layers.Prefetch(0)
	for l := range m.Config.Layers {
		layers.Prefetch(min(l+1, m.Config.Layers-1))
		w := layers.Get(l)
		a, t := m.forward(l, w), m.rest(l)
		b.SwiGLU(t.S, a.GU)
		m.addLinear(m.res(l+1), a.Mid, t.S, w.Down, t.Tmp)
		layers.Release(l)
	}
	b.RMSNorm(v.final, v.rstd, m.res(m.Config.Layers), m.w.Norm, m.Config.Eps)
	b.ValueHead(v.score, v.final, v.order, m.w.Score)
	scores := m.downloadFloats(v.score)
	if err := b.Sync(); err != nil {
		m.batch = nil
		return nil, fmt.Errorf("llama: forward: %w", err)
	}
	return scores, nil
}

// Backward adds the gradients of the last Forward's batch to those of the
// parameters, given the gradient of every score.
func (m *Model) Backward(dscore []float64) error {
	switch {
	case !m.o.Train:
		return errors.New("llama: backward: the model was made without Options.Train, for scoring only")
	case m.batch == nil:
		return errors.New("llama: backward: no batch (call Forward first)")
	case len(dscore) != len(m.batch.Scored):
		return fmt.Errorf("llama: backward: %d gradients for %d scores", len(dscore), len(m.batch.Scored))
	case len(m.batch.Tokens) == 0:
		return nil
	}
	b, v, c := m.b, m.view, m.Config
	m.uploadFloats(v.dscore, dscore)
	b.ValueHeadBack(v.top.dN, m.orSink(m.g.Score), v.dscore, v.final, v.order, m.w.Score)
	b.Zero(v.top.d)
	b.RMSNormBack(v.top.d, m.orSink(m.g.Norm), v.top.dN, m.res(c.Layers), m.w.Norm, v.rstd)
	layers, grads := resident(m.w.Blocks), resident(m.g.Blocks)
	for l := c.Layers - 1; l >= m.lowest; l-- {
		layers.Prefetch(max(l-1, 0))
		m.backward(l, layers.Get(l), grads.Get(l))
		layers.Release(l)
		grads.Release(l)
	}
	if exists(m.g.Embed) {
		b.EmbedBack(m.g.Embed, v.all.d, v.ids, c.PadTokenID)
	}
	if err := b.Sync(); err != nil {
		return fmt.Errorf("llama: backward: %w", err)
	}
	return nil
}

// forward computes what layer l's backward pass reads, all of it but the output of
// the MLP, and remembers that it did. Scores are read at a few rows, and no layer
// follows the last: there all rows have keys and values, and only these go on, as they
// would among all.
func (m *Model) forward(l int, w *block) acts {
	b, x, a, v, t, eps := m.b, m.res(l), m.acts(l), m.view.all, m.rest(l), m.Config.Eps
	b.RMSNorm(v.N, a.R1, x, w.AttnNorm, eps)
	if m.isLast(l) {
		m.project(a, x, w)
	} else {
		m.linear(a.QKV, v.N, w.QKV)
	}
	b.RoPE(a.QKV, m.view.pos, m.rope, m.h, false)
	b.Attention(a.Att, a.LSE, a.QKV, m.segments(l), m.h)
	if m.isLast(l) {
		b.Embed(a.AttOut, a.Att, m.view.scored)
	}
	m.addLinear(a.Mid, a.X, a.AttOut, w.Out, t.Tmp)
	b.RMSNorm(t.N, a.R2, a.Mid, w.MLPNorm, eps)
	m.linear(a.GU, t.N, w.GateUp)
	m.held[m.slot(l)] = l
	return a
}

// project computes the last layer's QKV: keys and values of all rows, queries of the
// scored ones, which are in AttOut's place before they are among all.
func (m *Model) project(a acts, x tensor, w *block) {
	b, t, scored := m.b, m.view.top, m.view.scored
	q, kv := m.split(w.QKV.W)
	queries, keys := m.splitColumns(a.QKV)
	b.MatMul(keys, m.view.all.N, kv, kernels.NT, false)
	b.Embed(a.X, x, scored)
	b.RMSNorm(t.N, a.RX, a.X, w.AttnNorm, m.Config.Eps)
	b.MatMul(a.AttOut, t.N, q, kernels.NT, false)
	b.Scatter(queries, a.AttOut, scored)
	if exists(w.QKV.B) {
		b.AddBias(a.QKV, w.QKV.B)
	}
}

// projectBack adds to d, the gradient of the scored rows' residual stream, what comes
// through their queries, makes that of all rows of it, and adds what comes through keys
// and values.
func (m *Model) projectBack(a acts, x tensor, w, dw *block) {
	b, v, t, scored, eps := m.b, m.view.all, m.view.top, m.view.scored, m.Config.Eps
	q, kv := m.split(w.QKV.W)
	dq, dkv := m.split(dw.QKV.W)
	queries, keys := m.splitColumns(v.dQKV)
	if exists(dw.QKV.B) {
		b.AddBiasBack(dw.QKV.B, v.dQKV)
	}
	b.Embed(t.dAtt, queries, scored)
	b.RMSNorm(t.N, a.RX, a.X, w.AttnNorm, eps)
	m.linearBack(t.dN, linear{W: dq}, t.dAtt, t.N, linear{W: q})
	b.RMSNormBack(t.d, m.orSink(dw.AttnNorm), t.dN, a.X, w.AttnNorm, a.RX)
	b.Scatter(v.d, t.d, scored)
	b.RMSNorm(v.N, a.R1, x, w.AttnNorm, eps)
	m.linearBack(v.dN, linear{W: dkv}, keys, v.N, linear{W: kv})
	b.RMSNormBack(v.d, m.orSink(dw.AttnNorm), v.dN, x, w.AttnNorm, a.R1)
}

// split returns the rows of a weight QKV, or of its gradient, that make queries, and those
// that make keys and values.
func (m *Model) split(w tensor) (q, kv tensor) {
	n := m.h.Q * m.h.Dim
	return rowsOf(w, 0, n), rowsOf(w, n, m.h.QKV()-n)
}

// splitColumns returns the queries of qkv, and its keys and values.
func (m *Model) splitColumns(qkv tensor) (q, kv tensor) {
	n := m.h.Q * m.h.Dim
	return qkv.Columns(0, n), qkv.Columns(n, m.h.QKV())
}

// backward turns d, the gradient of layer l's output, into the gradient of its
// input, in place: the residual path is the identity, and each branch adds to it.
// S and N, which are not kept, are computed as in the forward pass.
func (m *Model) backward(l int, w, dw *block) {
	if m.held[m.slot(l)] != l {
		m.forward(l, w) // recompute
	}
	b, x, a, v, t, eps := m.b, m.res(l), m.acts(l), m.view.all, m.rest(l), m.Config.Eps
	b.SwiGLU(t.S, a.GU)
	m.linearBack(t.dS, dw.Down, t.d, t.S, w.Down)
	b.SwiGLUBack(t.dGU, t.dS, a.GU)
	b.RMSNorm(t.N, a.R2, a.Mid, w.MLPNorm, eps)
	m.linearBack(t.dN, dw.GateUp, t.dGU, t.N, w.GateUp)
	b.RMSNormBack(t.d, m.orSink(dw.MLPNorm), t.dN, a.Mid, w.MLPNorm, a.R2)
	m.linearBack(t.dAtt, dw.Out, t.d, a.AttOut, w.Out)
	if m.isLast(l) {
		b.Scatter(v.dAtt, t.dAtt, m.view.scored)
	}
	b.AttentionBack(v.dQKV, v.dAtt, a.Att, a.LSE, a.QKV, m.segments(l), m.h)
	b.RoPE(v.dQKV, m.view.pos, m.rope, m.h, true)
	if m.isLast(l) {
		m.projectBack(a, x, w, dw)
		return
	}
	b.RMSNorm(v.N, a.R1, x, w.AttnNorm, eps)
	m.linearBack(v.dN, dw.QKV, v.dQKV, v.N, w.QKV)
	b.RMSNormBack(v.d, m.orSink(dw.AttnNorm), v.dN, x, w.AttnNorm, a.R1)
}

// linear computes y = x·Wᵀ + B.
func (m *Model) linear(y, x tensor, w linear) {
	m.b.MatMul(y, x, w.W, kernels.NT, false)
	if exists(w.B) {
		m.b.AddBias(y, w.B)
	}
}

// addLinear computes y = residual + x·Wᵀ + B; tmp is like y.
func (m *Model) addLinear(y, residual, x tensor, w linear, tmp tensor) {
	if adder, ok := m.b.(kernels.ResidualAdder); ok && !exists(w.B) {
		adder.MatMulAdd(y, residual, x, w.W)
		return
	}
	m.linear(tmp, x, w)
	m.b.Add(y, residual, tmp)
}

// linearBack computes the gradient of x, which may take x's place, and adds to those
// of W and B that are wanted.
func (m *Model) linearBack(dx tensor, dw linear, dy, x tensor, w linear) {
	if exists(dw.W) {
		m.b.MatMul(dw.W, dy, x, kernels.TN, true)
	}
	if exists(dw.B) {
		m.b.AddBiasBack(dw.B, dy)
	}
	m.b.MatMul(dx, dy, w.W, kernels.NN, false)
}

// matrices returns the weights of layer l as products read them.
func (m *Model) matrices(l int) []tensor {
	b := &m.w.Blocks[l]
	if !m.isLast(l) {
		return []tensor{b.QKV.W, b.Out.W, b.GateUp.W, b.Down.W}
	}
	q, kv := m.split(b.QKV.W)
	return []tensor{q, kv, b.Out.W, b.GateUp.W, b.Down.W}
}

// isLast tells whether no layer follows l.
func (m *Model) isLast(l int) bool { return l == m.Config.Layers-1 }

// res is the residual stream that enters layer l; that which leaves the last layer
// has the scored rows only.
func (m *Model) res(l int) tensor {
	if l == m.Config.Layers {
		return m.view.out
	}
	return m.view.res[l%len(m.view.res)]
}

// segments are those of the batch, for the last layer with no queries before the
// first scored row of each.
func (m *Model) segments(l int) []kernels.Segment {
	if m.isLast(l) {
		return m.last
	}
	return m.segs
}

// orSink returns dw, or a place to drop the gradient of a frozen vector.
func (m *Model) orSink(dw tensor) tensor {
	if exists(dw) {
		return dw
	}
	return m.view.sink
}
