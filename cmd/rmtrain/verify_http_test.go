package main

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"rmtrain/infer/serve"
	"rmtrain/kernels"
)

// classifyAnswer is the part of vLLM's answer that breaks here.
type classifyAnswer struct {
	Data []*struct {
		Index int       `json:"index"`
		Probs []float64 `json:"probs"`
	} `json:"data"`
}

// otherServer is a server of v's own model whose answers spoil, which counts requests
// from 1, may change.
func otherServer(t *testing.T, v *verification, keys *serve.Keys, spoil func(n int64, a *classifyAnswer)) string {
	t.Helper()
	s, err := serve.New(serve.Options{Keys: keys, Names: []string{"other"}, Open: func() (*serve.Model, error) {
		return &serve.Model{Scorer: v.scorer, Encoder: v.scorer.Encoder, Vocab: v.scorer.Config.Vocab, Close: func() error { return nil }}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner := httptest.NewRecorder()
		s.ServeHTTP(inner, r)
		var a classifyAnswer
		if inner.Code != http.StatusOK || spoil == nil || json.Unmarshal(inner.Body.Bytes(), &a) != nil {
			w.WriteHeader(inner.Code)
			_, _ = w.Write(inner.Body.Bytes()) // a client that has gone is its own test's failure
			return
		}
		spoil(n.Add(1), &a)
		_ = json.NewEncoder(w).Encode(a)
	}))
	t.Cleanup(func() { h.Close(); s.Close() })
	return h.URL + "/classify"
}

func TestVerifyCatchesABrokenEndpoint(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil   func(n int64, a *classifyAnswer)
		verdict string
		says    string
	}{
		"none": {nil, verdictSame, ""},
		"rounded within tolerance": {func(_ int64, a *classifyAnswer) {
			for _, d := range a.Data {
				d.Probs[0] = math.Round(d.Probs[0]*1e6) / 1e6
			}
		}, verdictSame, ""},
		"other order, right indices": {func(_ int64, a *classifyAnswer) {
			for i, j := 0, len(a.Data)-1; i < j; i, j = i+1, j-1 {
				a.Data[i], a.Data[j] = a.Data[j], a.Data[i]
			}
		}, verdictSame, ""},
		"one score is off": {func(n int64, a *classifyAnswer) {
			if n == 3 {
				a.Data[0].Probs[0] += 0.001
			}
		}, verdictOther, "most for "},
		"a sigmoid": {func(_ int64, a *classifyAnswer) {
			for _, d := range a.Data {
				d.Probs[0] = 1 / (1 + math.Exp(-d.Probs[0]))
			}
		}, verdictOther, "these are sigmoids"},
		"a class too many": {func(_ int64, a *classifyAnswer) { a.Data[0].Probs = append(a.Data[0].Probs, 1) }, verdictFailed, "has 2 probs"},
		"no index twice":   {func(_ int64, a *classifyAnswer) { a.Data[0].Index = len(a.Data) }, verdictFailed, "has the index"},
		"one is missing": {func(n int64, a *classifyAnswer) {
			if n == 2 {
				a.Data = a.Data[1:]
				for i, d := range a.Data {
					d.Index = i
				}
			}
		}, verdictFailed, "conversations"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, table := begun(t, tinyScorer, kernels.F32)
			for _, take := range []func(context.Context) ([]found, error){v.againstIDs, v.againstTexts} {
				v.o.against = otherServer(t, v, nil, c.spoil)
				if err := v.take(t.Context(), path{"against", v.remoteTolerance(), take}); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range v.report.Paths {
				if p.Verdict != c.verdict || (c.verdict == verdictSame && p.Conversations < 40) {
					t.Errorf("%+v", p)
				}
			}
			if v.report.OK != (c.verdict == verdictSame) || !strings.Contains(table.String(), c.says) {
				t.Errorf("ok %v, no %q in\n%s", v.report.OK, c.says, table)
			}
		})
	}
}

// Of a server that refuses some requests, the other scores are compared all the same.
func TestVerifyReportsRefusals(t *testing.T) {
	t.Parallel()
	v, table := begun(t, tinyScorer, kernels.F32)
	keys, err := serve.ReadKeys(strings.NewReader("secret"))
	if err != nil {
		t.Fatal(err)
	}
	v.o.against = otherServer(t, v, keys, nil)
	v.key = "wrong"
	v.record("wrong key", 0, nil, second(v.againstIDs(t.Context())))
	v.key = "secret"
	scores, err := v.againstIDs(t.Context())
	v.record("right key", 0, scores, err)
	v.o.against = strings.TrimSuffix(v.o.against, "classify") + "nowhere"
	v.record("wrong path", 0, nil, second(v.againstIDs(t.Context())))
	v.o.against = "http://127.0.0.1:1/classify"
	v.record("nobody there", 0, nil, second(v.againstIDs(t.Context())))
	for i, want := range []struct{ verdict, says string }{
		{verdictFailed, "status 401"}, {verdictSame, ""}, {verdictFailed, "status 404"}, {verdictFailed, "connection refused"},
	} {
		if p := v.report.Paths[i]; p.Verdict != want.verdict || !strings.Contains(p.Error, want.says) {
			t.Errorf("%+v, want %+v\n%s", p, want, table)
		}
	}
}

func second(_ []found, err error) error { return err }

// The whole program against a server that is right in its own way, and one that is not.
func TestVerifyAgainstAServer(t *testing.T) {
	t.Parallel()
	v, _ := begun(t, tinyScorer, kernels.F32)
	key := tempFile(t, "key", "# of the test\nsecret\n")
	keys, err := serve.ReadKeys(strings.NewReader("secret"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--checkpoint", tinyScorer, "--api-key-file", key, "--against"}
	out := ok(t, append(args, otherServer(t, v, keys, nil))...)
	for _, part := range []string{"against: token ids", "against: texts, messages", "all paths give the same scores"} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
	r := run(t, append(args, otherServer(t, v, keys, func(_ int64, a *classifyAnswer) { a.Data[0].Probs[0]++ }))...)
	if r.status != 1 || r.stderr != "" || !strings.Contains(r.stdout, "2 of 11 paths do not give the same scores") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func FuzzParseScores(f *testing.F) {
	for _, s := range []string{`{"score": 1}`, `{"scores": [1, null, 1e39]}`, `{"data": [{"index": 1, "probs": [1]}, {"index": 0, "probs": [2]}]}`, `{"data": [{"index": -1, "probs": [1]}]}`, `{"data": [null]}`, `[]`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) ([]float64, error){parseInfer, parseClassify} {
			scores, err := parse(b)
			for _, x := range scores {
				if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
					t.Errorf("%q gives %v, %v", b, scores, err)
				}
			}
		}
	})
}
