package infer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"rmtrain/data/tokenizer"
)

// LineOptions say how ScoreLines answers.
type LineOptions struct {
	// Keep repeats the other fields of a request in its answer, but for those that an
	// answer may have itself.
	Keep bool
	Skip int // lines at the beginning of the input that have been answered before
	// Done, if set, is told the counts after every write.
	Done func(s Stats)
}

// Stats count what ScoreLines did, without the lines that it skipped.
type Stats struct {
	Lines, Bad, Conversations int
	Bytes                     int64 // of input read, those skipped included
}

// ScoreLines answers every line of in, a JSON object, with a line of out, in the
// same order: a score, or an error in its place. It holds a bounded number of lines
// and answers those that are there without waiting for more. An error is returned only
// if reading, writing or the model fails, or when ctx ends; everything answered by then
// is written. A Read that is under way when ctx ends is left to itself.
func (s *Scorer) ScoreLines(ctx context.Context, in io.Reader, out io.Writer, o LineOptions) (Stats, error) {
	ctx, cancel := context.WithCancel(ctx)
	read, windows := make(chan window), make(chan window)
	// A token has about four bytes, so this fills some batches, and answers come soon.
	go readWindows(ctx, in, o.Skip, 16*s.batchTokens, read)
	var encoding sync.WaitGroup
	encoding.Go(func() { s.prepareWindows(ctx, read, windows) })
	defer encoding.Wait() // it uses the tokenizer, which the caller may close
	defer cancel()

	var stats Stats
	w := bufio.NewWriterSize(out, 1<<16)
	for {
		var next window
		select {
		case next = <-windows:
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil { // whichever came first
			return stats, err
		}
		stats.Bytes += next.bytes
		if err := s.answer(ctx, w, next.lines, o.Keep, &stats); err != nil {
			return stats, err
		}
		if err := w.Flush(); err != nil {
			return stats, fmt.Errorf("infer: write scores: %w", err)
		}
		if o.Done != nil {
			o.Done(stats)
		}
		if next.err == io.EOF {
			return stats, nil
		}
		if next.err != nil {
			return stats, fmt.Errorf("infer: read line %d: %w", o.Skip+stats.Lines+1, next.err)
		}
	}
}

// prepareWindows parses and encodes the windows of from, while the one before is
// scored, and sends them on until the one with an error, or until ctx ends.
func (s *Scorer) prepareWindows(ctx context.Context, from <-chan window, to chan<- window) {
	for done := false; !done; {
		var w window
		select {
		case w = <-from:
		case <-ctx.Done():
			return
		}
		s.prepare(w.lines)
		done = w.err != nil
		select {
		case to <- w:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Scorer) prepare(lines []*line) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, l := range lines {
		g.Go(func() error { l.prepare(s); return nil })
	}
	_ = g.Wait() // a bad line keeps its error
}

// answer writes the answers to lines.
func (s *Scorer) answer(ctx context.Context, w *bufio.Writer, lines []*line, keep bool, stats *Stats) error {
	groups := make([][]tokenizer.Encoded, len(lines))
	for i, l := range lines {
		groups[i] = l.conversations
	}
	scores, err := s.Score(ctx, groups)
	if err != nil {
		return err
	}
	for i, l := range lines {
		l.setScores(scores[i])
		_, _ = w.Write(l.answer(keep)) // Flush returns the error
		stats.Lines++
		stats.Conversations += len(l.conversations)
		if l.err != nil {
			stats.Bad++
		}
	}
	return nil
}

// A line is a request on its way to an answer.
type line struct {
	number int    // from 1
	raw    []byte // without its end
	err    error  // why it cannot be scored

	fields        object
	many          bool
	conversations []tokenizer.Encoded
	scores        []float64
}

// prepare parses and encodes the request.
func (l *line) prepare(s *Scorer) {
	if l.err != nil {
		return
	}
	l.fields, l.err = parseObject(l.raw)
	l.raw = nil
	if l.err != nil {
		return
	}
	var r Request
	if r, l.err = newRequest(l.fields); l.err != nil {
		return
	}
	l.many = r.Many()
	if l.conversations, l.err = s.Encode(r); l.err != nil {
		l.conversations = nil
	}
}

func (l *line) setScores(scores []float64) {
	for _, x := range scores {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			l.err = errors.New("infer: the score is not a finite number (look at the model's weights, or score in float32)")
		}
	}
	l.scores = scores
}

// answerFields are the fields that an answer may have.
var answerFields = []string{"score", "scores", "tokens", "truncated", "error", "line"}

// answer returns the line that answers l.
func (l *line) answer(keep bool) []byte {
	var o object
	if keep {
		for _, name := range l.fields.names {
			if !slices.Contains(requestFields, name) && !slices.Contains(answerFields, name) {
				o.set(name, l.fields.values[name])
			}
		}
	}
	if l.err != nil {
		o.set("error", l.err.Error())
		o.set("line", l.number)
		return append(o.appendTo(nil), '\n')
	}
	scores := make([]float, len(l.scores))
	tokens, truncated := make([]int, len(scores)), make([]bool, len(scores))
	for i, c := range l.conversations {
		scores[i], tokens[i], truncated[i] = float(l.scores[i]), c.Tokens, c.Truncated
	}
	if l.many {
		o.set("scores", scores)
		o.set("tokens", tokens)
		o.set("truncated", truncated)
	} else {
		o.set("score", scores[0])
		o.set("tokens", tokens[0])
		o.set("truncated", truncated[0])
	}
	return append(o.appendTo(nil), '\n')
}

// float is a score in JSON: the shortest decimal that gives the same float32, in
// which networks compute.
type float float64

// MarshalJSON implements json.Marshaler.
func (f float) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(f), 'g', -1, 32), nil
}
