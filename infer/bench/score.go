package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"

	"rmtrain/data/tokenizer"
)

// A Row is what a model made of an item.
type Row struct {
	Bench     string    `json:"bench"`
	ID        string    `json:"id"`
	Scores    []float64 `json:"scores,omitempty"`    // of every completion
	Tokens    []int     `json:"tokens,omitempty"`    // before truncation
	Truncated []bool    `json:"truncated,omitempty"` //
	Error     string    `json:"error,omitempty"`     // why there are no scores
}

// windowTokens is how many tokens are scored at a time: enough to fill some batches,
// few enough that little is lost when a run is stopped.
const windowTokens = 1 << 16

// maxWindow bounds the items that are encoded at a time.
const maxWindow = 256

// Conversations counts the completions of a set.
func (s *Set) Conversations() int {
	n := 0
	for _, it := range s.Items {
		n += len(it.Completions)
	}
	return n
}

// Score returns a row for every item. Those that j has are taken from it, and the others
// are added to it as they come. With skipBad an item that cannot be encoded gets a row
// with an error. done is told how many conversations were finished.
func (s *Set) Score(ctx context.Context, m Scorer, j *Journal, skipBad bool, done func(conversations int)) ([]Row, error) {
	rows := make([]Row, len(s.Items))
	var left []int // items to score
	for i, it := range s.Items {
		if r, ok := j.row(s.Bench, it.ID); ok && (r.Error != "" && skipBad || len(r.Scores) == len(it.Completions)) {
			rows[i] = r
			done(len(it.Completions))
			continue
		}
		left = append(left, i)
	}
	windows, err := s.encodeAll(ctx, m, left, skipBad)
	if err != nil {
		return nil, err
	}
	for k, w := range windows {
		windows[k] = window{} // its ids are not needed again
		if err := s.score(ctx, m, w, rows); err != nil {
			return nil, err
		}
		for _, i := range w.items {
			if err := j.add(rows[i]); err != nil {
				return nil, err
			}
			done(len(s.Items[i].Completions))
		}
		if err := j.flush(); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// Check encodes every item and keeps nothing, so that what m's template or tokenizer
// refuses is known before another model's long work begins. With skipBad it refuses none.
func (s *Set) Check(ctx context.Context, m Scorer, skipBad bool) error {
	if skipBad {
		return nil
	}
	left := make([]int, len(s.Items))
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		w := s.encode(m, left)
		if err := s.firstRefused(w); err != nil {
			return err
		}
		left = left[len(w.items):]
	}
	return nil
}

// firstRefused names the first item of a window that could not be encoded.
func (s *Set) firstRefused(w window) error {
	for _, i := range w.items {
		if w.errs[i] != nil {
			return fmt.Errorf("eval: encode %s: %w (mend the row, or leave such rows out with --on-bad-row skip)", s.Items[i].ID, w.errs[i])
		}
	}
	return nil
}

// encodeAll encodes everything before the long work begins, so that without skipBad the
// first item that cannot be encoded is an error then. Ids take about as much memory as
// the texts, which are all there.
func (s *Set) encodeAll(ctx context.Context, m Scorer, left []int, skipBad bool) ([]window, error) {
	var windows []window
	for len(left) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w := s.encode(m, left)
		if err := s.firstRefused(w); err != nil && !skipBad {
			return nil, err
		}
		windows = append(windows, w)
		left = left[len(w.items):]
	}
	return windows, nil
}

// A window is items that are scored together.
type window struct {
	items   []int
	encoded map[int][]tokenizer.Encoded
	errs    map[int]error
}

// encode encodes the first of items, until they have windowTokens tokens.
func (s *Set) encode(m Scorer, items []int) window {
	step := runtime.GOMAXPROCS(0)
	w := window{encoded: map[int][]tokenizer.Encoded{}, errs: map[int]error{}}
	for tokens := 0; len(w.items) < min(len(items), maxWindow) && tokens < windowTokens; {
		next := items[len(w.items):min(len(items), len(w.items)+step)]
		encoded, errs := make([][]tokenizer.Encoded, len(next)), make([]error, len(next))
		var g errgroup.Group
		for k, i := range next {
			g.Go(func() error {
				encoded[k], errs[k] = encodeItem(m, s.Items[i])
				return nil
			})
		}
		_ = g.Wait() // every item keeps its own error
		for k, i := range next {
			w.items = append(w.items, i)
			w.encoded[i] = encoded[k]
			if errs[k] != nil {
				w.errs[i] = errs[k]
			}
			for _, e := range encoded[k] {
				tokens += len(e.IDs)
			}
		}
	}
	return w
}

func encodeItem(m Scorer, it *Item) ([]tokenizer.Encoded, error) {
	var group []tokenizer.Encoded
	for _, c := range it.Completions {
		e, err := m.Encode(c.Request)
		if err == nil && (len(e) != 1 || len(e[0].IDs) == 0) {
			err = errors.New("no tokens")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Label, err)
		}
		group = append(group, e[0])
	}
	return group, nil
}

// score fills the rows of a window.
func (s *Set) score(ctx context.Context, m Scorer, w window, rows []Row) error {
	var groups [][]tokenizer.Encoded
	var scored []int
	for _, i := range w.items {
		rows[i] = Row{Bench: s.Bench, ID: s.Items[i].ID}
		if err := w.errs[i]; err != nil {
			rows[i].Error = err.Error()
			continue
		}
		groups, scored = append(groups, w.encoded[i]), append(scored, i)
	}
	scores, err := m.Score(ctx, groups)
	if err != nil {
		return err
	}
	for k, i := range scored {
		r := &rows[i]
		for c, e := range groups[k] {
			x := scores[k][c]
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return fmt.Errorf("eval: score %s: the score of %s is not a finite number (look at the model's weights, or score in float32)", r.ID, s.Items[i].Completions[c].Label)
			}
			r.Scores, r.Tokens, r.Truncated = append(r.Scores, x), append(r.Tokens, e.Tokens), append(r.Truncated, e.Truncated)
		}
	}
	return nil
}
