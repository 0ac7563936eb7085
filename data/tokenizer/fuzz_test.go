package tokenizer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzParseTranscript(f *testing.F) {
	for _, s := range []string{"\n\nHuman: a\n\nAssistant: ", "Human:\n\nAssistant:b\n\nHuman:", "x\n\nHuman: \n\n\n\nAssistant:", "", "\n", "\n\nAssistant: "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, prompt string) {
		ms, begun, err := splitTranscript(prompt)
		if err != nil {
			return
		}
		if len(ms) == 0 || ms[len(ms)-1].Role != roleUser {
			t.Fatalf("%q ends with %q", prompt, ms)
		}
		length := len(begun)
		for _, m := range ms {
			if !strings.Contains(prompt, m.Content) {
				t.Fatalf("%q has no %q", prompt, m.Content)
			}
			length += len(m.Content)
		}
		if length > len(prompt) {
			t.Fatalf("%q became longer: %q %q", prompt, ms, begun)
		}
		// What was read, written and read again is the same.
		text, err := formatTranscript(ms)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := splitTranscript(text)
		if err != nil || len(again) != len(ms) {
			t.Fatalf("%q was read as %q and then as %q, %v", prompt, ms, again, err)
		}
	})
}

func FuzzReplaceInvalid(f *testing.F) {
	for _, s := range []string{"", "a\xff", "\xf0\x9f\x98", "\xe2\x82", "\xed\xa0\x80é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := replaceInvalid(s)
		if !utf8.ValidString(got) {
			t.Fatalf("replaceInvalid(%q) = %q", s, got)
		}
		if utf8.ValidString(s) && got != s {
			t.Fatalf("replaceInvalid(%q) = %q", s, got)
		}
		// A sequence of up to three bytes may become one character, never none.
		if n := utf8.RuneCountInString(got); n > utf8.RuneCountInString(s) || 3*n < utf8.RuneCountInString(s) {
			t.Fatalf("replaceInvalid(%q) = %q", s, got)
		}
	})
}

// FuzzOpen damages tokenizer_config.json and tokenizer.json. Whatever opens must encode.
func FuzzOpen(f *testing.F) {
	f.Add(tiny, `{"bos_token": "<s>", "chat_template": "{{ bos_token }}"}`)
	f.Add(strings.Replace(tiny, `"normalizer": null`, `"normalizer": {"type": "NFC"}`, 1), `{"bos_token": {"content": "a"}}`)
	f.Add(`{"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.5], ["b", 0]]}}`, `{"chat_template": [{"name": "default", "template": "x"}]}`)
	for _, name := range []string{"llama", "unigram"} {
		definition, err := os.ReadFile(filepath.Join("testdata", name, mainFile))
		if err != nil {
			f.Fatal(err)
		}
		config, err := os.ReadFile(filepath.Join("testdata", name, configFile))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(definition), string(config))
	}
	f.Fuzz(func(t *testing.T, definition, config string) {
		tok, err := Open(folder(t, mainFile, definition, configFile, config))
		if err != nil {
			return
		}
		defer tok.Close()
		ids, err := tok.Encode("ab\x00 é", true)
		if err != nil {
			return
		}
		if len(ids) == 0 {
			t.Fatal("no ids and no error")
		}
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add("{% for m in messages %}{{ m.role }}{{ m.content | tojson }}{% endfor %}", "Hi")
	f.Add("{% generation %}{{ messages[-1]['content'].split('a')[0] }}{% endgeneration %}", "a\x00b\xff")
	f.Add("{{ [1, 'a', none] }}{{ {'a': 1} | tojson(indent=2) }}", "")
	f.Add("{{ strftime_now('%d %q') }}{{ raise_exception('x') }}", "")
	f.Fuzz(func(t *testing.T, source, content string) {
		template, err := compileTemplate(source, specialTokens{text: map[string]string{"bos_token": "<s>"}})
		if err != nil {
			return
		}
		text, err := template.render([]Message{{roleUser, content}, {roleAssistant, content}})
		if err == nil && !utf8.ValidString(text) {
			t.Fatalf("%q renders %q", source, text)
		}
	})
}
