package kerneltest

import (
	"fmt"
	"math/rand/v2"

	"rmtrain/kernels"
)

// exactAttentionChecks compare bits of attention over the same rows in different
// company: with other groups or without, with a shared prompt or its own copy,
// with later rows or without.
func exactAttentionChecks() (cs []check) {
	settings := append([]attentionSetting{}, attentionSettings...)
	for _, prompt := range []int{1, 16, 17, 63, 65, 130, 230} {
		settings = append(settings, attentionSetting{fmt.Sprintf("prompt of %d", prompt),
			kernels.Heads{Q: 4, KV: 2, Dim: 16}, []group{{3, []int{2}}, {prompt, []int{5, 1, 33}}}, 1})
	}
	for _, s := range settings {
		if len(s.groups) > 1 {
			cs = append(cs, check{"exact/Attention/group alone/" + s.name, s.groupAlone})
		}
		cs = append(cs,
			check{"exact/Attention/own copy of the prompt/" + s.name, s.unshared},
			check{"exact/Attention/without later rows/" + s.name, s.causal},
			check{"exact/Attention/without the queries of other rows/" + s.name, s.keysOnly})
	}
	return cs
}

// rowRange is a run of rows of a batch.
type rowRange struct{ lo, hi int }

// attended holds the bytes of an Attention's and AttentionBack's outputs.
type attended struct {
	out, lse, dqkv []byte
	rows           int
}

func (a attended) of(r rowRange) attended {
	part := func(mem []byte) []byte { return mem[r.lo*len(mem)/a.rows : r.hi*len(mem)/a.rows] }
	return attended{part(a.out), part(a.lse), part(a.dqkv), r.hi - r.lo}
}

// A runner is a backend and whether its AttentionBack runs too.
type runner struct {
	kernels.Backend
	dt       kernels.DType
	backward bool
}

// attend runs attention over the chosen rows of the setting's random batch, in
// the order given.
func (s attentionSetting) attend(b runner, segs []kernels.Segment, chosen ...rowRange) (attended, error) {
	_, batch := layout(s.groups...)
	r := seeded(s.name)
	qkv := act(batch, s.h.QKV()).times(s.scale).elements(r)
	dout := act(batch, s.h.Q*s.h.Dim).elements(r)
	rows := 0
	var qkvRows, doutRows []float64
	for _, c := range chosen {
		qkvRows = append(qkvRows, qkv[c.lo*s.h.QKV():c.hi*s.h.QKV()]...)
		doutRows = append(doutRows, dout[c.lo*s.h.Q*s.h.Dim:c.hi*s.h.Q*s.h.Dim]...)
		rows += c.hi - c.lo
	}
	given := func(v []float64, cols int) operand {
		o := act(rows, cols)
		o.fill = func(_ *rand.Rand, i int) float64 { return v[i] }
		return o
	}
	both := testCase{name: "Attention and AttentionBack/" + s.name,
		// out, lse, dqkv, qkv, dout.
		in: []operand{act(rows, s.h.Q*s.h.Dim), stat(rows, s.h.Q), act(rows, s.h.QKV()),
			given(qkvRows, s.h.QKV()), given(doutRows, s.h.Q*s.h.Dim)},
		out: []int{0, 1, 2},
		run: func(_ kernels.Backend, t []kernels.Tensor) {
			b.Attention(t[0], t[1], t[3], segs, s.h)
			if b.backward {
				b.AttentionBack(t[2], t[4], t[0], t[1], t[3], segs, s.h)
			}
		}}
	after, errs := both.evaluate(b, b.dt, both.inputs(b.dt, nil))
	if len(errs) > 0 {
		return attended{}, errs[0]
	}
	return attended{after[0], after[1], after[2], rows}, nil
}

func (s attentionSetting) whole(b runner) (attended, error) {
	segs, rows := layout(s.groups...)
	return s.attend(b, segs, rowRange{0, rows})
}

// groupAlone runs every group without the others: all bits are the same, those of
// gradients too.
func (s attentionSetting) groupAlone(b kernels.Backend, dt kernels.DType) (errs []error) {
	run := runner{b, dt, true}
	together, err := s.whole(run)
	if err != nil {
		return []error{err}
	}
	at := 0
	for i, g := range s.groups {
		segs, rows := layout(g)
		alone, err := s.attend(run, segs, rowRange{at, at + rows})
		if err != nil {
			return []error{err}
		}
		want := together.of(rowRange{at, at + rows})
		errs = append(errs, sameBits(alone, want, run.backward, fmt.Sprintf("group %d alone", i))...)
		at += rows
	}
	return errs
}

// unshared runs every answer behind its own copy of the prompt, as one plain
// sequence: the results of both are the same.
func (s attentionSetting) unshared(b kernels.Backend, dt kernels.DType) (errs []error) {
	run := runner{b, dt, false}
	shared, err := s.whole(run)
	if err != nil {
		return []error{err}
	}
	at := 0
	for i, g := range s.groups {
		prompt := rowRange{at, at + g.prompt}
		at += g.prompt
		for k, n := range g.answers {
			answer := rowRange{at, at + n}
			at += n
			segs := []kernels.Segment{{Hi: int32(g.prompt + n)}}
			own, err := s.attend(run, segs, prompt, answer)
			if err != nil {
				return []error{err}
			}
			what := fmt.Sprintf("group %d, answer %d behind its own prompt", i, k)
			errs = append(errs, sameBits(own.of(rowRange{0, g.prompt}), shared.of(prompt), run.backward, what+": prompt")...)
			errs = append(errs, sameBits(own.of(rowRange{g.prompt, g.prompt + n}), shared.of(answer), run.backward, what)...)
		}
	}
	return errs
}

// causal runs the batch without the last rows of its last segment.
func (s attentionSetting) causal(b kernels.Backend, dt kernels.DType) []error {
	run := runner{b, dt, false}
	segs, rows := layout(s.groups...)
	whole, err := s.attend(run, segs, rowRange{0, rows})
	if err != nil {
		return []error{err}
	}
	last := &segs[len(segs)-1]
	cut := int(last.Hi-last.Lo) / 3
	last.Hi -= int32(cut)
	shorter, err := s.attend(run, segs, rowRange{0, rows - cut})
	if err != nil {
		return []error{err}
	}
	return sameBits(shorter, whole.of(rowRange{0, rows - cut}), run.backward, "without later rows")
}

// keysOnly asks for the second half of every segment only.
func (s attentionSetting) keysOnly(b kernels.Backend, dt kernels.DType) (errs []error) {
	run := runner{b, dt, false}
	whole, err := s.whole(run)
	if err != nil {
		return []error{err}
	}
	segs, rows := layout(s.groups...)
	for i := range segs {
		segs[i].From = (segs[i].Lo + segs[i].Hi) / 2
	}
	some, err := s.attend(run, segs, rowRange{0, rows})
	if err != nil {
		return []error{err}
	}
	for _, g := range segs {
		r := rowRange{int(g.From), int(g.Hi)}
		errs = append(errs, sameBits(some.of(r), whole.of(r), run.backward, fmt.Sprintf("rows %v of segment %+v", r, g))...)
	}
	return errs
}

func sameBits(got, want attended, gradients bool, what string) (errs []error) {
	if string(got.out) != string(want.out) {
		errs = append(errs, fmt.Errorf("%s: out differs", what))
	}
	if string(got.lse) != string(want.lse) {
		errs = append(errs, fmt.Errorf("%s: lse differs", what))
	}
	if gradients && string(got.dqkv) != string(want.dqkv) {
		errs = append(errs, fmt.Errorf("%s: dqkv differs", what))
	}
	return errs
}
