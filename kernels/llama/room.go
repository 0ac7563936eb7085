package llama

import (
	"fmt"
	"slices"

	"rmtrain/kernels"
)

// An arena allocates, remembers and frees. Without a backend it only adds up, so
// that a plan and the real thing cannot differ.
type arena struct {
	b    kernels.Backend
	held []tensor
	used map[string]int64
	err  error
}

func newArena(b kernels.Backend) arena { return arena{b: b, used: map[string]int64{}} }

func (a *arena) alloc(tag string, dt kernels.DType, shape ...int) tensor {
	t := tensor{DType: dt, Shape: [3]int{1, 1, 1}}
	copy(t.Shape[:], shape)
	switch {
	case a.err != nil || t.Len() == 0:
		return t
	case a.b == nil:
		a.used[tag] += int64(t.Bytes())
		return t
	}
	if t, a.err = a.b.Alloc(tag, dt, shape...); a.err != nil {
		a.err = fmt.Errorf("allocate %v %v for %s: %w", shape, dt, tag, a.err)
		return tensor{}
	}
	a.held = append(a.held, t)
	return t
}

// keep makes k keep weights for forward passes. They are freed with the weights.
func (a *arena) keep(k kernels.Keeper, ws ...tensor) {
	for _, w := range ws {
		switch {
		case a.err != nil:
			return
		case a.b == nil:
			if n := k.KeptBytes(w, kernels.NT); n > 0 {
				a.used[kernels.KeptTag] += n
			}
		default:
			a.err = k.Keep(w, kernels.NT)
		}
	}
}

func (a *arena) free() {
	for _, t := range a.held {
		a.b.Free(t)
	}
	a.held = nil
}

// acts are the intermediate results of one block that its backward pass reads. Rows
// are those of the batch; in the last layer those from X on are the scored ones.
type acts struct {
	N1, R1   tensor // (rows, Hidden), (rows): input norm
	QKV      tensor // (rows, QKV), rotated
	Att, LSE tensor // (rows, Heads*HeadDim), (rows, Heads)

	X, AttOut tensor // the block's input and Att; copies in the last layer
	Mid       tensor // (rows, Hidden): residual stream between attention and MLP
	N2, R2    tensor // (rows, Hidden), (rows): MLP norm
	GU        tensor // (rows, 2*FFN)
	S         tensor // (rows, FFN)
	Tmp       tensor // (rows, Hidden): output of a branch before it joins the stream
}

// grads are d, the gradient of the residual stream, and those of the branches'
// intermediates.
type grads struct{ d, dN, dQKV, dAtt, dGU, dS tensor }

// A room holds what one batch needs beside the weights.
type room struct {
	rows, answers int
	arena         arena

	// res is the residual stream at block boundaries and kept what blocks keep; layer
	// l uses res[l%len(res)] and kept[l%len(kept)], the last layer its first part and
	// the rest of last. There are as many as the backward pass reads: one of kept if
	// it recomputes, one per trainable layer if not.
	res  []tensor
	kept []acts
	last acts
	tmp  tensor

	out         tensor // (answers, Hidden): the trunk's output
	final, rstd tensor // (answers, Hidden), (answers): its norm

	grads grads  // of all rows
	top   grads  // of the scored rows, in the last layer
	sink  tensor // (Hidden): gradient of a frozen vector, never read

	ids, pos      tensor // (rows)
	scored, all   tensor // (answers): the scored rows, and 0, 1, 2, ...
	score, dscore tensor // (answers)
}

