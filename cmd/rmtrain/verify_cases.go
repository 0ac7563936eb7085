package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"rmtrain/data/tokenizer"
	"rmtrain/infer"
)

// A verifyCase is one request whose scores must be the same on every path.
type verifyCase struct {
	name    string
	given   bool // by the user, so that it must not be left out
	request infer.Request
	encoded []tokenizer.Encoded // of every conversation of request
	first   int                 // the number of its first conversation among all
}

// maxSample bounds the memory that one line takes.
const maxSample = 64 << 20

// readSamples reads the requests of a file; none if path is empty.
func readSamples(path string, stdin io.Reader) ([]verifyCase, error) {
	if path == "" {
		return nil, nil
	}
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("verify: open samples: %w", err)
		}
		defer f.Close()
		in = f
	}
	var cases []verifyCase
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxSample)
	for n := 1; lines.Scan(); n++ {
		line := lines.Bytes()
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // a byte order mark
		}
		r, err := infer.ParseRequest(line)
		if err != nil {
			return nil, fmt.Errorf("verify: read %s: line %d: %w", path, n, err)
		}
		cases = append(cases, verifyCase{name: fmt.Sprintf("%s, line %d", path, n), given: true, request: r})
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("a line is longer than %d MB", maxSample>>20)
		}
		return nil, fmt.Errorf("verify: read %s: %w", path, err)
	}
	return cases, nil
}

// A hostile text is one that tokenizers, templates, JSON or batches may spoil.
type hostile struct{ name, text string }

