package data

import "fmt"

// PackRows returns how many rows Pack needs for g.
func PackRows(g Group, share bool) int {
	prefix := sharedPrefix(g.Answers, share)
	rows := prefix
	for _, a := range g.Answers {
		rows += len(a.Tokens) - prefix
	}
	return rows
}

// Pack lays out groups as one batch. With share the longest common token prefix
// of a group's answers, short of the shortest answer's last token, is laid out once.
// Every answer must have a token.
func Pack(groups []Group, share bool) *Batch {
	rows, answers := 0, 0
	for _, g := range groups {
		rows += PackRows(g, share)
		answers += len(g.Answers)
	}
	b := &Batch{
		Tokens:    make([]int32, 0, rows),
		Positions: make([]int32, 0, rows),
		Segments:  make([]Segment, 0, answers+len(groups)),
		Scored:    make([]int32, 0, answers),
		Answers:   make([]int, 0, len(groups)),
	}
	for _, g := range groups {
		b.add(g, share)
	}
	return b
}

// add appends the rows of one group: [prefix | rest of answer 1 | ... ].
func (b *Batch) add(g Group, share bool) {
	n := sharedPrefix(g.Answers, share)
	var prefix Segment // empty: each answer is whole
	if n > 0 {
		lo, hi := b.appendRows(g.Answers[0].Tokens[:n], 0)
		prefix = Segment{PrefixLo: lo, PrefixHi: hi}
		b.Segments = append(b.Segments, Segment{PrefixLo: lo, PrefixHi: lo, Lo: lo, Hi: hi})
	}
	for i, a := range g.Answers {
		if len(a.Tokens) == 0 {
			panic(fmt.Sprintf("data: Pack %s: answer %d has no token to score", g.Source, i))
		}
		lo, hi := b.appendRows(a.Tokens[n:], n)
		s := Segment{PrefixLo: prefix.PrefixLo, PrefixHi: prefix.PrefixHi, Lo: lo, Hi: hi}
		if n == 0 {
			s.PrefixLo, s.PrefixHi = lo, lo
		}
		b.Segments = append(b.Segments, s)
		b.Scored = append(b.Scored, hi-1)
		b.Real += len(a.Tokens)
	}
	b.Answers = append(b.Answers, len(g.Answers))
}

// appendRows appends tokens, the first of which has the given position in its
// conversation, and returns their rows [lo, hi).
func (b *Batch) appendRows(tokens []int32, position int) (lo, hi int32) {
	lo = int32(len(b.Tokens))
	b.Tokens = append(b.Tokens, tokens...)
	for i := range tokens {
		b.Positions = append(b.Positions, int32(position+i))
	}
	return lo, int32(len(b.Tokens))
}

// sharedPrefix returns how many leading tokens all answers have in common, at
// most one less than the shortest has, because each needs a row of its own to be
// scored at. A single answer shares nothing.
func sharedPrefix(answers []Answer, share bool) int {
	if !share || len(answers) < 2 {
		return 0
	}
	first := answers[0].Tokens
	n := len(first) - 1
	for _, a := range answers[1:] {
		n = min(n, len(a.Tokens)-1)
		for i := 0; i < n; i++ {
			if a.Tokens[i] != first[i] {
				n = i
			}
		}
	}
	return max(n, 0)
}
