package nectar

import (
	"cmp"
	"fmt"
	"slices"

	"rmtrain/data"
	"rmtrain/data/tokenizer"
)

// An example is a parsed row and, if there is an encoder, its group.
type example struct {
	ranking   *Ranking
	ranks     []float64 // of all answers, also those that Options.MaxAnswers leaves out
	group     data.Group
	truncated int // answers that truncation touched
}

// encode parses and encodes one row.
func (o Options) encode(r row) (*example, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	ranking, err := ParseRow(r.JSON)
	if err != nil {
		return nil, err
	}
	ex := &example{ranking: ranking}
	for _, c := range ranking.Completions {
		ex.ranks = append(ex.ranks, c.Rank)
	}
	ranking.keep(o.MaxAnswers)
	if o.Encoder == nil {
		return ex, nil
	}
	ex.group = data.Group{Margin: ranking.Margin, Prompt: ranking.Prompt}
	for i, c := range ranking.Completions {
		e, err := c.encode(o.Encoder)
		if err == nil && len(e.IDs) == 0 {
			err = fmt.Errorf("no tokens")
		}
		if err != nil {
			return nil, fmt.Errorf("answer %d: %w", i+1, err)
		}
		if e.Truncated {
			ex.truncated++
		}
		ex.group.Answers = append(ex.group.Answers, data.Answer{Tokens: e.IDs, Rank: c.Rank})
	}
	return ex, nil
}

// encode returns the ids of a completion.
func (c Completion) encode(e *tokenizer.Encoder) (tokenizer.Encoded, error) {
	switch c.Form {
	case Messages:
		return e.Messages(c.Messages)
	case Text:
		return e.Text(c.Answer)
	}
	return e.Transcript(c.Prompt, c.Answer)
}

// keep leaves n completions, the best and the worst among them and the rest spread
// evenly over the ranks between. The order stays that of the file; 0 keeps all.
func (r *Ranking) keep(n int) {
	k := len(r.Completions)
	if n == 0 || k <= n {
		return
	}
	order := make([]int, k)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(r.Completions[a].Rank, r.Completions[b].Rank)
	})
	kept := make([]int, n)
	for i := range kept {
		kept[i] = order[(2*i*(k-1)+n-1)/(2*(n-1))] // i*(k-1)/(n-1), rounded
	}
	slices.Sort(kept)
	completions := make([]Completion, n)
	for i, c := range kept {
		completions[i] = r.Completions[c]
	}
	r.Completions = completions
}