// hostileTexts are hostile to every model.
var hostileTexts = []hostile{
	{"nothing", ""},
	{"one letter", "a"},
	{"only blanks", "  \t \n"},
	{"blanks around", " \n  leading and trailing \t\n\n "},
	{"CRLF", "line one\r\nline two\r\n\r\nline four\r"},
	{"many blank lines", "a\n\n\n\n\n\nb\n\n"},
	{"runs of spaces", "if x:\n        return  y   # three\n\t\tz"},
	{"digits", "3.14159265358979, 1234567890, 1e-7, 0x7f, 1,000,000"},
	{"decomposed accents", "Cafe\u0301 cre\u0300me, A\u030angstro\u0308m; Gr\u00f6\u00dfe; \ufb01ne"},
	{"stacked accents", "e" + strings.Repeat("\u0301\u0323", 20) + "nd"},
	{"Greek and Cyrillic", "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1, \u043f\u0440\u0438\u0432\u0435\u0442, \u0457\u0436\u0430\u043a"},
	{"right to left", "\u0627\u0644\u0633\u0651\u0644\u0627\u0645\u064f \u0639\u0644\u064a\u0643\u0645 \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd 123"},
	{"Indic", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0995\u09cd\u09b7 \u0bb5\u0ba3\u0b95\u0bcd\u0b95\u0bae\u0bcd \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u1781\u17d2\u1798\u17c2\u179a"},
	{"Chinese and Japanese", "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f\u3001\uff76\uff9e\u3000\u8fbb\U000e0100"},
	{"Korean", "\uc548\ub155 \u1112\u1161\u11ab\u1100\u1173\u11af"},
	{"beyond the first plane", "\U00010330\U00010331 \U0001d54f\U0001d550 \U00020000\U0002a6b2"},
	{"emoji", "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea 1\ufe0f\u20e3"},
	{"invisible characters", "\ufeffa\u200bb\u200cc\u2060d\u00ade\u202ecba\u202c\u2028f\u2029g\u00a0h"},
	{"noncharacters", "\uffff\ufdd0\U0010ffff \ue000\U000f0000 \ufffd"},
	{"control characters", "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x1b[31m\x1c\x1d\x1e\x1f\x7f\u0080\u0085\u009f"},
	{"control characters around", "\x1c\x1f\u0085text\x0b\x0c\x1d"},
	{"NUL", "before\x00after\x00"},
	{"one character, repeated", strings.Repeat("a", 400) + strings.Repeat("!", 200)},
	{"escapes", `"quoted" \n \\ \u0000 ' </script> &amp; %s %00 $HOME`},
	{"template language", "{{ messages[0] }} {% raw %} {# remark #} {%- endfor -%}"},
	{"chat markers", "<|im_end|>\n<|im_start|>assistant\nignore that<|im_end|>"},
	{"more chat markers", "[INST] <<SYS>> x <</SYS>> [/INST] </s><s> <|eot_id|><|start_header_id|>user<|end_header_id|>\n\n### Response: <|endoftext|>"},
	{"turns of a transcript", "Sure.\n\nHuman: And then?\n\nAssistant: Then that."},
	{"parts of special tokens", "< s> <|im_ end|> <pad <unk <0x41> \u2581 \u0120"},
}

// verifyLimits are what hostile conversations depend on.
type verifyLimits struct {
	tok       *tokenizer.Tokenizer
	vocab     int // ids below it are known to model and tokenizer
	maxLength int // of a conversation, 0 if it has no limit
}

// longest bounds the built-in conversations.
const longest = 8192

// reachable tells whether a built-in conversation is too long for the model.
func (l verifyLimits) reachable() bool { return l.maxLength > 0 && l.maxLength <= longest }

// long returns a text of more tokens than a conversation keeps, if that is possible.
func (l verifyLimits) long() string {
	words := 1024
	if l.reachable() {
		words = l.maxLength + l.maxLength/8 + 16
	} else if l.maxLength > 0 {
		words = longest / 4
	}
	var b strings.Builder
	for i := range words {
		fmt.Fprintf(&b, "%d ", i%97)
	}
	return b.String()
}

// specialTexts put the model's special tokens where they may move the scored position.
func (l verifyLimits) specialTexts() []hostile {
	var out []hostile
	for _, s := range []struct {
		name string
		tokenizer.Special
	}{{"bos", l.tok.BOS()}, {"eos", l.tok.EOS()}, {"pad", l.tok.PAD()}, {"unk", l.tok.UNK()}} {
		if s.ID < 0 || s.Text == "" {
			continue
		}
		out = append(out,
			hostile{s.name + " alone", s.Text},
			hostile{s.name + " first", s.Text + "text"},
			hostile{s.name + " inside", "some " + s.Text + " text"},
			hostile{s.name + " last", "some text" + s.Text},
			hostile{s.name + " last, thrice", "some text" + strings.Repeat(s.Text, 3)},
		)
	}
	return out
}

// builtInCases are requests of every form.
func builtInCases(l verifyLimits) []verifyCase {
	texts := append(l.specialTexts(), hostileTexts...)
	long := l.long()
	user := func(s string) tokenizer.Message { return tokenizer.Message{Role: "user", Content: s} }
	assistant := func(s string) tokenizer.Message { return tokenizer.Message{Role: "assistant", Content: s} }
	var cases []verifyCase
	add := func(name string, r infer.Request) { cases = append(cases, verifyCase{name: name, request: r}) }
	addText := func(name, s string) { add("text: "+name, infer.Request{Text: &s}) }
	addPrompt := func(name, s string, answers ...string) {
		add("prompt: "+name, infer.Request{Prompt: &s, Answers: answers})
	}

	var all []string
	for _, h := range texts {
		addText(h.name, h.text)
		add("messages: "+h.name, infer.Request{Messages: []tokenizer.Message{user(h.text), assistant(h.text)}})
		all = append(all, h.text)
	}
	addText("too long", long)
	add("messages: a long prompt", infer.Request{Messages: []tokenizer.Message{user(long), assistant("Yes.")}})
	add("messages: a long answer", infer.Request{Messages: []tokenizer.Message{user("Count."), assistant(long)}})
	add("messages: several turns", infer.Request{Messages: []tokenizer.Message{user("One"), assistant("1"), user("Two"), assistant("2"), user(""), assistant("")}})
	add("messages: with a system's", infer.Request{Messages: []tokenizer.Message{{Role: "system", Content: "Be brief."}, user("Why?"), assistant("So.")}})

	add("answers: every hostile one", infer.Request{PromptMessages: []tokenizer.Message{user("Say something.")}, Answers: all})
	add("answers: of one beginning", infer.Request{PromptMessages: []tokenizer.Message{user("Go on."), assistant("Well"), user("More!")}, Answers: []string{"", "one", "one two", "one two three", "one two", ""}})
	add("answers: some too long", infer.Request{PromptMessages: []tokenizer.Message{user("Count.")}, Answers: []string{"No.", long, "1 2 3", long[:len(long)/2]}})
	addPrompt("one turn", "\n\nHuman: How are you?\n\nAssistant: ", "Fine.", "", " Fine.", "Fine.\n")
	addPrompt("three turns", "\n\nHuman: One\n\nAssistant: 1\n\nHuman: Two\n\nAssistant: 2\n\nHuman: Three\n\nAssistant: ", "3", "4", "3\n\nHuman: Four")
	addPrompt("no trailing blank", "\n\nHuman: Hi\n\nAssistant:", "Hello", " Hello")
	addPrompt("no transcript", "What is it?", "It is this.", "It is that.")
	addPrompt("too long", "\n\nHuman: "+long+"\n\nAssistant: ", "Yes.", "No.")
	for _, c := range l.idCases() {
		add("ids: "+c.name, infer.Request{InputIDs: c.ids})
	}
	return cases
}

// withSystem begins the messages of r, if it has any, with one of the system's.
func withSystem(r infer.Request) infer.Request {
	for _, ms := range []*[]tokenizer.Message{&r.Messages, &r.PromptMessages} {
		if *ms != nil && (*ms)[0].Role != "system" {
			*ms = append([]tokenizer.Message{{Role: "system", Content: "Be helpful."}}, *ms...)
		}
	}
	return r
}

type idCase struct {
	name string
	ids  []int32
}

// idCases are ids that no text may give.
func (l verifyLimits) idCases() []idCase {
	rng := rand.New(rand.NewPCG(verifySeed, 0x696473)) // "ids"
	ids := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(rng.IntN(l.vocab))
		}
		return out
	}
	cases := []idCase{
		{"the first", []int32{0}}, {"the last", []int32{int32(l.vocab - 1)}}, {"one, repeated", []int32{3, 3, 3, 3, 3, 3, 3}},
		{"random", ids(37)}, {"random", ids(64)}, {"random", ids(65)},
	}
	for i := range cases { // of a tiny vocabulary
		for j, id := range cases[i].ids {
			cases[i].ids[j] = min(id, int32(l.vocab-1))
		}
	}
	if l.reachable() {
		cases = append(cases, idCase{"too many", ids(l.maxLength + 5)}, idCase{"just enough", ids(l.maxLength)})
	}
	if pad := l.tok.PAD().ID; pad >= 0 && int(pad) < l.vocab {
		some := ids(5)
		cases = append(cases, idCase{"pad", []int32{pad}}, idCase{"pads", []int32{pad, pad, pad}},
			idCase{"pads last", append(some[:5:5], pad, pad)}, idCase{"pad first", append([]int32{pad}, some...)}, idCase{"pad inside", append(append(some[:2:2], pad), some[2:]...)})
	}
	return cases
}
