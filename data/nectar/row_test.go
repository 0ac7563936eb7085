package nectar

import (
	"reflect"
	"strings"
	"testing"

	"rmtrain/data/tokenizer"
)

const river = "\n\nHuman: Tell me of a river.\n\nAssistant: "

func user(s string) tokenizer.Message      { return tokenizer.Message{Role: "user", Content: s} }
func assistant(s string) tokenizer.Message { return tokenizer.Message{Role: "assistant", Content: s} }

func TestParseRowTakesEveryForm(t *testing.T) {
	transcripts := []Completion{{Prompt: river, Answer: "a", Rank: 2}, {Prompt: river, Answer: "b", Rank: 1}}
	conversations := func(better, worse string) []Completion {
		q := user("Tell me of a river.")
		return []Completion{
			{Form: Messages, Messages: []tokenizer.Message{q, assistant(better)}, Answer: better, Rank: 1},
			{Form: Messages, Messages: []tokenizer.Message{q, assistant(worse)}, Answer: worse, Rank: 2},
		}
	}
	pair := []Completion{{Prompt: river, Answer: "a", Rank: 1}, {Prompt: river, Answer: "b", Rank: 2}}
	quoted := `"\n\nHuman: Tell me of a river.\n\nAssistant: "`
	list := `[{"role": "user", "content": "Tell me of a river."}]`
	for name, c := range map[string]struct {
		row  string
		want []Completion
	}{
		"Nectar":                        {`{"prompt": ` + quoted + `, "answers": [{"answer": "a", "rank": 2, "model": null}, {"rank": 1.0, "answer": "b"}], "turns": "?"}`, transcripts},
		"answers beside ranks":          {`{"prompt": ` + quoted + `, "answers": ["a", "b"], "ranks": [2, 1]}`, transcripts},
		"a prompt of messages":          {`{"prompt": ` + list + `, "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 2}]}`, conversations("a", "b")},
		"a pair of strings":             {`{"prompt": ` + quoted + `, "chosen": "a", "rejected": "b"}`, pair},
		"whole transcripts":             {`{"chosen": "\n\nHuman: Tell me of a river.\n\nAssistant: a", "rejected": "\n\nHuman: Tell me of a river.\n\nAssistant:b"}`, pair},
		"messages after a prompt":       {`{"prompt": ` + list + `, "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}`, conversations("a", "b")},
		"messages after a transcript":   {`{"prompt": "\n\nHuman: Tell me of a river.", "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}`, conversations("a", "b")},
		"messages that repeat a prompt": {`{"prompt": "Tell me of a river.", "chosen": [{"role": "user", "content": "Tell me of a river."}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "Tell me of a river."}, {"role": "assistant", "content": "b"}]}`, conversations("a", "b")},
		"whole conversations":           {`{"prompt": null, "chosen": [{"role": "user", "content": "Tell me of a river."}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "Tell me of a river."}, {"role": "assistant", "content": "b"}]}`, conversations("a", "b")},
		"finished texts":                {`{"texts": ["Q: a", "Q: b"], "ranks": [2, 1]}`, []Completion{{Form: Text, Answer: "Q: a", Rank: 2}, {Form: Text, Answer: "Q: b", Rank: 1}}},
		"a pair of finished texts":      {`{"chosen": "Q: a", "rejected": "Q: b"}`, []Completion{{Form: Text, Answer: "Q: a", Rank: 1}, {Form: Text, Answer: "Q: b", Rank: 2}}},
		"a message of the user":         {`{"prompt": "Why?", "chosen": "a", "rejected": "b"}`, []Completion{{Prompt: "Why?", Answer: "a", Rank: 1}, {Prompt: "Why?", Answer: "b", Rank: 2}}},
		"an empty answer":               {`{"prompt": "Why?", "chosen": "a", "rejected": ""}`, []Completion{{Prompt: "Why?", Answer: "a", Rank: 1}, {Prompt: "Why?", Rank: 2}}},
	} {
		got, err := ParseRow([]byte(c.row))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(got.Completions, c.want) {
			t.Errorf("%s: %+v", name, got.Completions)
		}
	}
}

func TestParseRowTakesAMargin(t *testing.T) {
	r, err := ParseRow([]byte(`{"prompt": "Why?", "chosen": "a", "rejected": "b", "margin": 0.5}`))
	if err != nil || r.Margin != 0.5 {
		t.Errorf("margin %v, error %v", r, err)
	}
}

