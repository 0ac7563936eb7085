package infer

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rmtrain/data/tokenizer"
	"rmtrain/kernels"
)

func TestParseRequestReadsEveryForm(t *testing.T) {
	text, prompt := "a\u0000<b>", "\n\nHuman: q\n\nAssistant: "
	user := tokenizer.Message{Role: "user", Content: "q"}
	for _, c := range []struct {
		line string
		want Request
	}{
		{`{"text": "a\u0000<b>"}`, Request{Text: &text}},
		{`  {"id": {"text": 1}, "text": "a\u0000<b>", "Text": 5} `, Request{Text: &text}},
		{`{"text": "a\u0000<b>", "messages": null, "prompt": null, "answers": null, "input_ids": null}`, Request{Text: &text}},
		{`{"messages": [{"role": "user", "content": "q", "weight": 1, "tool_calls": null}]}`, Request{Messages: []tokenizer.Message{user}}},
		{`{"input_ids": [0, 7, 2147483647]}`, Request{InputIDs: []int32{0, 7, 2147483647}}},
		{`{"prompt": "\n\nHuman: q\n\nAssistant: ", "answers": ["", "b"]}`, Request{Prompt: &prompt, Answers: []string{"", "b"}}},
		{`{"answers": ["b"], "prompt": [{"content": "q", "role": "user"}]}`, Request{PromptMessages: []tokenizer.Message{user}, Answers: []string{"b"}}},
	} {
		got, err := ParseRequest([]byte(c.line))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.line, got, err, c.want)
		}
	}
}

func TestParseRequestRefuses(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{``, "not a JSON object"},
		{`{`, "not a JSON object: unexpected end"},
		{`{"text": "a"} {}`, "not a JSON object: invalid character"},
		{`{"text": "a"`, "unexpected end"},
		{`{'text': 'a'}`, "invalid character"},
		{"{\"text\": \"a\x00\"}", "invalid character"},
		{"{\"text\": \"a\tb\"}", "invalid character"},
		{`{"text": NaN}`, "invalid character"},
		{strings.Repeat("[", 20000), "exceeded max depth"},
		{`{"x": ` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `, "text": "a"}`, "exceeded max depth"},
		{`[{"text": "a"}]`, "a list, not a JSON object"},
		{`"a"`, "a string, not a JSON object"},
		{`17`, "a number, not a JSON object"},
		{`null`, "null, not a JSON object"},
		{`true`, "a truth value, not a JSON object"},
		{`{}`, "nothing to score"},
		{`{"Text": "a"}`, "nothing to score"},
		{`{"text": null}`, "nothing to score"},
		{`{"text": 5}`, "text is a number, not a string"},
		{`{"text": ["a"]}`, "text is a list, not a string"},
		{`{"text": "a", "text": "b"}`, `"text" occurs twice`},
		{`{"text": "a", "te\u0078t": "b"}`, `"text" occurs twice`},
		{`{"text": "a", "messages": [{"role": "user", "content": "a"}]}`, "text and messages at once"},
		{`{"text": "a", "prompt": "b", "answers": ["c"], "input_ids": [1]}`, "text and prompt and input_ids at once"},
		{`{"text": "a", "answers": ["b"]}`, "answers belong to prompt, not to text"},
		{`{"answers": ["b"]}`, "answers without prompt"},
		{`{"prompt": "a"}`, "prompt without answers"},
		{`{"prompt": "a", "answers": []}`, "prompt without answers"},
		{`{"prompt": "a", "answers": "b"}`, "answers is a string, not a list"},
		{`{"prompt": "a", "answers": ["b", 5]}`, "answers[1] is a number, not a string"},
		{`{"prompt": "a", "answers": [null]}`, "answers[0] is null, not a string"},
		{`{"prompt": "a", "answers": [{"answer": "b", "rank": 1}]}`, "answers[0] is an object, not a string"},
		{`{"prompt": " \n", "answers": ["b"]}`, "prompt is empty"},
		{`{"prompt": [], "answers": ["b"]}`, "prompt is an empty list"},
		{`{"prompt": {"role": "user"}, "answers": ["b"]}`, "prompt is an object, not a string or a list"},
		{`{"prompt": [{"role": "assistant", "content": "a"}], "answers": ["b"]}`, "prompt ends with a message of the assistant's"},
		{`{"messages": "a"}`, "messages is a string, not a list"},
		{`{"messages": []}`, "messages is an empty list"},
		{`{"messages": ["a"]}`, "messages[0] is a string, not an object"},
		{`{"messages": [null]}`, "messages[0] is null, not an object"},
		{`{"messages": [{"role": "user"}]}`, "messages[0] has no content"},
		{`{"messages": [{"content": "a"}]}`, "messages[0] has no role"},
		{`{"messages": [{"role": "user", "content": null}]}`, "messages[0].content is null, not a string"},
		{`{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}`, "messages[0].content is a list, not a string"},
		{`{"messages": [{"role": 1, "content": "a"}]}`, "messages[0].role is a number, not a string"},
		{`{"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": 1}]}]}`, "messages[0].tool_calls is not supported"},
		{`{"input_ids": 5}`, "input_ids is a number, not a list"},
		{`{"input_ids": []}`, "input_ids is an empty list"},
		{`{"input_ids": [1.5]}`, "input_ids holds number 1.5"},
		{`{"input_ids": [1.0]}`, "input_ids holds number 1.0"},
		{`{"input_ids": [1e3]}`, "input_ids holds number 1e3"},
		{`{"input_ids": [2147483648]}`, "input_ids holds number 2147483648"},
		{`{"input_ids": [[1, 2]]}`, "input_ids holds array"},
		{`{"input_ids": ["1"]}`, "input_ids holds string"},
		{`{"input_ids": [1, null]}`, "input_ids has a null"},
		{`{"input_ids": [true]}`, "input_ids holds bool"},
	} {
		if _, err := ParseRequest([]byte(c.line)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: error %v, want one with %q", c.line, err, c.want)
		}
	}
}

