package serve

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

// posts are the paths that take a body.
func posts() []string {
	var out []string
	for _, rt := range routes() {
		if method, path, _ := strings.Cut(rt.pattern, " "); method == "POST" && !strings.HasPrefix(path, "/admin") {
			out = append(out, strings.NewReplacer("{model}", "tiny", "{version}", "1", "{$}", "").Replace(path))
		}
	}
	return out
}

// checkAnswer holds for any body: the answer is JSON, and the fault is never the server's.
func checkAnswer(t *testing.T, path, body string, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code >= 500 || w.Code == http.StatusFailedDependency {
		t.Fatalf("%s: status %d to %q: %s", path, w.Code, body, w.Body)
	}
	doc := w.Body.Bytes()
	if n := w.Header().Get("Inference-Header-Content-Length"); n != "" {
		doc = doc[:atoi(t, n)]
	}
	if !json.Valid(doc) {
		t.Fatalf("%s: the answer to %q is not JSON: %s", path, body, w.Body)
	}
}

func FuzzBodies(f *testing.F) {
	for i, g := range fuzzSeeds() {
		f.Add(uint8(i), g.Body, "")
	}
	f.Add(uint8(0), `{"inputs":[{"name":"tokens","datatype":"INT32","shape":[1,1],"parameters":{"binary_data_size":4}}]}1234`, "94")
	s := newTestServer(f, func(o *Options) { o.Limits.RequestTime = 10 * time.Second }) // a hang is a failure
	paths := posts()
	f.Fuzz(func(t *testing.T, at uint8, body, header string) {
		path := paths[int(at)%len(paths)]
		checkAnswer(t, path, body, ask(s, "POST", path, body, "Inference-Header-Content-Length", header))
	})
}

// fuzzSeeds are bodies of every dialect.
func fuzzSeeds() []golden {
	var out []golden
	for _, w := range ways {
		out = append(out, golden{Body: strings.ReplaceAll(w.body, "%s", `["a","b"]`)})
	}
	for _, body := range []string{
		`{"query":"a","documents":["b",{"text":"c"}],"top_n":1}`, `{"queries":["a"],"documents":"b"}`, `{"inputs":[["a"],["b","c"]]}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":"b"}]}`,
		`{"input_ids":[[1],[2]]}`, `{"prompt":"a","answers":["b"]}`, `{"query":"a","texts":["b"],"return_text":true}`,
	} {
		out = append(out, golden{Body: body})
	}
	return out
}

// A hundred bodies of every kind of brokenness, to every path.
func TestMalformedBodiesGetClearAnswers(t *testing.T) {
	s := newTestServer(t, nil)
	random := rand.New(rand.NewPCG(8, 9))
	values := []string{"null", "true", "-1", "0", "1e400", "1.5", "99999999999999999999", `""`, `"a"`, `"\ud800"`, "[]", "[[]]", "[null]", "[[null]]", "[1,\"a\"]", "[[1],[]]", "{}", `{"a":{}}`, `[{"role":1}]`, `[{"role":"assistant"}]`, `[{"role":"assistant","content":[]}]`, strings.Repeat("[", 20000), strings.Repeat(`{"a":`, 20000)}
	fields := []string{"input", "messages", "text", "input_ids", "query", "queries", "documents", "texts", "inputs", "prompt", "answers", "outputs", "parameters", "truncate_prompt_tokens", "truncation_side", "top_n", "model", "max_length", "id", "encoding_format", "raw_scores", "truncate"}
	kinds := map[string]func() string{
		"no JSON": func() string {
			b := make([]byte, random.IntN(40))
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			return string(b)
		},
		"cut off": func() string {
			g := fuzzSeeds()[random.IntN(len(fuzzSeeds()))].Body
			return g[:random.IntN(len(g))]
		},
		"one field of a wrong kind": func() string {
			return `{"` + fields[random.IntN(len(fields))] + `":` + values[random.IntN(len(values))] + `}`
		},
		"fields of wrong kinds": func() string {
			var parts []string
			for range 1 + random.IntN(5) {
				parts = append(parts, `"`+fields[random.IntN(len(fields))]+`":`+values[random.IntN(len(values))])
			}
			return "{" + strings.Join(parts, ",") + "}"
		},
		"a changed byte": func() string {
			b := []byte(fuzzSeeds()[random.IntN(len(fuzzSeeds()))].Body)
			b[random.IntN(len(b))] = byte(random.Uint32())
			return string(b)
		},
		"no object": func() string { return values[random.IntN(len(values)-2)] },
	}
	for name, body := range kinds {
		t.Run(name, func(t *testing.T) {
			for range 100 {
				b := body()
				for _, path := range posts() {
					checkAnswer(t, path, b, ask(s, "POST", path, b))
				}
			}
		})
	}
	if got, code := rewards(s, "a"); code != 200 || len(got) != 1 {
		t.Errorf("afterwards: status %d, rewards %v", code, got)
	}
}

func FuzzKServeBinary(f *testing.F) {
	f.Add([]byte("\x05\x00\x00\x00hello"), "BYTES", 1, 9)
	f.Add([]byte("\xff\xff\xff\xff"), "BYTES", 1, 4)
	f.Add(make([]byte, 16), "INT64", 2, 16)
	f.Add(make([]byte, 7), "INT32", 1, -7)
	s := newTestServer(f, func(o *Options) { o.Limits.RequestTime = 10 * time.Second }) // a hang is a failure
	f.Fuzz(func(t *testing.T, blob []byte, datatype string, rows, size int) {
		about, err := json.Marshal(map[string]any{"inputs": []any{map[string]any{
			"name": "sentences", "datatype": datatype, "shape": []int{rows, 1}, "parameters": map[string]int{"binary_data_size": size},
		}}})
		if err != nil {
			t.Skip()
		}
		body := string(about) + string(blob)
		checkAnswer(t, "infer", body, ask(s, "POST", "/v2/models/tiny/infer", body, "Inference-Header-Content-Length", strconv.Itoa(len(about))))
	})
}
