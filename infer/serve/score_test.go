package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"rmtrain/data/tokenizer"
	"rmtrain/infer"
)

// chatter returns texts that share beginnings, some of them too long for the model.
func chatter(random *rand.Rand, n int) []string {
	words := strings.Fields("How are you today my friend I am well and the weather is fine <|im_end|> so be it é 漢")
	out := make([]string, n)
	for i := range out {
		text := []string{"<|im_start|>user\nHow are you?<|im_end|>\n", "<|im_start|>user\n", ""}[random.IntN(3)]
		for range 1 + random.IntN(12) {
			text += words[random.IntN(len(words))] + " "
		}
		out[i] = text
	}
	return out
}

// infersays asks `rmtrain infer` for the score of each text, as it is written in JSON.
func inferSays(t testing.TB, s *infer.Scorer, texts []string) []string {
	t.Helper()
	var in, out bytes.Buffer
	for _, text := range texts {
		line, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	if _, err := s.ScoreLines(context.Background(), &in, &out, infer.LineOptions{}); err != nil {
		t.Fatal(err)
	}
	var scores []string
	for d := json.NewDecoder(&out); d.More(); {
		var l struct{ Score json.RawMessage }
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		scores = append(scores, string(l.Score))
	}
	return scores
}

// ways are requests for rewards of texts, and where each dialect puts them.
var ways = []struct {
	path, body string // %s is the list of texts
	read       func(answer []byte) ([]json.RawMessage, error)
}{
	{"/get_reward", `{"query":%s}`, func(b []byte) ([]json.RawMessage, error) {
		var a struct{ Rewards []json.RawMessage }
		return a.Rewards, json.Unmarshal(b, &a)
	}},
	{"/v1/score/evaluation", `{"model":"m","messages":%s}`, func(b []byte) ([]json.RawMessage, error) {
		var a struct{ Scores []json.RawMessage }
		return a.Scores, json.Unmarshal(b, &a)
	}},
	{"/classify", `{"input":%s}`, func(b []byte) (out []json.RawMessage, err error) {
		var a struct {
			Data []struct{ Probs []json.RawMessage }
		}
		err = json.Unmarshal(b, &a)
		for _, d := range a.Data {
			out = append(out, d.Probs...)
		}
		return out, err
	}},
	{"/pooling", `{"input":%s}`, func(b []byte) (out []json.RawMessage, err error) {
		var a struct {
			Data []struct{ Data []json.RawMessage }
		}
		err = json.Unmarshal(b, &a)
		for _, d := range a.Data {
			out = append(out, d.Data...)
		}
		return out, err
	}},
	{"/classify", `{"text":%s}`, func(b []byte) (out []json.RawMessage, err error) {
		var a []struct{ Embedding []json.RawMessage }
		err = json.Unmarshal(b, &a)
		for _, d := range a {
			out = append(out, d.Embedding...)
		}
		return out, err
	}},
	{"/v2/models/tiny/infer", `{"inputs":[{"name":"sentences","datatype":"BYTES","shape":[5],"data":%s}]}`, func(b []byte) ([]json.RawMessage, error) {
		var a struct {
			Outputs []struct{ Data []json.RawMessage }
		}
		err := json.Unmarshal(b, &a)
		if err != nil || len(a.Outputs) != 1 {
			return nil, errors.Join(err, errors.New("not one output"))
		}
		return a.Outputs[0].Data, nil
	}},
}

// Whatever the dialect, the client and the company, a text has the score that
// `rmtrain infer` gives it, to the last digit.
func TestScoresEqualInferWhateverTheNeighbours(t *testing.T) {
	alone, m := openTiny(t)
	defer m.Close()
	for _, budget := range []int{16, 100, 4096} {
		s := newTestServer(t, func(o *Options) { o.Limits.BatchTokens = budget })
		var wg sync.WaitGroup
		for client := range 16 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(client), uint64(budget)))
				for range 6 {
					texts := chatter(random, 5)
					want := inferSays(t, alone, texts)
					list, err := json.Marshal(texts)
					if err != nil {
						t.Error(err)
						return
					}
					way := ways[random.IntN(len(ways))]
					w := ask(s, "POST", way.path, fmt.Sprintf(way.body, list))
					got, err := way.read(w.Body.Bytes())
					if err != nil || fmt.Sprintf("%s", got) != fmt.Sprintf("%s", want) {
						t.Errorf("%s: status %d, %v: scores %s, want %s", way.path, w.Code, err, got, want)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// A batch is what waits, up to the budget, and conversations that begin alike are one group.
func TestBatchesGatherWhileTheModelWorks(t *testing.T) {
	s, st := staged(t, nil)
	var wg sync.WaitGroup
	send := func(text string) {
		wg.Go(func() {
			if got, code := rewards(s, text); code != 200 || len(got) != 1 {
				t.Errorf("status %d, rewards %v", code, got)
			}
		})
	}
	send("first")
	if n := <-st.entered; n != 1 {
		t.Fatalf("the first batch has %d conversations", n)
	}
	for i := range 7 {
		send(fmt.Sprint(rendered, i))
	}
	waitFor(t, func() bool { n, _ := s.engine.queue.waiting(); return n == 7 })
	st.leave <- struct{}{}
	if n := <-st.entered; n != 7 {
		t.Errorf("the second batch has %d conversations, want the 7 that waited", n)
	}
	st.leave <- struct{}{}
	wg.Wait()
	text := ask(s, "GET", "/metrics", "").Body.String()
	for _, want := range []string{"rmtrain_inputs_total 8\n", "rmtrain_batch_inputs_count 2\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
}

// A poisoned conversation fails alone.
func TestOneFailureDoesNotSpread(t *testing.T) {
	_, m := openTiny(t)
	poison, err := m.Encoder.Text("poison")
	if err != nil {
		t.Fatal(err)
	}
	st := newStage(&poisoned{m.Scorer, poison.IDs})
	m.Scorer = st
	s := newTestServer(t, func(o *Options) { o.Open = func() (*Model, error) { return m, nil } })
	var wg sync.WaitGroup
	wg.Go(func() { rewards(s, "first") })
	<-st.entered
	for _, text := range []string{"good", "poison", "better"} {
		wg.Go(func() {
			_, code := rewards(s, text)
			if want := map[bool]int{true: 500, false: 200}[text == "poison"]; code != want {
				t.Errorf("%s: status %d, want %d", text, code, want)
			}
		})
	}
	waitFor(t, func() bool { n, _ := s.engine.queue.waiting(); return n == 3 })
	close(st.leave)
	wg.Wait()
}

type poisoned struct {
	Scorer
	ids []int32
}

func (p *poisoned) Score(ctx context.Context, groups [][]tokenizer.Encoded) ([][]float64, error) {
	for _, g := range groups {
		for _, c := range g {
			if fmt.Sprint(c.IDs) == fmt.Sprint(p.ids) {
				panic("poison")
			}
		}
	}
	return p.Scorer.Score(ctx, groups)
}

func TestScoresThatAreNoNumbersAreRefused(t *testing.T) {
	_, m := openTiny(t)
	m.Scorer = constant(math.NaN())
	s := newTestServer(t, func(o *Options) { o.Open = func() (*Model, error) { return m, nil } })
	w := ask(s, "POST", "/predict", `{"inputs":"a"}`)
	if w.Code != 424 || !strings.Contains(w.Body.String(), "not a finite number") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// constant is a model that always says the same.
type constant float64

func (c constant) Score(_ context.Context, groups [][]tokenizer.Encoded) ([][]float64, error) {
	out := make([][]float64, len(groups))
	for i, g := range groups {
		for range g {
			out[i] = append(out[i], float64(c))
		}
	}
	return out, nil
}

func TestRecentTextsAreNotEncodedAgain(t *testing.T) {
	s := newTestServer(t, nil)
	first, _ := rewards(s, rendered, "other", rendered)
	second, _ := rewards(s, rendered)
	if first[0] != second[0] || first[0] != first[2] {
		t.Errorf("rewards %v and %v", first, second)
	}
	text := ask(s, "GET", "/metrics", "").Body.String()
	for _, want := range []string{`rmtrain_cached_texts_total{result="hit"} 2`, `rmtrain_cached_texts_total{result="miss"} 2`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("/metrics lacks %q", want)
		}
	}
}

func TestCacheIsBoundedAndForgetsTheOldest(t *testing.T) {
	c := newCache(10 * (cachedOverhead + 10))
	for i := range 100 {
		c.put(cacheKey{byte(i)}, tokenizer.Encoded{IDs: make([]int32, 10)})
		if _, ok := c.get(cacheKey{0}); !ok { // in use all the time
			t.Fatalf("what is asked for is forgotten after %d others", i)
		}
		if c.ids > c.most || len(c.at) != c.recent.Len() {
			t.Fatalf("%d ids of at most %d; %d keys, %d entries", c.ids, c.most, len(c.at), c.recent.Len())
		}
	}
	if _, ok := c.get(cacheKey{1}); ok {
		t.Error("the oldest is still there")
	}
	if _, ok := c.get(cacheKey{99}); !ok {
		t.Error("the latest is not there")
	}
	c.put(cacheKey{200}, tokenizer.Encoded{IDs: make([]int32, c.most)})
	if _, ok := c.get(cacheKey{200}); ok || len(c.at) < 9 {
		t.Error("one conversation drives out all others")
	}
}

// What differs in how it is to be encoded is never mixed up.
func TestKeysTellInputsApart(t *testing.T) {
	p, yes, no := "a", true, false
	ms := func(parts ...string) input {
		var in input
		for i := 0; i < len(parts); i += 2 {
			in.messages = append(in.messages, tokenizer.Message{Role: parts[i], Content: parts[i+1]})
		}
		return in
	}
	with := func(in input, specials *bool) input { in.specials = specials; return in }
	ins := []input{
		textInput("a"), textInput("ab"), with(textInput("a"), &yes), with(textInput("a"), &no),
		{prompt: &p, answer: "b"}, {prompt: &p, answer: ""}, ms("a", "b"), ms("ab", ""), ms("", "ab"), ms("a", "b", "a", "b"), ms("a", "ba", "", "b"),
	}
	formats := []tokenizer.Format{{MaxLength: 1, TruncationSide: "left"}, {MaxLength: 11, TruncationSide: "left"}, {MaxLength: 1, TruncationSide: "right"}}
	seen := map[cacheKey]string{}
	for i, in := range ins {
		for j, f := range formats {
			name := fmt.Sprint(i, " ", j)
			if other, ok := seen[in.key(f)]; ok {
				t.Errorf("%s and %s have the same key", name, other)
			}
			seen[in.key(f)] = name
		}
	}
}

// encoding/json takes a null for 0 or an empty text, which would have a score.
func TestANullAmongInputsIsRefused(t *testing.T) {
	s := newTestServer(t, nil)
	for _, c := range []struct{ path, body string }{
		{"/classify", `{"input":[null]}`},
		{"/classify", `{"input":[1,null]}`},
		{"/classify", `{"input":[[1],[2,null]]}`},
		{"/classify", `{"input":["a",null]}`},
		{"/classify", `{"input_ids":[1,null]}`},
		{"/classify", `{"input_ids":[[null]]}`},
		{"/classify", `{"text":["a",null]}`},
		{"/infer", `{"input_ids":[1,null]}`},
		{"/infer", `{"prompt":"q","answers":["a",null]}`},
		{"/get_reward", `{"query":["a",null]}`},
		{"/v1/score/evaluation", `{"model":"m","messages":["a",null]}`},
		{"/rerank", `{"query":"q","documents":["a",null]}`},
		{"/rerank", `{"query":"q","texts":["a",null]}`},
		{"/score", `{"queries":"q","documents":["a",null]}`},
		{"/predict", `{"inputs":["q",null]}`},
		{"/predict", `{"inputs":[["q","a"],["q",null]]}`},
		{"/predict", `{"inputs":[["q","a"],null]}`},
		{"/v2/models/tiny/infer", `{"inputs":[{"name":"sentences","datatype":"BYTES","shape":[2,1],"data":["a",null]}]}`},
		{"/v2/models/tiny/infer", `{"inputs":[{"name":"sentences","datatype":"BYTES","shape":[2,1],"data":[["a"],[null]]}]}`},
		{"/v2/models/tiny/infer", `{"inputs":[{"name":"tokens","datatype":"INT64","shape":[1,2],"data":[1,null]},{"name":"sequence_lengths","datatype":"INT64","shape":[1,1],"data":[2]}]}`},
		{"/tokenize", `{"inputs":["a",null]}`},
	} {
		w := ask(s, "POST", c.path, c.body)
		if w.Code != 400 && w.Code != 422 {
			t.Errorf("%s %s: status %d, %s", c.path, c.body, w.Code, w.Body)
		}
	}
	// A text that says null is none.
	if _, status := rewards(s, "null"); status != 200 {
		t.Errorf("the text null: status %d", status)
	}
}

// What a template would write into the text, or the text of a message that is no text,
// must not be left out in silence.
func TestWhatWouldChangeTheTextIsRefused(t *testing.T) {
	s := newTestServer(t, nil)
	const answer = `{"role":"user","content":"q"},{"role":"assistant","content":"a"`
	for _, c := range []struct {
		body string
		says string // nothing if the request is right
	}{
		{`{"messages":[` + answer + `}]}`, ""},
		{`{"messages":[` + answer + `,"tool_calls":[]}],"tools":null,"documents":[],"chat_template_kwargs":{}}`, ""},
		{`{"messages":[` + answer + `,"tool_calls":[{"id":"1"}]}]}`, "messages[1].tool_calls"},
		{`{"messages":[` + answer + `}],"tools":[{"type":"function"}]}`, "tools would change the text"},
		{`{"messages":[` + answer + `}],"documents":[{"text":"d"}]}`, "documents would change the text"},
		{`{"messages":[` + answer + `}],"chat_template_kwargs":{"thinking":true}}`, "chat_template_kwargs would change the text"},
		{`{"messages":[` + answer + `}],"chat_template":"{{ messages }}"}`, "chat_template would change the text"},
		{`{"messages":[` + answer + `}],"add_generation_prompt":true}`, "add_generation_prompt would change the text"},
	} {
		for _, path := range []string{"/classify", "/pooling"} {
			w := ask(s, "POST", path, c.body)
			if c.says == "" && w.Code != 200 || c.says != "" && (w.Code != 400 || !strings.Contains(w.Body.String(), c.says)) {
				t.Errorf("%s %s: status %d, %s", path, c.body, w.Code, w.Body)
			}
		}
	}
}

func TestErrorsNameTheirField(t *testing.T) {
	s := newTestServer(t, nil)
	for _, c := range []struct{ path, body, says string }{
		{"/get_reward", `{"query":5}`, `"query: a text or a list of texts is wanted, not a number"`},
		{"/v1/score/evaluation", `{"messages":[1]}`, `"messages: a text or a list of texts is wanted`},
		{"/rerank", `{"query":"q","documents":[5]}`, `"documents: a document is a text`},
		{"/rerank", `{"query":{},"documents":["a"]}`, `"query: a document is a text`},
		{"/classify", `{"input":5}`, `"message":"input: a text`},
		{"/classify", `{"input":5}`, `"param":"input"`},
		{"/classify", `{"text":{}}`, `"text: a text or a list of texts is wanted`},
		{"/classify", `{"input_ids":[null]}`, `"input_ids: there is a null among the token ids"`},
		{"/classify", `{"messages":[{"content":"a"}]}`, `"message":"messages[0] has no role"`},
		{"/predict", `{"inputs":5}`, `"error":"inputs: a text, a pair`},
		{"/classify", `{"input":"a","model":5}`, `"message":"model: a text is wanted, not number"`},
		{"/classify", `{"input"`, `"message":"the body is not JSON`},
	} {
		if w := ask(s, "POST", c.path, c.body); w.Code < 400 || w.Code >= 500 || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %s: status %d, %s, want %s", c.path, c.body, w.Code, w.Body, c.says)
		}
	}
}
