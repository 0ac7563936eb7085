package serve

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/golden.json anew")

// A golden is a request and its answer.
type golden struct {
	Name         string            `json:"name,omitempty"`
	Client       string            `json:"client,omitempty"`
	Method       string            `json:"method"`
	Path         string            `json:"path"`
	Headers      map[string]string `json:"headers,omitempty"`
	Body         string            `json:"body,omitempty"`
	BodyBase64   []byte            `json:"body_base64,omitempty"`
	Status       int               `json:"status"`
	Answer       string            `json:"answer,omitempty"`
	AnswerBase64 []byte            `json:"answer_base64,omitempty"`
}

func readGoldens(t *testing.T, name string) []golden {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var gs []golden
	if err := json.Unmarshal(b, &gs); err != nil {
		t.Fatal(err)
	}
	if len(gs) == 0 {
		t.Fatalf("%s is empty", name)
	}
	return gs
}

func (g golden) ask(s *Server) *httptest.ResponseRecorder {
	body := g.Body
	if g.BodyBase64 != nil {
		body = string(g.BodyBase64)
	}
	var header []string
	for k, v := range g.Headers {
		header = append(header, k, v)
	}
	return ask(s, g.Method, g.Path, body, header...)
}

// check compares an answer with the recorded one.
func (g golden) check(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != g.Status {
		t.Fatalf("status %d, want %d: %s", w.Code, g.Status, w.Body)
	}
	if g.AnswerBase64 != nil {
		if n := w.Header().Get("Inference-Header-Content-Length"); n == "" || w.Body.Len() != len(g.AnswerBase64) {
			t.Fatalf("%d bytes with a header of %s, want %d", w.Body.Len(), n, len(g.AnswerBase64))
		}
		return
	}
	var got, want any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil && w.Body.Len() > 0 {
		t.Fatalf("the answer is not JSON: %v", err)
	}
	if err := json.Unmarshal([]byte(g.Answer), &want); err != nil && g.Answer != "" {
		t.Fatal(err)
	}
	if err := sameJSON("", got, want); err != nil {
		t.Error(err)
	}
}

// The goldens of every dialect, and of what each says to mistakes: to write them anew,
// go test ./infer/serve -run Dialects -update, and read the difference.
func TestDialectsKeepTheirShapes(t *testing.T) {
	s := newTestServer(t, nil)
	gs := readGoldens(t, "golden.json")
	for i, g := range gs {
		t.Run(g.Name, func(t *testing.T) {
			w := g.ask(s)
			if *update {
				gs[i].Status, gs[i].Answer = w.Code, strings.TrimSpace(w.Body.String())
				return
			}
			g.check(t, w)
		})
	}
	if *update {
		b, err := json.MarshalIndent(gs, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/golden.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// What real clients sent, as testdata/clients.py recorded it, gets what they understood.
func TestRealClients(t *testing.T) {
	s := newTestServer(t, nil)
	seen := map[string]bool{}
	for _, g := range readGoldens(t, "clients.json") {
		name, _, _ := strings.Cut(g.Client, " ")
		seen[name] = true
		t.Run(g.Client+g.Path, func(t *testing.T) { g.check(t, g.ask(s)) })
	}
	for _, want := range []string{"openai", "cohere", "huggingface_hub", "tritonclient", "aiohttp"} {
		if !seen[want] {
			t.Errorf("nothing of %s was recorded", want)
		}
	}
}

// The other way to give and get tensors has the same numbers.
func TestKServeBinaryEqualsJSON(t *testing.T) {
	s := newTestServer(t, nil)
	if w := ask(s, "POST", "/v2/models/tiny/infer", `{"id":"mine","inputs":[{"name":"sentences","datatype":"BYTES","shape":[1],"data":["x"]}]}`); !strings.Contains(w.Body.String(), `"id":"mine"`) {
		t.Errorf("a request's id is lost: %s", w.Body)
	}
	blob := "\x05\x00\x00\x00hello\x01\x00\x00\x00x"
	head := `{"inputs":[{"name":"sentences","datatype":"BYTES","shape":[2,1],"parameters":{"binary_data_size":14}}]}`
	w := ask(s, "POST", "/v2/models/tiny/infer", head+blob, "Inference-Header-Content-Length", itoa(len(head)))
	plain := ask(s, "POST", "/v2/models/tiny/infer", `{"inputs":[{"name":"sentences","datatype":"BYTES","shape":[2,1],"data":["hello","x"]}]}`)
	if w.Code != 200 || w.Body.String() != plain.Body.String() {
		t.Errorf("binary gives %d %s, JSON %s", w.Code, w.Body, plain.Body)
	}
	var rewards struct{ Outputs []struct{ Data []float32 } }
	if err := json.Unmarshal(plain.Body.Bytes(), &rewards); err != nil {
		t.Fatal(err)
	}
	out := ask(s, "POST", "/v2/models/tiny/infer", `{"parameters":{"binary_data_output":true},"inputs":[{"name":"sentences","datatype":"BYTES","shape":[2,1],"data":[["hello"],["x"]]}]}`)
	n := atoi(t, out.Header().Get("Inference-Header-Content-Length"))
	if got, want := out.Body.Bytes()[n:], floatBytes(rewards.Outputs[0].Data); string(got) != string(want) {
		t.Errorf("binary rewards %s, want %s", base64.StdEncoding.EncodeToString(got), base64.StdEncoding.EncodeToString(want))
	}
}
