package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

func TestParseTranscript(t *testing.T) {
	for _, c := range []struct {
		prompt string
		want   []Message
	}{
		{"\n\nHuman: Hi\n\nAssistant: ", []Message{{"user", "Hi"}}},
		{"\n\nHuman: Hi\n\nAssistant:", []Message{{"user", "Hi"}}},
		{"\n\nHuman: Hi\n\nAssistant:  \n", []Message{{"user", "Hi"}}},
		{"\n\nHuman: Hi", []Message{{"user", "Hi"}}},
		{"Human: Hi\n\nAssistant: ", []Message{{"user", "Hi"}}},
		{"\nHuman: Hi\n\nAssistant: ", []Message{{"user", "Hi"}}},
		{"\n\nHuman:Hi\n\nAssistant:", []Message{{"user", "Hi"}}},
		{"\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: ", []Message{{"user", "a"}, {"assistant", "b"}, {"user", "c"}}},
		{"\n\nHuman: a\n\nAssistant: \n\nHuman: c\n\nAssistant: ", []Message{{"user", "a"}, {"assistant", ""}, {"user", "c"}}},
		{"\n\nHuman: a\n\nHuman: b\n\nAssistant: ", []Message{{"user", "a"}, {"user", "b"}}},
		{"\n\nAssistant: a\n\nHuman: b\n\nAssistant: ", []Message{{"assistant", "a"}, {"user", "b"}}},
		{"\n\nHuman:  two\n\n\n\nlines \n\nAssistant: ", []Message{{"user", " two\n\n\n\nlines "}}},
		{"\n\nHuman: Who said \"Human: Hi\"?\nHuman: me\n\nAssistant: ", []Message{{"user", "Who said \"Human: Hi\"?\nHuman: me"}}},
		{"\n\nHuman: The Assistant: a play\n\nAssistants: many\n\nAssistant: ", []Message{{"user", "The Assistant: a play\n\nAssistants: many"}}},
		{"Be brief.\n\nHuman: Hi\n\nAssistant: ", []Message{{"system", "Be brief."}, {"user", "Hi"}}},
		{"no turns at all\n", []Message{{"user", "no turns at all\n"}}},
		{"\n\nHuman: \n\nAssistant: ", []Message{{"user", ""}}},
	} {
		got, err := ParseTranscript(c.prompt)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("ParseTranscript(%q) = %q, %v; want %q", c.prompt, got, err, c.want)
		}
	}
}

func TestParseTranscriptRefuses(t *testing.T) {
	for prompt, want := range map[string]string{
		"":                                "is empty",
		" \n\n":                           "is empty",
		"\n\nAssistant: ":                 "no turn of the Human",
		"x\n\nAssistant: y":               "no turn of the Human",
		"\n\nHuman: a\n\nAssistant: Sure": "already begun",
		"\n\nHuman: a\n\nAssistant: b\n\nAssistant: ": "two turns of the Assistant",
	} {
		if got, err := ParseTranscript(prompt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTranscript(%q) = %q, %v; want an error with %q", prompt, got, err, want)
		}
	}
}

func TestTranscriptsAreWrittenAsTheyAreRead(t *testing.T) {
	want := []Message{{"system", "S"}, {"user", "a"}, {"assistant", "b"}, {"user", " c\n"}}
	text, err := formatTranscript(want)
	if err != nil || text != "S\n\nHuman: a\n\nAssistant: b\n\nHuman:  c\n" {
		t.Fatalf("got %q, %v", text, err)
	}
	got, err := ParseTranscript(text)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
