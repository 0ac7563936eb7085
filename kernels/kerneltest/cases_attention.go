package kerneltest

import (
	"fmt"
	"strings"

	"rmtrain/kernels"
)

// A group is the rows of a prompt and those of each of its answers. Without a
// prompt (0 rows) the answers are plain sequences.
type group struct {
	prompt  int
	answers []int
}

// layout packs groups one after the other.
func layout(groups ...group) (segs []kernels.Segment, rows int) {
	at := int32(0)
	for _, g := range groups {
		lo, hi := at, at+int32(g.prompt)
		if g.prompt > 0 {
			segs = append(segs, kernels.Segment{Lo: lo, Hi: hi})
		}
		at = hi
		for _, n := range g.answers {
			segs = append(segs, kernels.Segment{PrefixLo: lo, PrefixHi: hi, Lo: at, Hi: at + int32(n)})
			at += int32(n)
		}
	}
	return segs, int(at)
}

type attentionSetting struct {
	name   string
	h      kernels.Heads
	groups []group
	scale  float64 // of queries, keys and values
}

var attentionSettings = []attentionSetting{
	{"small", kernels.Heads{Q: 4, KV: 2, Dim: 6}, []group{{3, []int{2, 4}}, {0, []int{2}}}, 1},
	{"one row", kernels.Heads{Q: 1, KV: 1, Dim: 8}, []group{{0, []int{1}}}, 1},
	{"ratio 1", kernels.Heads{Q: 2, KV: 2, Dim: 16}, []group{{15, []int{16, 17}}, {0, []int{31}}}, 1},
	{"ratio 4", kernels.Heads{Q: 4, KV: 1, Dim: 64}, []group{{33, []int{7, 1, 64}}, {5, []int{3}}}, 1},
	{"ratio 7", kernels.Heads{Q: 7, KV: 1, Dim: 80}, []group{{20, []int{9, 11}}}, 1},
	{"dim 128", kernels.Heads{Q: 4, KV: 2, Dim: 128}, []group{{64, []int{17, 5}}, {0, []int{1}}}, 1},
	{"long prompt", kernels.Heads{Q: 2, KV: 1, Dim: 64}, []group{{310, []int{5, 20}}}, 1},
	{"long sequence", kernels.Heads{Q: 3, KV: 3, Dim: 16}, []group{{0, []int{300}}}, 1},
	{"large scores", kernels.Heads{Q: 6, KV: 3, Dim: 64}, []group{{40, []int{23, 9}}}, 4},
	{"window 1", kernels.Heads{Q: 4, KV: 2, Dim: 6, Window: 1}, []group{{3, []int{2, 4}}}, 1},
	{"window within answers", kernels.Heads{Q: 4, KV: 2, Dim: 16, Window: 5}, []group{{7, []int{3, 9, 13}}, {0, []int{12}}}, 1},
	{"window into prompt", kernels.Heads{Q: 4, KV: 1, Dim: 64, Window: 17}, []group{{33, []int{7, 1, 40}}}, 1},
	{"window over all", kernels.Heads{Q: 2, KV: 2, Dim: 16, Window: 1000}, []group{{15, []int{16, 17}}}, 1},
	{"many rows", kernels.Heads{Q: 4, KV: 1, Dim: 8}, []group{{210, []int{200}}}, 1},
	{"many rows, window", kernels.Heads{Q: 4, KV: 1, Dim: 8, Window: 90}, []group{{210, []int{200}}}, 1},
	{"long window", kernels.Heads{Q: 2, KV: 1, Dim: 16, Window: 100}, []group{{310, []int{5, 130}}}, 1},
}

func attentionCases() (cs []testCase) {
	for i, s := range attentionSettings {
		segs, rows := layout(s.groups...)
		cs = append(cs, attention(s, segs, rows, i == 0), attentionBack(s, segs, rows, i == 0))
	}
	gap := attentionSetting{"rows in no segment", kernels.Heads{Q: 4, KV: 2, Dim: 6}, nil, 1}
	segs := []kernels.Segment{{Lo: 1, Hi: 4}, {PrefixLo: 1, PrefixHi: 4, Lo: 6, Hi: 9}, {PrefixLo: 1, PrefixHi: 4, Lo: 4, Hi: 5}}
	cs = append(cs, attention(gap, segs, 11, false), attentionBack(gap, segs, 11, false))
	for _, s := range attentionSettings[:5] {
		s.name += ", keys only"
		segs, rows := layout(s.groups...)
		for i := range segs { // none, some, all but one, all
			segs[i].From = []int32{0, (segs[i].Lo + segs[i].Hi) / 2, segs[i].Hi - 1, segs[i].Hi}[i%4]
		}
		cs = append(cs, attention(s, segs, rows, false), attentionBack(s, segs, rows, false))
	}
	return cs
}

