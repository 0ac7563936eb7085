package infer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"

	"golang.org/x/sync/errgroup"

	"rmtrain/data/tokenizer"
)

// maxLine bounds the memory that one line of input may take.
const maxLine = 64 << 20

// LineOptions say how ScoreLines answers.
type LineOptions struct {
	Keep  bool // repeat the request's other fields in the answer
	First int  // lines of the input before the first one, for messages
	// Done, if set, is told after every write how many lines and bytes of the
	// input are answered, and how many conversations were scored.
	Done func(s Stats)
}

// Stats count what ScoreLines did.
type Stats struct {
	Lines, Bad, Conversations int
	Bytes                     int64 // of input
}

// ScoreLines answers every line of in, a JSON object, with a line of out, in the
// same order: a score, or an error in its place. It holds a bounded number of
// lines. An error is returned only if reading, writing or the model fails.
func (s *Scorer) ScoreLines(ctx context.Context, in io.Reader, out io.Writer, o LineOptions) (Stats, error) {
	var stats Stats
	r, w := bufio.NewReaderSize(in, 1<<20), bufio.NewWriter(out)
	for {
		if err := ctx.Err(); err != nil {
			return stats, err
		}
		window, err := s.readWindow(r, o.First+stats.Lines)
		if err != nil && err != io.EOF {
			return stats, fmt.Errorf("infer: read line %d: %w", o.First+stats.Lines+len(window)+1, err)
		}
		if e := s.answer(ctx, w, window, o, &stats); e != nil {
			return stats, e
		}
		if e := w.Flush(); e != nil {
			return stats, fmt.Errorf("infer: write scores: %w", e)
		}
		if o.Done != nil {
			o.Done(stats)
		}
		if err == io.EOF {
			return stats, nil
		}
	}
}

// A line is a request on its way to an answer.
type line struct {
	number int
	raw    []byte
	size   int64
	req    Request
	convs  []tokenizer.Encoded
	err    error
}

// readWindow reads lines worth a few batches: enough for batches to be full, few
// enough for answers to come soon.
func (s *Scorer) readWindow(r *bufio.Reader, before int) ([]*line, error) {
	var window []*line
	for bytesLeft := 16 * s.batchTokens; bytesLeft > 0 && len(window) < 1024; {
		raw, size, err := readLine(r)
		if size > 0 {
			l := &line{number: before + len(window) + 1, raw: raw, size: size}
			if raw == nil {
				l.err = fmt.Errorf("the line is longer than %d bytes", maxLine)
			}
			window = append(window, l)
			bytesLeft -= len(raw)
		}
		if err != nil {
			return window, err
		}
	}
	return window, nil
}

// readLine returns a line without its end, and its size with it; nil if it is
// longer than maxLine.
func readLine(r *bufio.Reader) (raw []byte, size int64, err error) {
	raw = []byte{}
	for {
		part, err := r.ReadSlice('\n')
		size += int64(len(part))
		if raw != nil && len(raw)+len(part) <= maxLine {
			raw = append(raw, part...)
		} else {
			raw = nil
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if raw != nil {
			raw = bytes.TrimRight(raw, "\r\n")
		}
		return raw, size, err
	}
}

func (s *Scorer) answer(ctx context.Context, w *bufio.Writer, window []*line, o LineOptions, stats *Stats) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, l := range window {
		g.Go(func() error { l.prepare(s.Encoder); return nil })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	groups := make([][]tokenizer.Encoded, len(window))
	for i, l := range window {
		groups[i] = l.convs
	}
	scores, err := s.Score(ctx, groups)
	if err != nil {
		return err
	}
	for i, l := range window {
		b, err := l.reply(scores[i], o.Keep)
		if err != nil {
			l.err = err
			b, _ = l.reply(nil, o.Keep) // an error always has a reply
		}
		w.Write(append(b, '\n')) // the error is kept until Flush
		stats.Lines++
		stats.Bytes += l.size
		stats.Conversations += len(l.convs)
		if l.err != nil {
			stats.Bad++
		}
	}
	return nil
}

func (l *line) prepare(e *tokenizer.Encoder) {
	if l.err != nil {
		return
	}
	if l.req, l.err = ParseRequest(l.raw); l.err != nil {
		return
	}
	if l.convs, l.err = l.req.Encode(e); l.err != nil {
		l.convs = nil
	}
}

// reply is the JSON object that answers l.
func (l *line) reply(scores []float64, keep bool) ([]byte, error) {
	var out object
	if keep && l.raw != nil {
		out.keep(l.raw)
	}
	if l.err != nil {
		out.set("error", l.err.Error())
		out.set("line", l.number)
		return out.bytes(), nil
	}
	tokens, truncated := make([]int, len(l.convs)), make([]bool, len(l.convs))
	for i, c := range l.convs {
		if math.IsNaN(scores[i]) || math.IsInf(scores[i], 0) {
			return nil, errors.New("the score is not a finite number (the model's weights or the bfloat16 range may be at fault)")
		}
		tokens[i], truncated[i] = c.Tokens, c.Truncated
	}
	if l.req.Many() {
		out.set("scores", floats(scores))
		out.set("tokens", tokens)
		out.set("truncated", truncated)
		return out.bytes(), nil
	}
	out.set("score", float(scores[0]))
	out.set("tokens", tokens[0])
	out.set("truncated", truncated[0])
	return out.bytes(), nil
}

// float is a score in JSON: the shortest decimal that gives the same float32, in
// which networks compute.
type float float64

func (f float) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(f), 'g', -1, 32), nil
}

func floats(x []float64) []float {
	out := make([]float, len(x))
	for i := range x {
		out[i] = float(x[i])
	}
	return out
}

// An object is a JSON object whose fields keep their order.
type object struct {
	names  []string
	values map[string]json.RawMessage
}

// keep takes over all fields of a JSON object but those that say what to score.
func (o *object) keep(raw []byte) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return
		}
		var v json.RawMessage
		if d.Decode(&v) != nil {
			return
		}
		switch name {
		case "text", "messages", "prompt", "answers", "input_ids":
		default:
			o.set(name.(string), v)
		}
	}
}

func (o *object) set(name string, value any) {
	b, ok := value.(json.RawMessage)
	if !ok {
		b = marshal(value)
	}
	if o.values == nil {
		o.values = map[string]json.RawMessage{}
	}
	if _, ok := o.values[name]; !ok {
		o.names = append(o.names, name)
	}
	o.values[name] = b
}

// marshal writes strings, numbers and lists of them, which always succeeds.
func marshal(value any) []byte {
	b, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("infer: %v cannot be written as JSON: %v", value, err))
	}
	return b
}

func (o *object) bytes() []byte {
	b := []byte{'{'}
	for i, n := range o.names {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, marshal(n)...)
		b = append(b, ": "...)
		b = append(b, o.values[n]...)
	}
	return append(b, '}')
}