func TestInvalidUTF8CountsAsReplacementCharacters(t *testing.T) {
	r, err := ParseRequest([]byte("{\"text\": \"a\xffb\\ud800\"}"))
	if err != nil || *r.Text != "a\uFFFDb\uFFFD" {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		`{"text": "a"}`, `{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}`,
		`{"prompt": "\n\nHuman: q\n\nAssistant: ", "answers": ["a", "b"]}`, `{"prompt": [{"role": "user", "content": ""}], "answers": [""]}`,
		`{"input_ids": [1, 2], "id": {"a": [null, 1e9]}}`, `{"text": null, "text": "\ud800"}`, `[]`, "\xef\xbb\xbf{}", `{"answers": [null]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRequest(line)
		if err != nil {
			if !reflect.DeepEqual(r, Request{}) {
				t.Fatalf("%q: %+v beside an error", line, r)
			}
			return
		}
		if !json.Valid(line) {
			t.Fatalf("%q is no JSON", line)
		}
		forms := 0
		for _, set := range []bool{r.Text != nil, len(r.Messages) > 0, len(r.InputIDs) > 0, r.Prompt != nil, len(r.PromptMessages) > 0} {
			if set {
				forms++
			}
		}
		if forms != 1 || r.Many() != (len(r.Answers) > 0) {
			t.Fatalf("%q: %+v", line, r)
		}
	})
}

func TestAScorerWithoutWeightsEncodesAlone(t *testing.T) {
	whole := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	s, err := Open("testdata/huggingface", Options{EncodeOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	text := "How are you?"
	want, err := whole.Encode(Request{Text: &text})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Encode(Request{Text: &text})
	if err != nil || !slices.Equal(got[0].IDs, want[0].IDs) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if _, err := s.Score(t.Context(), [][]tokenizer.Encoded{got}); err == nil || !strings.Contains(err.Error(), "without its weights") {
		t.Errorf("it scored: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open("testdata/huggingface", Options{EncodeOnly: true, MaxLength: 1 << 20}); err == nil {
		t.Error("a length that the model does not have is taken")
	}
}
