// Package tokenizer turns text into ids exactly as a model's tokenizer.json does,
// and conversations into text exactly as its chat template does. It is the one
// place that links the Rust archives: Hugging Face's tokenizers, through
// github.com/daulet/tokenizers, and minijinja, through data/chattmpl.
package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	hf "github.com/daulet/tokenizers"
)

// A Tokenizer is a model's tokenizer with its special tokens and chat template.
// It may be used by many goroutines at once.
type Tokenizer struct {
	files      []File
	definition *definition
	config     config
	digest     string
	warnings   []string
	// The ids that the tokenizer's post-processor adds before and after a text.
	prefix, suffix []int32

	plain *hf.Tokenizer
	// nul is the same tokenizer for texts with NUL bytes; see nulJSON. It is made
	// when the first such text comes.
	nul     *hf.Tokenizer
	nulErr  error
	nulOnce sync.Once
}

// Open reads tokenizer.json and what lies beside it in a model's folder.
func Open(dir string) (*Tokenizer, error) {
	files, err := readFiles(dir)
	if err != nil {
		return nil, err
	}
	if fileByName(files, mainFile) == nil {
		return nil, errNoTokenizer(dir, files)
	}
	t, err := fromFiles(files)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: open %s: %w", dir, err)
	}
	return t, nil
}

func fromFiles(files []File) (*Tokenizer, error) {
	d, err := parseDefinition(fileByName(files, mainFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mainFile, err)
	}
	c, err := parseConfig(func(name string) []byte { return fileByName(files, name) })
	if err != nil {
		return nil, err
	}
	data, err := d.json()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mainFile, err)
	}
	plain, err := hf.FromBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mainFile, err)
	}
	t := &Tokenizer{files: files, definition: d, config: c, plain: plain}
	t.prefix, t.suffix = t.probeSpecials()
	t.digest = digest(data, c.specials)
	t.warnings = t.inspect()
	return t, nil
}

// forNUL returns the tokenizer for texts with NUL bytes.
func (t *Tokenizer) forNUL() (*hf.Tokenizer, error) {
	t.nulOnce.Do(func() {
		data, err := t.definition.nulJSON()
		if err != nil {
			t.nulErr = err
			return
		}
		t.nul, t.nulErr = hf.FromBytes(data)
	})
	return t.nul, t.nulErr
}

// digest hashes the definition, whose keys json.Marshal has sorted, and the special
// tokens, which chat templates print.
func digest(data []byte, specials specialTokens) string {
	h := sha256.New()
	h.Write(data)
	for _, role := range specialRoles {
		fmt.Fprintf(h, "\n%s=%q", role, specials.text[role])
	}
	fmt.Fprintf(h, "\nadditional=%q", specials.additional)
	return hex.EncodeToString(h.Sum(nil))
}

// Encode returns the ids of text. addSpecial adds what the tokenizer's
// post-processor adds, a BOS mostly. Invalid UTF-8 counts as U+FFFD, as in Python. The
// text of a special token becomes that token wherever it stands, as in transformers.
func (t *Tokenizer) Encode(text string, addSpecial bool) ([]int32, error) {
	text = replaceInvalid(text)
	lib := t.plain
	if at := strings.IndexByte(text, 0); at >= 0 {
		if clash := strings.Index(text, nulPlaceholder); clash >= 0 {
			return nil, fmt.Errorf("tokenizer: encode: the text has a NUL at byte %d and the noncharacters %+q, "+
				"which stand for it, at byte %d (remove either)", at, nulPlaceholder, clash)
		}
		nul, err := t.forNUL()
		if err != nil {
			return nil, fmt.Errorf("tokenizer: encode: the NUL at byte %d: %w", at, err)
		}
		lib, text = nul, strings.ReplaceAll(text, "\x00", nulPlaceholder)
	}
	ids := toInt32(lib.EncodeWithOptions(text, addSpecial).IDs)
	if len(ids) == 0 && text != "" {
		return nil, fmt.Errorf("tokenizer: encode %s: no token came back (its vocabulary cannot express the text)", shorten(text))
	}
	return ids, nil
}

