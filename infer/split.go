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
// fit the budget and save rows by what they share. A truncated one, say, has nothing but
// BOS in common with its neighbours, and would cost them what they share.
func fit(group []tokenizer.Encoded, budget int) int {
	first := group[0].IDs
	shared, total, rows := len(first), len(first), len(first)
	for i := 1; i < len(group); i++ {
		ids := group[i].IDs
		shared = min(shared, common(first, ids))
		total += len(ids)
		with := total - i*shared // what is shared is there once
		if with > budget || with >= rows+len(ids) {
			return i
		}
		if i+1 < len(group) && common(ids, group[i+1].IDs)-shared > shared {
			return i // it saves more rows with the next one
		}
		rows = with
	}
	return len(group)
}

// common returns how many leading ids two conversations can share. The last one of
// each is scored, and has a row of its own.
func common(a, b []int32) int {
	n := 0
	for n < min(len(a), len(b))-1 && a[n] == b[n] {
		n++
	}
	return n
}
