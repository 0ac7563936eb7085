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

func (a *arena) free() {
	for _, t := range a.held {
		a.b.Free(t)
	}
	a.held = nil
}

// acts are the intermediate results of one block that its backward pass reads.
type acts struct {
	N1, R1   tensor // (rows, Hidden), (rows): input norm
	QKV      tensor // (rows, QKV), rotated
	Att, LSE tensor // (rows, Heads*HeadDim), (rows, Heads)
	Mid      tensor // (rows, Hidden): residual stream between attention and MLP
	N2, R2   tensor // (rows, Hidden), (rows): MLP norm
	GU       tensor // (rows, 2*FFN)
	S        tensor // (rows, FFN)
}

// A room holds what one batch needs beside the weights.
type room struct {
	rows, answers int
	arena         arena

	// res is the residual stream at block boundaries and acts what blocks keep;
	// layer l uses res[l%len(res)] and acts[l%len(acts)]. There are as many as the
	// backward pass reads: one act if it recomputes, one per trainable layer if not.
	res  []tensor
	acts []acts
	tmp  tensor // (rows, Hidden): output of a branch before it joins the stream

	final, rstd tensor // (rows, Hidden), (rows): norm of the trunk's output

	// Gradients: d of the residual stream, then of the branches' intermediates.
	d, dN, dQKV, dAtt, dGU, dS tensor
	sink                       tensor // (Hidden): gradient of a frozen vector, never read

	ids, pos, scored tensor // (rows), (rows), (answers)
	score, dscore    tensor // (answers)
}

// newRoom allocates from b, or only counts if b is nil. On error the room still
// has to be freed.
func (m *Model) newRoom(b kernels.Backend, rows, answers int) (room, error) {
	r := room{rows: rows, answers: answers, arena: newArena(b)}
	c, dt, stat := m.Config, m.o.DType, m.o.DType.Stat()
	q, qkv := c.Heads*c.HeadDim, m.h.QKV()
	act := func(dt kernels.DType, shape ...int) tensor { return r.arena.alloc("activations", dt, shape...) }
	layers, boundaries := 1, 2
	if m.o.Train {
		boundaries = max(2, c.Layers-m.lowest+1)
		if !m.o.Recompute {
			layers = max(1, c.Layers-m.lowest)
		}
	}
	for range boundaries {
		r.res = append(r.res, act(dt, rows, c.Hidden))
	}
	r.tmp = act(dt, rows, c.Hidden)
	for range layers {
		a := acts{N1: r.tmp, N2: r.tmp} // scoring needs one at a time
		if m.o.Train {
			a.N1, a.N2 = act(dt, rows, c.Hidden), act(dt, rows, c.Hidden)
		}
		a.R1, a.R2 = act(stat, rows), act(stat, rows)
		a.QKV, a.Att, a.LSE = act(dt, rows, qkv), act(dt, rows, q), act(stat, rows, c.Heads)
		a.Mid, a.GU, a.S = act(dt, rows, c.Hidden), act(dt, rows, 2*c.FFN), act(dt, rows, c.FFN)
		r.acts = append(r.acts, a)
	}
	r.final, r.rstd = act(dt, rows, c.Hidden), act(stat, rows)
	if m.o.Train {
		r.d, r.dN = act(dt, rows, c.Hidden), act(dt, rows, c.Hidden)
		r.sink = act(stat, c.Hidden)
		if m.lowest < c.Layers {
			r.dQKV, r.dAtt = act(dt, rows, qkv), act(dt, rows, q)
			r.dGU, r.dS = act(dt, rows, 2*c.FFN), act(dt, rows, c.FFN)
		}
	}
	r.ids, r.pos = act(kernels.I32, rows), act(kernels.I32, rows)
	r.scored, r.score, r.dscore = act(kernels.I32, answers), act(stat, answers), act(stat, answers)
	return r, r.arena.err
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
	r.res, r.acts = slices.Clone(r.res), slices.Clone(r.acts)
	for i := range r.res {
		cut(rows, &r.res[i])
	}
	for i := range r.acts {
		a := &r.acts[i]
		cut(rows, &a.N1, &a.R1, &a.QKV, &a.Att, &a.LSE, &a.Mid, &a.N2, &a.R2, &a.GU, &a.S)
	}
	cut(rows, &r.tmp, &r.final, &r.rstd, &r.d, &r.dN, &r.dQKV, &r.dAtt, &r.dGU, &r.dS, &r.ids, &r.pos)
	cut(answers, &r.scored, &r.score, &r.dscore)
	return r
}
