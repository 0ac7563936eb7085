package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"rmtrain/data/rows"
	"rmtrain/data/tokenizer"
	"rmtrain/infer"
)

// A fake scores conversations by their text.
type fake struct {
	score func(text string) float64
	fails func(text string) error // of Encode; nil never fails
	stop  int                     // Score fails after so many calls, if it is not 0

	mu    sync.Mutex
	texts []string
	calls int
}

func (f *fake) Encode(r infer.Request) ([]tokenizer.Encoded, error) {
	text := requestText(r)
	if f.fails != nil {
		if err := f.fails(text); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.texts = append(f.texts, text)
	return []tokenizer.Encoded{{IDs: []int32{int32(len(f.texts) - 1)}, Tokens: len(text)}}, nil
}

func (f *fake) Score(_ context.Context, groups [][]tokenizer.Encoded) ([][]float64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls++; f.stop > 0 && f.calls > f.stop {
		return nil, context.Canceled
	}
	out := make([][]float64, len(groups))
	for i, g := range groups {
		for _, e := range g {
			out[i] = append(out[i], f.score(f.texts[e.IDs[0]]))
		}
	}
	return out, nil
}

// requestText is a conversation on one line: role=content, separated by bars.
func requestText(r infer.Request) string {
	switch {
	case r.Text != nil:
		return *r.Text
	case r.Prompt != nil:
		return *r.Prompt + "|" + r.Answers[0]
	}
	var parts []string
	for _, m := range r.Messages {
		parts = append(parts, m.Role+"="+m.Content)
	}
	return strings.Join(parts, "|")
}

// write makes a file in a new folder and returns its path.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// values reads all rows of a file as values of encoding/json.
func values(t testing.TB, path string) []map[string]any {
	t.Helper()
	var out []map[string]any
	err := rows.Read(t.Context(), path, nil, func(r rows.Row) error {
		var row map[string]any
		if err := json.Unmarshal(r.JSON, &row); err != nil {
			return err
		}
		out = append(out, row)
		return r.Err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func load(t testing.TB, name string, s Settings, paths ...string) *Set {
	t.Helper()
	set, err := Load(context.Background(), name, paths, s, rankedRow)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// rankedRow is a parser like the one that programs use: texts and ranks.
func rankedRow(line []byte) (*Item, error) {
	r, err := parseRow(line)
	if err != nil {
		return nil, err
	}
	if err := r.need("prompt", "texts", "ranks"); err != nil {
		return nil, err
	}
	it := &Item{}
	if it.Prompt, err = r.text("prompt"); err != nil {
		return nil, err
	}
	texts, err := r.texts("texts")
	if err != nil {
		return nil, err
	}
	var ranks []float64
	if err := r.decode("ranks", "a list of numbers", &ranks); err != nil || len(ranks) != len(texts) || len(texts) < 2 {
		return nil, fmt.Errorf("ranks do not fit: %w", err)
	}
	for i, text := range texts {
		it.Completions = append(it.Completions, Completion{Request: infer.Request{Text: &text}, Label: fmt.Sprint(i), Rank: ranks[i], Characters: len(text)})
	}
	return it, nil
}

func scoreSet(t testing.TB, set *Set, m Scorer) []Row {
	t.Helper()
	rows, err := set.Score(context.Background(), m, nil, false, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func measured(t testing.TB, set *Set, rows, other []Row, s Settings) *Result {
	t.Helper()
	r, err := Measure(set, rows, other, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// metric returns a metric of a result by its name.
func metric(t testing.TB, r *Result, name string) Metric {
	t.Helper()
	for _, m := range r.Metrics {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("%s has no %q", r.Bench, name)
	return Metric{}
}

// quick are settings with few resamples.
func quick() Settings {
	s := Defaults()
	s.Resamples = 50
	return s
}

// pairLines are n rows of rankedRow, two texts each, the first of which is better.
func pairLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"prompt":"p%d","texts":["good %d","bad %d"],"ranks":[1,2],"source":"s%d"}`+"\n", i, i, i, i%3)
	}
	return b.String()
}

// likesGood scores texts with the word good higher.
func likesGood(text string) float64 {
	if strings.Contains(text, "good") {
		return 1
	}
	return 0
}