// newRoom allocates from b, or only counts if b is nil. On error the room still
// has to be freed.
func (m *Model) newRoom(b kernels.Backend, rows, answers int) (room, error) {
	r := room{rows: rows, answers: answers, arena: newArena(b)}
	c, dt, stat := m.Config, m.o.DType, m.o.DType.Stat()
	act := func(dt kernels.DType, shape ...int) tensor { return r.arena.alloc("activations", dt, shape...) }
	layers, boundaries := 1, 2
	if m.o.Train {
		boundaries = max(2, c.Layers-m.lowest)
		if !m.o.Recompute {
			layers = max(1, c.Layers-m.lowest)
		}
	}
	for range min(boundaries, c.Layers) {
		r.res = append(r.res, act(dt, rows, c.Hidden))
	}
	r.tmp = act(dt, rows, c.Hidden)
	shared := layers < c.Layers // the last layer's place with others
	for i := range layers {
		a := acts{N1: r.tmp}
		if m.o.Train {
			a.N1 = act(dt, rows, c.Hidden)
		}
		a.R1, a.QKV = act(stat, rows), act(dt, rows, m.h.QKV())
		a.Att, a.LSE = act(dt, rows, c.Heads*c.HeadDim), act(stat, rows, c.Heads)
		if shared || i < layers-1 {
			m.allocateRest(&r, &a, rows, r.tmp)
		}
		r.kept = append(r.kept, a)
	}
	r.last.X, r.last.AttOut = act(dt, answers, c.Hidden), act(dt, answers, c.Heads*c.HeadDim)
	if shared && answers <= rows {
		r.last.takeRest(r.kept[(c.Layers-1)%layers])
	} else {
		m.allocateRest(&r, &r.last, answers, act(dt, answers, c.Hidden))
	}
	r.out, r.final, r.rstd = act(dt, answers, c.Hidden), act(dt, answers, c.Hidden), act(stat, answers)
	if m.o.Train {
		r.grads.d, r.top.d, r.top.dN = act(dt, rows, c.Hidden), act(dt, answers, c.Hidden), act(dt, answers, c.Hidden)
		r.sink = act(stat, c.Hidden)
	}
	if m.o.Train && m.lowest < c.Layers {
		r.grads.dN, r.grads.dQKV = act(dt, rows, c.Hidden), act(dt, rows, m.h.QKV())
		r.grads.dAtt, r.top.dAtt = act(dt, rows, c.Heads*c.HeadDim), act(dt, answers, c.Heads*c.HeadDim)
		r.grads.dGU, r.grads.dS = act(dt, max(rows, answers), 2*c.FFN), act(dt, max(rows, answers), c.FFN)
		r.top.dGU, r.top.dS = r.grads.dGU, r.grads.dS
	}
	r.ids, r.pos = act(kernels.I32, rows), act(kernels.I32, rows)
	r.scored, r.all = act(kernels.I32, answers), act(kernels.I32, answers)
	r.score, r.dscore = act(stat, answers), act(stat, answers)
	return r, r.arena.err
}

// allocateRest allocates the part of a that the last layer has for scored rows
// only. Scoring needs N2 and Tmp one at a time.
func (m *Model) allocateRest(r *room, a *acts, rows int, tmp tensor) {
	c, dt := m.Config, m.o.DType
	act := func(dt kernels.DType, shape ...int) tensor { return r.arena.alloc("activations", dt, shape...) }
	a.Tmp, a.N2 = tmp, tmp
	if m.o.Train {
		a.N2 = act(dt, rows, c.Hidden)
	}
	a.Mid, a.R2 = act(dt, rows, c.Hidden), act(dt.Stat(), rows)
	a.GU, a.S = act(dt, rows, 2*c.FFN), act(dt, rows, c.FFN)
}

// takeRest makes a use the memory of b's.
func (a *acts) takeRest(b acts) {
	a.Mid, a.N2, a.R2, a.GU, a.S, a.Tmp = b.Mid, b.N2, b.R2, b.GU, b.S, b.Tmp
}

// fit returns r cut to the rows and answers of a batch.
func (r room) fit(rows, answers int) room {
	cut := func(n int, ts ...*tensor) {
		for _, t := range ts {
			if exists(*t) {
				*t = t.Slice(0, n)
			}
		}
	}
	r.res, r.kept = slices.Clone(r.res), slices.Clone(r.kept)
	for i := range r.res {
		cut(rows, &r.res[i])
	}
	for i := range r.kept {
		a := &r.kept[i]
		cut(rows, &a.N1, &a.R1, &a.QKV, &a.Att, &a.LSE, &a.Mid, &a.N2, &a.R2, &a.GU, &a.S, &a.Tmp)
	}
	a, g, t := &r.last, &r.grads, &r.top
	cut(answers, &a.X, &a.AttOut, &a.Mid, &a.N2, &a.R2, &a.GU, &a.S, &a.Tmp)
	cut(rows, &g.d, &g.dN, &g.dQKV, &g.dAtt, &g.dGU, &g.dS)
	cut(answers, &t.d, &t.dN, &t.dAtt, &t.dGU, &t.dS)
	cut(rows, &r.ids, &r.pos)
	cut(answers, &r.out, &r.final, &r.rstd, &r.scored, &r.all, &r.score, &r.dscore)
	return r
}

// slot says which of kept layer l uses.
func (m *Model) slot(l int) int { return l % len(m.view.kept) }

// acts returns what layer l keeps.
func (m *Model) acts(l int) acts {
	a := m.view.kept[m.slot(l)]
	if l < m.Config.Layers-1 {
		a.X, a.AttOut = m.res(l), a.Att
		return a
	}
	last := m.view.last
	last.N1, last.R1, last.QKV, last.Att, last.LSE = a.N1, a.R1, a.QKV, a.Att, a.LSE
	return last
}
