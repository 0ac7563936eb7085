package llama

import (
	"fmt"

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

// keep makes k keep weights for products of a mode. They are freed with the weights.
func (a *arena) keep(k kernels.Keeper, mode kernels.Trans, ws ...tensor) {
	for _, w := range ws {
		switch {
		case a.err != nil:
			return
		case a.b == nil:
			if n := k.KeptBytes(w, mode); n > 0 {
				a.used[kernels.KeptTag] += n
			}
		default:
			a.err = k.Keep(w, mode)
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
// are those of the batch; in the last layer those from X on are the scored ones. The
// outputs of the norms and of SwiGLU are not among them: from what is kept they are
// computed again, to the same bits, in a hundredth of the time of a step.
type acts struct {
	R1       tensor // (rows): of the input norm
	QKV      tensor // (rows, QKV), rotated
	Att, LSE tensor // (rows, Heads*HeadDim), (rows, Heads)

	X, AttOut tensor // the block's input and Att; copies in the last layer
	RX        tensor // (rows): of the input norm at X, in the last layer
	Mid       tensor // (rows, Hidden): residual stream between attention and MLP
	R2        tensor // (rows): of the MLP norm
	GU        tensor // (rows, 2*FFN)
}

// work is what a block needs while it is computed. Several results have one place:
// of each the last reader comes before the next is written.
type work struct {
	N, Tmp, dN tensor // (rows, Hidden): output of a norm; of a branch; gradient of N
	S, dS      tensor // (rows, FFN): output of SwiGLU; its gradient
	dAtt       tensor // (rows, Heads*HeadDim), where S was
	dGU        tensor // (rows, 2*FFN)
	dQKV       tensor // (rows, QKV), where dGU was
	d          tensor // (rows, Hidden): gradient of the residual stream
}

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

	all, top work   // of all rows; of the scored rows, in the last layer
	sink     tensor // (Hidden): gradient of a frozen vector, never read

	out         tensor // (answers, Hidden): the trunk's output
	final, rstd tensor // (answers, Hidden), (answers): its norm

	ids, pos      tensor // (rows)
	scored, order tensor // (answers): the scored rows, and 0, 1, 2, ...
	score, dscore tensor // (answers)
}

// newRoom allocates from b, or only counts if b is nil. On error the room still
// has to be freed.
func (m *Model) newRoom(b kernels.Backend, rows, answers int) (room, error) {
	r := room{rows: rows, answers: answers, arena: newArena(b)}
	c, dt, stat := m.Config, m.o.DType, m.o.DType.Stat()
	act := r.act
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
	shared := layers < c.Layers // the last layer's place with others
	for i := range layers {
		a := acts{R1: act(stat, rows), QKV: act(dt, rows, m.h.QKV())}
		a.Att, a.LSE = act(dt, rows, c.Heads*c.HeadDim), act(stat, rows, c.Heads)
		if shared || i < layers-1 {
			m.allocateRest(&r, &a, rows)
		}
		r.kept = append(r.kept, a)
	}
	r.last.X, r.last.AttOut, r.last.RX = act(dt, answers, c.Hidden), act(dt, answers, c.Heads*c.HeadDim), act(stat, answers)
	if shared && answers <= rows {
		r.last.takeRest(r.kept[(c.Layers-1)%layers])
	} else {
		m.allocateRest(&r, &r.last, answers)
	}
	m.allocateWork(&r)
	r.out, r.final, r.rstd = act(dt, answers, c.Hidden), act(dt, answers, c.Hidden), act(stat, answers)
	r.ids, r.pos = act(kernels.I32, rows), act(kernels.I32, rows)
	r.scored, r.order = act(kernels.I32, answers), act(kernels.I32, answers)
	r.score, r.dscore = act(stat, answers), act(stat, answers)
	return r, r.arena.err
}

func (r *room) act(dt kernels.DType, shape ...int) tensor {
	return r.arena.alloc("activations", dt, shape...)
}

// allocateRest allocates the part of a that the last layer has for scored rows
// only.
func (m *Model) allocateRest(r *room, a *acts, rows int) {
	c, dt := m.Config, m.o.DType
	a.Mid, a.R2 = r.act(dt, rows, c.Hidden), r.act(dt.Stat(), rows)
	a.GU = r.act(dt, rows, 2*c.FFN)
}

// takeRest makes a use the memory of b's.
func (a *acts) takeRest(b acts) { a.Mid, a.R2, a.GU = b.Mid, b.R2, b.GU }

// allocateWork allocates all and top, which have their memory in common but for d and
// dAtt, since those of top become those of all.
func (m *Model) allocateWork(r *room) {
	c, dt, w := m.Config, m.o.DType, &r.all
	most, att := max(r.rows, r.answers), c.Heads*c.HeadDim
	narrow := c.FFN
	if m.o.Train {
		narrow = max(narrow, att)
	}
	w.N = r.act(dt, most, c.Hidden)
	w.Tmp, w.dN = w.N, w.N
	place := r.act(dt, most, narrow)
	w.S = first(place, c.FFN)
	w.dS = w.S
	r.top = *w
	if !m.o.Train {
		return
	}
	r.sink = r.act(dt.Stat(), c.Hidden)
	w.d, r.top.d = r.act(dt, r.rows, c.Hidden), r.act(dt, r.answers, c.Hidden)
	if m.lowest == c.Layers {
		return
	}
	w.dAtt, r.top.dAtt = first(place, att), r.act(dt, r.answers, att)
	place = r.act(dt, most, max(2*c.FFN, m.h.QKV()))
	w.dGU, w.dQKV = first(place, 2*c.FFN), first(place, m.h.QKV())
	r.top.dGU = w.dGU
}

// first returns the beginning of t as a tensor of as many rows with cols columns.
func first(t tensor, cols int) tensor {
	t.Shape[1] = cols
	return t
}

// fit returns r cut to the rows and answers of a batch. It takes the slices of old, a
// view that nobody needs any more.
func (r room) fit(rows, answers int, old room) room {
	cut := func(n int, ts ...*tensor) {
		for _, t := range ts {
			if exists(*t) {
				*t = t.Slice(0, n)
			}
		}
	}
	r.res, r.kept = append(old.res[:0], r.res...), append(old.kept[:0], r.kept...)
	for i := range r.res {
		cut(rows, &r.res[i])
	}
	for i := range r.kept {
		a := &r.kept[i]
		cut(rows, &a.R1, &a.QKV, &a.Att, &a.LSE, &a.Mid, &a.R2, &a.GU)
	}
	a, w, t := &r.last, &r.all, &r.top
	cut(answers, &a.X, &a.AttOut, &a.RX, &a.Mid, &a.R2, &a.GU)
	cut(rows, &w.N, &w.Tmp, &w.dN, &w.S, &w.dS, &w.dAtt, &w.dGU, &w.dQKV, &w.d)
	cut(answers, &t.N, &t.Tmp, &t.dN, &t.S, &t.dS, &t.dAtt, &t.dGU, &t.d)
	cut(rows, &r.ids, &r.pos)
	cut(answers, &r.out, &r.final, &r.rstd, &r.scored, &r.order, &r.score, &r.dscore)
	return r
}

// slot says which of kept layer l uses.
func (m *Model) slot(l int) int { return l % len(m.view.kept) }

// acts returns what layer l keeps.
func (m *Model) acts(l int) acts {
	a := m.view.kept[m.slot(l)]
	if !m.isLast(l) {
		a.X, a.AttOut = m.res(l), a.Att
		return a
	}
	last := m.view.last
	last.R1, last.QKV, last.Att, last.LSE = a.R1, a.QKV, a.Att, a.LSE
	return last
}

// rest returns where the part of layer l that the last has for scored rows only is
// computed.
func (m *Model) rest(l int) work {
	if m.isLast(l) {
		return m.view.top
	}
	return m.view.all
}
