package infer

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rmtrain/data/tokenizer"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
)

// A goldenCase is a request and what transformers made of it; see testdata/golden.py.
type goldenCase struct {
	Request json.RawMessage `json:"request"`
	IDs     []int32         `json:"ids"`    // after truncation
	Tokens  int             `json:"tokens"` // before it
	Score   float64         `json:"score"`
	// Of the huggingface folder only: in a batch padded on the right, and with other
	// pad_token_ids in config.json.
	Batched     float64 `json:"batched"`
	NullPad     float64 `json:"null_pad"`
	NegativePad float64 `json:"negative_pad"`
}

func golden(t testing.TB, name string) []goldenCase {
	t.Helper()
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	var cases []goldenCase
	if err := json.Unmarshal(all[name], &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func openScorer(t testing.TB, path string, dt kernels.DType, o Options) *Scorer {
	t.Helper()
	b, err := cpu.New(dt)
	if err != nil {
		t.Fatal(err)
	}
	o.Backend, o.DType = b, dt
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// variant copies a folder of testdata with changes to its config.json.
func variant(t testing.TB, name string, changes map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	for key, value := range changes {
		config[key] = value
	}
	if b, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// encodeAll parses and encodes requests.
func encodeAll(t testing.TB, s *Scorer, requests ...string) [][]tokenizer.Encoded {
	t.Helper()
	var groups [][]tokenizer.Encoded
	for _, line := range requests {
		r, err := ParseRequest([]byte(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		g, err := s.Encode(r)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		groups = append(groups, g)
	}
	return groups
}

func score(t testing.TB, s *Scorer, groups [][]tokenizer.Encoded) [][]float64 {
	t.Helper()
	scores, err := s.Score(context.Background(), groups)
	if err != nil {
		t.Fatal(err)
	}
	return scores
}

func TestScoresAreThoseOfTransformers(t *testing.T) {
	for _, c := range []struct {
		name, folder string
		config       map[string]any
		want         func(goldenCase) []float64
	}{
		{"huggingface alone and in padded batches", "huggingface", nil, func(c goldenCase) []float64 { return []float64{c.Score, c.Batched} }},
		{"pad_token_id null", "huggingface", map[string]any{"pad_token_id": nil}, func(c goldenCase) []float64 { return []float64{c.NullPad} }},
		{"pad_token_id -1", "huggingface", map[string]any{"pad_token_id": -1}, func(c goldenCase) []float64 { return []float64{c.NegativePad} }},
		{"starling", "starling", nil, func(c goldenCase) []float64 { return []float64{c.Score} }},
		{"starling whatever pad_token_id", "starling", map[string]any{"pad_token_id": 2}, func(c goldenCase) []float64 { return []float64{c.Score} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openScorer(t, variant(t, c.folder, c.config), kernels.F32, Options{})
			for _, g := range golden(t, c.folder) {
				enc := encodeAll(t, s, string(g.Request))
				e := enc[0][0]
				if len(e.IDs) > len(g.IDs) || !slices.Equal(e.IDs, g.IDs[:len(e.IDs)]) {
					t.Errorf("%s: ids %d, want the beginning of %d", g.Request, e.IDs, g.IDs)
				}
				if e.Tokens != g.Tokens || e.Truncated != (g.Tokens > len(g.IDs)) {
					t.Errorf("%s: %d tokens, truncated %t; want %d of %d", g.Request, e.Tokens, e.Truncated, g.Tokens, len(g.IDs))
				}
				got := score(t, s, enc)[0][0]
				for _, want := range c.want(g) {
					// Rounding goes with a score's terms, about 1, however small their sum.
					if math.Abs(got-want) > 1e-5*max(1, math.Abs(want)) {
						t.Errorf("%s: score %v, want %v", g.Request, got, want)
					}
				}
			}
		})
	}
}

// The golden cases must tell the score positions apart, or they prove nothing.
func TestGoldenCasesReadScoresInDifferentPlaces(t *testing.T) {
	moved, truncated := 0, 0
	for _, g := range golden(t, "huggingface") {
		if g.Score != g.NullPad {
			moved++
		}
		if g.Tokens > len(g.IDs) {
			truncated++
		}
	}
	if moved < 3 || truncated < 3 {
		t.Fatalf("%d scores depend on pad_token_id and %d conversations are truncated", moved, truncated)
	}
}
