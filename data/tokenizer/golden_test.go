package tokenizer

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// The golden files come from testdata/golden.py.

func readGolden(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func open(t testing.TB, dir string) *Tokenizer {
	t.Helper()
	tok, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tok.Close(); err != nil {
			t.Error(err)
		}
	})
	return tok
}

// An encodeCase is a text, in hexadecimal digits if it is not valid UTF-8.
type encodeCase struct {
	Text    string  `json:"text"`
	Hex     string  `json:"hex"`
	IDs     []int32 `json:"ids"`
	Bare    []int32 `json:"bare"`
	Decoded string  `json:"decoded"`
}

func (c encodeCase) text(t testing.TB) string {
	t.Helper()
	if c.Hex == "" {
		return c.Text
	}
	raw, err := hex.DecodeString(c.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func readEncodeCases(t testing.TB) map[string][]encodeCase {
	t.Helper()
	var golden struct {
		Tokenizers map[string][]encodeCase `json:"tokenizers"`
	}
	readGolden(t, "encode.json", &golden)
	if len(golden.Tokenizers) != 4 {
		t.Fatalf("encode.json has %d tokenizers, want 4", len(golden.Tokenizers))
	}
	return golden.Tokenizers
}

func TestEncodesAndDecodesAsTokenizers(t *testing.T) {
	for name, cases := range readEncodeCases(t) {
		t.Run(name, func(t *testing.T) {
			tok := open(t, filepath.Join("testdata", name))
			for _, c := range cases {
				checkEncode(t, tok, c)
				decoded, err := tok.Decode(c.IDs)
				if err != nil || decoded != c.Decoded {
					t.Errorf("Decode(%v) = %q, %v; want %q", c.IDs, decoded, err, c.Decoded)
				}
			}
		})
	}
}

func checkEncode(t *testing.T, tok *Tokenizer, c encodeCase) {
	t.Helper()
	text := c.text(t)
	for _, way := range []struct {
		special bool
		want    []int32
	}{{true, c.IDs}, {false, c.Bare}} {
		got, err := tok.Encode(text, way.special)
		if err != nil || !slices.Equal(got, way.want) {
			t.Errorf("Encode(%q, %t) = %v, %v; want %v", text, way.special, got, err, way.want)
		}
	}
}

func TestTextAddsSpecialsAsEncodeDoes(t *testing.T) {
	for name, cases := range readEncodeCases(t) {
		tok := open(t, filepath.Join("testdata", name))
		e := encoder(t, tok, Format{})
		for _, c := range cases {
			if len(c.Bare) == 0 || c.Bare[0] == tok.BOS().ID {
				continue
			}
			got, err := e.Text(c.text(t))
			if err != nil || !slices.Equal(got.IDs, c.IDs) {
				t.Errorf("%s: Text(%q) = %v, %v; want %v", name, c.text(t), got.IDs, err, c.IDs)
			}
		}
	}
}

func TestManyGoroutinesShareATokenizer(t *testing.T) {
	for name, cases := range readEncodeCases(t) {
		tok := open(t, filepath.Join("testdata", name))
		e := encoder(t, tok, Format{Template: "{% for m in messages %}{{ m.content }}{% endfor %}"})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for _, c := range cases {
					got, err := tok.Encode(c.text(t), true)
					if err != nil || !slices.Equal(got, c.IDs) {
						t.Errorf("%s: Encode(%q) = %v, %v; want %v", name, c.text(t), got, err, c.IDs)
					}
					rendered, err := e.Render([]Message{{"assistant", c.Text}})
					if err != nil || rendered != c.Text {
						t.Errorf("%s: Render(%q) = %q, %v", name, c.Text, rendered, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestRendersAsTransformers(t *testing.T) {
	var golden struct {
		Specials      map[string]string    `json:"specials"`
		Templates     map[string]string    `json:"templates"`
		Conversations [][]Message          `json:"conversations"`
		Rendered      map[string][]*string `json:"rendered"`
	}
	readGolden(t, "render.json", &golden)
	if len(golden.Templates) < 9 || len(golden.Conversations) < 14 {
		t.Fatalf("render.json has %d templates and %d conversations", len(golden.Templates), len(golden.Conversations))
	}
	for name, source := range golden.Templates {
		t.Run(name, func(t *testing.T) {
			template, err := compileTemplate(source, specialTokens{text: golden.Specials})
			if err != nil {
				t.Fatal(err)
			}
			for i, conversation := range golden.Conversations {
				got, err := template.render(conversation)
				want := golden.Rendered[name][i]
				switch {
				case want == nil && err == nil:
					t.Errorf("conversation %d: %q, want an error", i, got)
				case want != nil && (err != nil || got != *want):
					t.Errorf("conversation %d: %q, %v\nwant %q", i, got, err, *want)
				}
			}
		})
	}
}

func TestConversationsAsTransformers(t *testing.T) {
	var golden struct {
		Tokenizers map[string][]struct {
			Messages   []Message `json:"messages"`
			Side       string    `json:"side"`
			MaxLength  int       `json:"max_length"`
			IDs        []int32   `json:"ids"`
			Transcript []int32   `json:"transcript"`
		} `json:"tokenizers"`
	}
	readGolden(t, "conversations.json", &golden)
	for _, name := range []string{"llama", "chatml"} {
		tok := open(t, filepath.Join("testdata", name))
		if len(golden.Tokenizers[name]) == 0 {
			t.Fatalf("no conversations of %s", name)
		}
		for _, c := range golden.Tokenizers[name] {
			format := Format{Template: tok.ChatTemplate(), MaxLength: c.MaxLength, TruncationSide: c.Side}
			got, err := encoder(t, tok, format).Messages(c.Messages)
			if err != nil || !slices.Equal(got.IDs, c.IDs) {
				t.Errorf("%s, %s %d: Messages(%q) = %v, %v; want %v", name, c.Side, c.MaxLength, c.Messages, got.IDs, err, c.IDs)
			}
			if got.Truncated != (got.Tokens > c.MaxLength) || got.Tokens < len(got.IDs) {
				t.Errorf("%s, %s %d: truncated %t of %d tokens", name, c.Side, c.MaxLength, got.Truncated, got.Tokens)
			}
			format.Template = ""
			last := c.Messages[len(c.Messages)-2:]
			got, err = encoder(t, tok, format).Messages(last)
			if err != nil || !slices.Equal(got.IDs, c.Transcript) {
				t.Errorf("%s, %s %d: transcript of %q = %v, %v; want %v", name, c.Side, c.MaxLength, last, got.IDs, err, c.Transcript)
			}
		}
	}
}

// encoder makes an Encoder, with defaults for what f leaves out.
func encoder(t testing.TB, tok *Tokenizer, f Format) *Encoder {
	t.Helper()
	if f.TruncationSide == "" {
		f.TruncationSide = "left"
	}
	if f.ScorePosition == "" {
		f.ScorePosition = "last_token"
		f.PadID = -1
	}
	e, err := NewEncoder(tok, f)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
