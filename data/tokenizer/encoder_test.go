package tokenizer

import (
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestScorePositions(t *testing.T) {
	const pad = 9
	for _, c := range []struct {
		ids                                []int32
		lastToken, lastNonPad, beforeFirst int // indices of the scored token
	}{
		{[]int32{1, 2, 3}, 2, 2, 2},
		{[]int32{1, 2, pad}, 2, 1, 1},
		{[]int32{1, pad, 3}, 2, 2, 0},
		{[]int32{1, pad, 3, pad, pad}, 4, 2, 0},
		{[]int32{pad, 2, 3}, 2, 2, 2},
		{[]int32{pad, pad}, 1, 0, 1},
		{[]int32{pad}, 0, 0, 0},
		{[]int32{1}, 0, 0, 0},
	} {
		for position, want := range map[string]int{lastToken: c.lastToken, lastNonPad: c.lastNonPad, beforeFirstPad: c.beforeFirst} {
			if got := scored(c.ids, position, pad); got != want {
				t.Errorf("%s of %v: %d, want %d", position, c.ids, got, want)
			}
		}
	}
	if got := scored([]int32{1, 0}, lastNonPad, -1); got != 1 {
		t.Errorf("no pad token: %d, want the last", got)
	}
}

func TestIDsEndWithTheScoredToken(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "unigram"))
	e := encoder(t, tok, Format{ScorePosition: beforeFirstPad, PadID: tok.PAD().ID, MaxLength: 5})
	got, err := e.IDs([]int32{7, 7, 5, 6, tok.PAD().ID, 8, 8})
	if err != nil || !slices.Equal(got.IDs, []int32{5, 6}) || got.Tokens != 7 || !got.Truncated {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range [][]int32{nil, {-1}, {1, int32(tok.VocabSize())}} {
		if got, err := e.IDs(bad); err == nil {
			t.Errorf("IDs(%v) = %v, want an error", bad, got)
		}
	}
}

func TestTruncationKeepsWhatTheTokenizerAdds(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "unigram")) // <s> text </s>
	text := "Hello, world! How are you today?"
	whole, err := tok.Encode(text, false)
	if err != nil {
		t.Fatal(err)
	}
	const keep = 3
	for side, content := range map[string][]int32{"left": whole[len(whole)-keep:], "right": whole[:keep]} {
		got, err := encoder(t, tok, Format{MaxLength: keep + 2, TruncationSide: side}).Text(text)
		want := slices.Concat([]int32{1}, content, []int32{2})
		if err != nil || !slices.Equal(got.IDs, want) || !got.Truncated || got.Tokens != len(whole)+2 {
			t.Errorf("%s: got %+v, %v; want %v", side, got, err, want)
		}
	}
	exact, err := encoder(t, tok, Format{MaxLength: len(whole) + 2}).Text(text)
	if err != nil || exact.Truncated || len(exact.IDs) != len(whole)+2 {
		t.Errorf("a text of exactly max_length: %+v, %v", exact, err)
	}
}

func TestTextIsNeverGivenASecondBOS(t *testing.T) {
	for _, name := range []string{"llama", "unigram"} {
		tok := open(t, filepath.Join("testdata", name))
		e := encoder(t, tok, Format{})
		for _, text := range []string{"Hello", "<s>Hello", "<s> Hello"} {
			got, err := e.Text(text)
			if err != nil || got.IDs[0] != 1 || got.IDs[1] == 1 {
				t.Errorf("%s: Text(%q) = %v, %v; want one BOS", name, text, got.IDs, err)
			}
		}
	}
}

func TestNewEncoderNamesEveryMistake(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "unigram"))
	_, err := NewEncoder(tok, Format{MaxLength: 2, TruncationSide: "up", ScorePosition: "first", PadID: -2})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"max_length is 2 (at least 3", `"up"`, `"first"`, "pad_token_id is -2"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	_, err = NewEncoder(tok, Format{Template: "{% for %}", TruncationSide: "left", ScorePosition: lastToken})
	if err == nil || !strings.Contains(err.Error(), "compile the chat template") {
		t.Errorf("bad template: %v", err)
	}
}