func attention(s attentionSetting, segs []kernels.Segment, rows int, small bool) testCase {
	c := testCase{name: "Attention/" + s.name, class: Attending, small: small,
		in:  []operand{act(rows, s.h.Q*s.h.Dim), stat(rows, s.h.Q), act(rows, s.h.QKV()).times(s.scale)},
		out: []int{0, 1},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.Attention(t[0], t[1], t[2], segs, s.h) }}
	if s.scale > 1 {
		c.class = LargeScores
	}
	if small {
		c.poison = map[int][]int{2: seenByWholeSegment(segs, s.h)}
	}
	return c
}

func attentionBack(s attentionSetting, segs []kernels.Segment, rows int, small bool) testCase {
	c := testCase{name: "AttentionBack/" + s.name, class: AttendingBack, small: small,
		in: []operand{act(rows, s.h.QKV()), act(rows, s.h.Q*s.h.Dim), act(rows, s.h.Q*s.h.Dim),
			stat(rows, s.h.Q), act(rows, s.h.QKV()).times(s.scale)},
		out: []int{0},
		prepare: func(ref kernels.Backend, t []kernels.Tensor) {
			ref.Zero(t[2])
			ref.Zero(t[3])
			ref.Attention(t[2], t[3], t[4], segs, s.h)
		},
		run: func(b kernels.Backend, t []kernels.Tensor) {
			b.AttentionBack(t[0], t[1], t[2], t[3], t[4], segs, s.h)
		}}
	if s.scale > 1 {
		c.class = LargeScores
	}
	if small {
		last := int(segs[2].Hi) - 1 // a row that sees all keys of its segment
		c.poison = map[int][]int{
			0: {0, rows * s.h.QKV() / 2},
			1: {last * s.h.Q * s.h.Dim},
			4: append(seenByWholeSegment(segs, s.h), last*s.h.QKV()),
		}
	}
	return c
}

// seenByWholeSegment returns elements of keys and values which every row of a
// segment sees, the first of the prompt and of an answer. A kernel that works on
// tiles multiplies a masked key's value by a weight of zero, so elsewhere a NaN
// may reach rows before it in its own segment; none may reach another segment.
func seenByWholeSegment(segs []kernels.Segment, h kernels.Heads) (elements []int) {
	key, value := h.Q*h.Dim, (h.Q+h.KV)*h.Dim
	for _, s := range []kernels.Segment{segs[0], segs[1]} {
		row := int(s.Lo) * h.QKV()
		elements = append(elements, row+key, row+value, row+h.QKV()-1)
	}
	return elements
}

// ropeCases rotate back and forth.
func ropeCases() (cs []testCase) {
	for i, h := range []kernels.Heads{{Q: 4, KV: 2, Dim: 6}, {Q: 1, KV: 1, Dim: 2}, {Q: 2, KV: 1, Dim: 16}, {Q: 7, KV: 1, Dim: 64}, {Q: 3, KV: 3, Dim: 80}, {Q: 8, KV: 2, Dim: 128}} {
		for _, inverse := range []bool{false, true} {
			const positions = 600
			at := []int32{0, 1, 2, positions - 1, 1, 77, 500, 3, 4, 5, 6}
			name := []string{"RoPE", fmt.Sprintf("%dq %dkv dim %d", h.Q, h.KV, h.Dim)}
			if inverse {
				name = []string{"RoPE", "inverse", name[1]}
			}
			cs = append(cs, testCase{name: strings.Join(name, "/"), class: Elementwise, small: i == 0,
				in:  []operand{act(len(at), h.QKV()), ids(at...), angles(positions, h.Dim)},
				out: []int{0}, rows: []int{0, 1},
				run: func(b kernels.Backend, t []kernels.Tensor) { b.RoPE(t[0], t[1], t[2], h, inverse) }})
		}
	}
	return cs
}
