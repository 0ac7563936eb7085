package infer

import (
	"rmtrain/data"
	"rmtrain/data/tokenizer"
)

// A piece is neighbours in a group that go into one forward pass and share their
// beginning there, and where their scores belong.
type piece struct {
	group  data.Group
	scores []float64
}

// split cuts a group into pieces of at most budget rows each. Only a conversation
// that is longer by itself makes a larger piece.
func split(group []tokenizer.Encoded, scores []float64, budget int) []piece {
	var pieces []piece
	for len(group) > 0 {
		n := fit(group, budget)
		p := piece{scores: scores[:n]}
		for _, e := range group[:n] {
			p.group.Answers = append(p.group.Answers, data.Answer{Tokens: e.IDs})
		}
		pieces = append(pieces, p)
		group, scores = group[n:], scores[n:]
	}
	return pieces
}

// fit returns how many conversations, at least one, make the next piece: as many as
// fit the budget and save rows by what they share. One that was truncated, say, shares
// nothing and would cost the others what they share.
func fit(group []tokenizer.Encoded, budget int) int {
	first := group[0].IDs
	shared, total, rows := len(first)-1, len(first), len(first)
	for i, e := range group[1:] {
		shared = commonPrefix(first[:shared], e.IDs[:len(e.IDs)-1]) // the last token is scored
		total += len(e.IDs)
		with := total - (i+1)*shared // the shared rows are there once
		if with > budget || with > rows+len(e.IDs) {
			return i + 1
		}
		rows = with
	}
	return len(group)
}

func commonPrefix(a, b []int32) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