// Decode returns the text of ids, special tokens included.
func (t *Tokenizer) Decode(ids []int32) (string, error) {
	raw := make([]uint32, len(ids))
	for i, id := range ids {
		if id < 0 || int(id) >= t.definition.size {
			return "", fmt.Errorf("tokenizer: decode: id %d at position %d is not in 0..%d", id, i, t.definition.size-1)
		}
		raw[i] = uint32(id)
	}
	if text := t.plain.Decode(raw, false); text != "" || len(ids) == 0 {
		return text, nil
	}
	// No text: either there is none, or the library refused one with a NUL byte.
	nul, err := t.forNUL()
	if err != nil {
		return "", fmt.Errorf("tokenizer: decode: %w", err)
	}
	return strings.ReplaceAll(nul.Decode(raw, false), nulPlaceholder, "\x00"), nil
}

// VocabSize is one more than the largest id, added tokens included: the rows that an
// embedding needs.
func (t *Tokenizer) VocabSize() int { return t.definition.size }

// ID returns the id of a token by its text, or -1.
func (t *Tokenizer) ID(token string) int32 { return t.definition.id(token) }

// BOS, EOS, UNK and PAD return the special tokens of the model's configuration.
func (t *Tokenizer) BOS() Special { return t.special("bos_token") }

// EOS returns the token that ends a text.
func (t *Tokenizer) EOS() Special { return t.special("eos_token") }

// UNK returns the token for what the vocabulary cannot express.
func (t *Tokenizer) UNK() Special { return t.special("unk_token") }

// PAD returns the token that fills up a batch.
func (t *Tokenizer) PAD() Special { return t.special("pad_token") }

func (t *Tokenizer) special(role string) Special {
	text := t.config.specials.text[role]
	if text == "" {
		return Special{ID: -1}
	}
	return Special{Text: text, ID: t.definition.id(text)}
}

// ChatTemplate returns the Jinja source that came with the model, or "".
func (t *Tokenizer) ChatTemplate() string { return t.config.template }

// Files returns every tokenizer file of the folder, byte for byte.
func (t *Tokenizer) Files() []File { return slices.Clone(t.files) }

// Digest identifies what Encode computes, and the special tokens' texts.
func (t *Tokenizer) Digest() string { return t.digest }

// Warnings returns what a user should know of this tokenizer, a sentence each.
func (t *Tokenizer) Warnings() []string { return slices.Clone(t.warnings) }

// Close frees the Rust side; nothing may use t after it.
func (t *Tokenizer) Close() error {
	err := t.plain.Close()
	if t.nul != nil {
		err = errors.Join(err, t.nul.Close())
	}
	return err
}

// probeSpecials finds the ids that the post-processor puts before and after a text, by
// encoding one with and without them.
func (t *Tokenizer) probeSpecials() (prefix, suffix []int32) {
	for _, probe := range []string{"a", "0", " ", "the", "."} {
		bare := toInt32(t.plain.EncodeWithOptions(probe, false).IDs)
		full := toInt32(t.plain.EncodeWithOptions(probe, true).IDs)
		if len(bare) == 0 {
			continue
		}
		for at := 0; at+len(bare) <= len(full); at++ {
			if slices.Equal(full[at:at+len(bare)], bare) {
				return full[:at], full[at+len(bare):]
			}
		}
	}
	return toInt32(t.plain.EncodeWithOptions("", true).IDs), nil
}

func toInt32(ids []uint32) []int32 {
	if len(ids) == 0 {
		return nil
	}
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

// shorten quotes the beginning of a text for an error.
func shorten(text string) string {
	const most = 40
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q... (%d bytes)", strings.ToValidUTF8(text[:most], ""), len(text))
}