func TestParseRowSaysWhatIsWrong(t *testing.T) {
	for row, want := range map[string]string{
		``:                                    "not JSON",
		`{"prompt": NaN}`:                     "not JSON: invalid character 'N'",
		`[1]`:                                 "a JSON array instead of an object",
		`{}`:                                  "neither answers, nor chosen and rejected, nor texts",
		`{"prompt": "p"}`:                     "neither answers",
		`{"answers": [], "texts": []}`:        "more than one of",
		`{"answers": []}`:                     "prompt is missing",
		`{"prompt": 3, "answers": []}`:        "prompt is a number, not a string",
		`{"prompt": " \n", "answers": []}`:    "prompt is empty",
		`{"prompt": [], "answers": []}`:       "prompt is an empty list",
		`{"prompt": ["hi"], "answers": []}`:   "prompt[0] is a string, not an object",
		`{"prompt": [{}], "answers": []}`:     "prompt[0].role is missing",
		`{"prompt": "p", "answers": "x"}`:     "answers is a string, not a list",
		`{"prompt": "p", "answers": ["x"]}`:   "answers[0] is a string, and the row has no ranks",
		`{"prompt": "p", "answers": [{}]}`:    "answers[0].answer is missing",
		`{"texts": ["a", "b"]}`:               "texts without ranks",
		`{"texts": ["a", 1], "ranks":[1,2]}`:  "texts[1] is a number, not a string",
		`{"texts": ["a", "b"], "ranks": [1]}`: "1 ranks for 2 texts",
		`{"texts": ["a"], "ranks": [1]}`:      "1 of at least 2 answers",
		`{"chosen": "a"}`:                     "rejected is missing",
		`{"rejected": "a"}`:                   "chosen is missing",
		`{"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: b"}`:                                                              "chosen: a transcript without an answer",
		`{"chosen": "a", "rejected": "b", "margin": "1"}`:                                                                     `margin is "1", not a finite number`,
		`{"prompt": "p", "answers": [{"answer": "a"}]}`:                                                                       "answers[0].rank is missing",
		`{"prompt": "p", "answers": [{"answer": "a", "rank": true}]}`:                                                         "answers[0].rank is a truth value, not a number",
		`{"prompt": "p", "answers": [{"answer": "a", "rank": 1e999}]}`:                                                        "answers[0].rank is 1e999, not a finite number",
		`{"chosen": [{"role": "assistant", "content": "a"}], "rejected": []}`:                                                 "chosen has no message before the answer",
		`{"chosen": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "rejected": []}`:                    `chosen ends with a message of "user"`,
		`{"prompt": [{"role": "user", "content": "x"}], "chosen": [{"role": "user", "content": "a"}], "rejected": []}`:        "chosen neither begins with the prompt nor with an answer to it",
		`{"prompt": "\n\nAssistant: x", "chosen": [{"role": "assistant", "content": "a"}], "rejected": []}`:                   "prompt is no transcript",
		`{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"text": "b"}]}], "rejected": "no"}`: "chosen[1].content is a list, not a string",
	} {
		if _, err := ParseRow([]byte(row)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", row, err)
		}
	}
}

func TestTheSamePromptHasTheSameKeyInEveryForm(t *testing.T) {
	keyOf := func(row string) string {
		t.Helper()
		r, err := ParseRow([]byte(row))
		if err != nil {
			t.Fatal(err)
		}
		return r.Prompt.String()
	}
	want := keyOf(`{"prompt": "\n\nHuman: Why?\n\nAssistant: ", "answers": ["a", "b"], "ranks": [1, 2]}`)
	for _, row := range []string{
		`{"prompt": "Why?", "chosen": "c", "rejected": "d"}`,
		`{"prompt": [{"role": "user", "content": "Why?"}], "chosen": "c", "rejected": "d"}`,
		`{"chosen": "\n\nHuman: Why?\n\nAssistant: x", "rejected": "\n\nHuman: Why?\n\nAssistant: y"}`,
		`{"chosen": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "b"}]}`,
		`{"prompt": "Why?", "texts": ["a", "b"], "ranks": [1, 2]}`,
	} {
		if keyOf(row) != want {
			t.Errorf("%s has another key", row)
		}
	}
	if keyOf(`{"prompt": "Why not?", "chosen": "c", "rejected": "d"}`) == want {
		t.Error("another prompt has the same key")
	}
	if keyOf(`{"texts": ["Q1 a", "Q1 b"], "ranks": [1, 2]}`) != keyOf(`{"chosen": "Q1 c", "rejected": "Q1 d"}`) {
		t.Error("texts that begin the same have different keys")
	}
}

func TestKeepLeavesTheBestTheWorstAndEvenSteps(t *testing.T) {
	for _, c := range []struct {
		ranks []float64
		n     int
		want  []float64
	}{
		{[]float64{4, 2, 7, 1, 3, 6, 5}, 0, []float64{4, 2, 7, 1, 3, 6, 5}},
		{[]float64{4, 2, 7, 1, 3, 6, 5}, 9, []float64{4, 2, 7, 1, 3, 6, 5}},
		{[]float64{4, 2, 7, 1, 3, 6, 5}, 2, []float64{7, 1}},
		{[]float64{4, 2, 7, 1, 3, 6, 5}, 3, []float64{4, 7, 1}},
		{[]float64{4, 2, 7, 1, 3, 6, 5}, 4, []float64{7, 1, 3, 5}},
		{[]float64{1, 1, 1}, 2, []float64{1, 1}},
	} {
		r := &Ranking{}
		for _, rank := range c.ranks {
			r.Completions = append(r.Completions, Completion{Rank: rank})
		}
		r.keep(c.n)
		var got []float64
		for _, k := range r.Completions {
			got = append(got, k.Rank)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v of %v: %v instead of %v", c.n, c.ranks, got, c.want)
		}
	}
}

func FuzzParseRow(f *testing.F) {
	f.Add([]byte(`{"prompt": "\n\nHuman: a\n\nAssistant: ", "answers": [{"answer": "a", "rank": 2}, {"rank": 1.0, "answer": "b"}]}`))
	f.Add([]byte(`{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c", "margin": -1}`))
	f.Add([]byte(`{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "c"}], "rejected": "d"}`))
	f.Add([]byte(`{"texts": ["a", "b"], "ranks": [1, 2]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRow(line)
		if err != nil {
			return
		}
		if len(r.Completions) < 2 {
			t.Errorf("%d completions", len(r.Completions))
		}
		for _, c := range r.Completions {
			if c.Form == Messages && (len(c.Messages) == 0 || c.Messages[len(c.Messages)-1].Content != c.Answer) {
				t.Errorf("completion %+v", c)
			}
		}
	})
}