func TestTranscriptKeepsThePromptWithoutATemplate(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "bytelevel"))
	e := encoder(t, tok, Format{})
	for _, c := range []struct{ prompt, answer, want string }{
		{"\n\nHuman: Hi\n\nAssistant: ", "Hello", "\n\nHuman: Hi\n\nAssistant: Hello"},
		{"\n\nHuman: Hi\n\nAssistant:", " Hello", "\n\nHuman: Hi\n\nAssistant: Hello"},
		{"Human: Hi \n\nAssistant: ", "\n", "Human: Hi \n\nAssistant: \n"},
		{"\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: ", "d", "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d"},
		{"Hi", "Hello", "\n\nHuman: Hi\n\nAssistant: Hello"},
		{"What does Human: mean?", "It", "\n\nHuman: What does Human: mean?\n\nAssistant: It"},
	} {
		got, err := e.Transcript(c.prompt, c.answer)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := tok.Decode(got.IDs); err != nil || text != c.want {
			t.Errorf("Transcript(%q, %q) is %q, %v; want %q", c.prompt, c.answer, text, err, c.want)
		}
	}
}

func TestTranscriptBecomesMessagesWithATemplate(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "chatml"))
	e := encoder(t, tok, Format{Template: tok.ChatTemplate()})
	for _, c := range []struct {
		prompt, answer string
		same           []Message
	}{
		{"\n\nHuman: Hi\n\nAssistant: ", "Hello", []Message{{"user", "Hi"}, {"assistant", "Hello"}}},
		{"Hi", "Hello", []Message{{"user", "Hi"}, {"assistant", "Hello"}}},
		{"\n\nHuman: Hi\n\nAssistant: Well,", " no", []Message{{"user", "Hi"}, {"assistant", "Well, no"}}},
		{"Be kind.\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", "d",
			[]Message{{"system", "Be kind."}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}, {"assistant", "d"}}},
	} {
		got, err := e.Transcript(c.prompt, c.answer)
		if err != nil {
			t.Fatal(err)
		}
		want, err := e.Messages(c.same)
		if err != nil || !slices.Equal(got.IDs, want.IDs) {
			t.Errorf("Transcript(%q, %q) = %v, want %v (%v)", c.prompt, c.answer, got.IDs, want.IDs, err)
		}
	}
	if _, err := e.Transcript("", "x"); err == nil {
		t.Error("an empty prompt is no error")
	}
}

func TestMessagesRefusesWhatHasNoAnswer(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "chatml"))
	plain := encoder(t, tok, Format{})
	chat := encoder(t, tok, Format{Template: tok.ChatTemplate()})
	raises := encoder(t, tok, Format{Template: "{{ raise_exception('System role not supported') }}"})
	answer := Message{"assistant", "x"}
	for name, c := range map[string]struct {
		e    *Encoder
		ms   []Message
		want string
	}{
		"none":             {chat, nil, "there are none"},
		"user last":        {chat, []Message{{"user", "x"}}, `has role "user"`},
		"unknown role":     {plain, []Message{{"tool", "x"}, answer}, `message 1 has role "tool"`},
		"late system":      {plain, []Message{{"user", "x"}, {"system", "x"}, answer}, "message 2"},
		"template refuses": {raises, []Message{answer}, "System role not supported"},
	} {
		if _, err := c.e.Messages(c.ms); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
	empty := encoder(t, tok, Format{Template: "{{ '' }}"})
	if _, err := empty.Messages([]Message{answer}); err == nil || !strings.Contains(err.Error(), "no token to score") {
		t.Errorf("a template that prints nothing: %v", err)
	}
}

func TestEndlessTemplatesEnd(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "chatml"))
	for _, source := range []string{
		"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
		"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
	} {
		e := encoder(t, tok, Format{Template: source})
		if _, err := e.Messages([]Message{{"assistant", "x"}}); err == nil {
			t.Errorf("%s: no error", source)
		}
	}
}

func TestTemplatesAreFreedWithTheirEncoder(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "chatml"))
	for range 20 {
		e := encoder(t, tok, Format{Template: tok.ChatTemplate()})
		if _, err := e.Messages([]Message{{"assistant", "x"}}); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
	}
}
