package serve

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"rmtrain/data/tokenizer"
	"rmtrain/infer"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
)

// The tiny model reads 48 tokens and knows a chat template.
const (
	tinyPath = "../testdata/huggingface"
	rendered = "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\nFine.<|im_end|>\n"
)

func openTiny(t testing.TB) (*infer.Scorer, *Model) {
	t.Helper()
	b, err := cpu.New(kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	s, err := infer.Open(tinyPath, infer.Options{Backend: b, DType: kernels.F32, BatchTokens: 256})
	if err != nil {
		t.Fatal(err)
	}
	return s, &Model{
		Scorer: s, Encoder: s.Encoder, Vocab: s.Config.Vocab, Length: 48, DType: "float32",
		Close: func() error { return errors.Join(s.Close(), b.Close()) },
	}
}

// newTestServer serves the tiny model as edit says.
func newTestServer(t testing.TB, edit func(*Options)) *Server {
	t.Helper()
	o := Options{
		Open:    func() (*Model, error) { _, m := openTiny(t); return m, nil },
		Names:   []string{"tiny"},
		Limits:  Limits{BatchTokens: 256},
		Version: "test",
	}
	if edit != nil {
		edit(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ask sends a request straight to the handler.
func ask(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// rewards asks OpenRLHF's way.
func rewards(h http.Handler, texts ...string) ([]float64, int) {
	body, err := json.Marshal(map[string]any{"query": texts})
	if err != nil {
		panic(err)
	}
	w := ask(h, "POST", "/get_reward", string(body))
	var got struct{ Rewards []float64 }
	if json.Unmarshal(w.Body.Bytes(), &got) != nil {
		return nil, w.Code
	}
	return got.Rewards, w.Code
}

// sameJSON compares documents: numbers within tolerance, ids and times by kind only.
func sameJSON(path string, got, want any) error {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return fmt.Errorf("%s: %v, want %v", path, got, want)
		}
		for name, v := range w {
			if _, ok := g[name]; !ok {
				return fmt.Errorf("%s has no %s", path, name)
			}
			if changing[name] {
				if reflect.TypeOf(g[name]) != reflect.TypeOf(v) {
					return fmt.Errorf("%s.%s: %v, want something like %v", path, name, g[name], v)
				}
				continue
			}
			if err := sameJSON(path+"."+name, g[name], v); err != nil {
				return err
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Errorf("%s: %v, want %v", path, got, want)
		}
		for i := range w {
			if err := sameJSON(fmt.Sprintf("%s[%d]", path, i), g[i], w[i]); err != nil {
				return err
			}
		}
		return nil
	case float64:
		g, ok := got.(float64)
		if !ok || math.Abs(g-w) > goldenTolerance*math.Max(1, math.Abs(w)) {
			return fmt.Errorf("%s: %v, want %v", path, got, want)
		}
		return nil
	}
	if strings.HasSuffix(path, "data") || strings.HasSuffix(path, "embedding") { // floats in base64
		g, w := base64Floats(got), base64Floats(want)
		if len(g) > 0 && len(g) == len(w) {
			return sameJSON(path, g, w)
		}
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s: %v, want %v", path, got, want)
	}
	return nil
}

func base64Floats(v any) (out []any) {
	s, _ := v.(string)
	b, err := base64.StdEncoding.DecodeString(s)
	for ; err == nil && len(b) >= 4; b = b[4:] {
		out = append(out, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
	}
	return out
}

// goldenTolerance is what the order of float32 sums may change between processors; on
// one machine scores are equal to the bit, which other tests see to.
const goldenTolerance = 1e-4

// changing are fields that differ from answer to answer. An id that a client chose is
// compared where it matters.
var changing = map[string]bool{"id": true, "created": true, "e2e_latency": true, "tokenization_workers": true}

// A stage lets a test hold the forward pass.
type stage struct {
	Scorer
	entered chan int      // conversations of each batch
	leave   chan struct{} // a value lets one batch pass
}

func newStage(s Scorer) *stage {
	return &stage{s, make(chan int, 1000), make(chan struct{}, 1000)}
}

func (s *stage) Score(ctx context.Context, groups [][]tokenizer.Encoded) ([][]float64, error) {
	n := 0
	for _, g := range groups {
		n += len(g)
	}
	s.entered <- n
	<-s.leave
	return s.Scorer.Score(ctx, groups)
}

// staged serves the tiny model behind a stage.
func staged(t testing.TB, edit func(*Options)) (*Server, *stage) {
	t.Helper()
	_, m := openTiny(t)
	st := newStage(m.Scorer)
	m.Scorer = st
	s := newTestServer(t, func(o *Options) {
		o.Open = func() (*Model, error) { return m, nil }
		if edit != nil {
			edit(o)
		}
	})
	t.Cleanup(func() { close(st.leave) }) // before the server is closed
	return s, st
}

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func floatBytes(x []float32) []byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// waitFor gives other goroutines the time that they need for a condition.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for range 5000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it never happened")
}
