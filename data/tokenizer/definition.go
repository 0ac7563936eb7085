package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// nulPlaceholder stands for a NUL byte on the way into and out of the Rust library,
// whose C interface ends a text there. It is three noncharacters, which no text
// interchanges.
const nulPlaceholder = "\uFDD0\uFDEF\uFDD0"

// A definition is what rmtrain itself needs to know of a tokenizer.json.
type definition struct {
	// top holds the file's members as they are, without truncation and padding.
	top map[string]json.RawMessage
	// ignored names the settings of truncation and padding that were taken out.
	ignored []string
	added   []addedToken
	ids     map[string]int32 // the model's vocabulary and the added tokens
	size    int              // one more than the largest id
}

// An addedToken is one entry of added_tokens.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	Special    bool   `json:"special"`
	Normalized bool   `json:"normalized"`
}

// parseDefinition reads a tokenizer.json. The settings of truncation and padding in
// it would act on every text; rmtrain cuts and batches by itself, so they are left out.
func parseDefinition(data []byte) (*definition, error) {
	d := &definition{ids: map[string]int32{}}
	if err := json.Unmarshal(data, &d.top); err != nil {
		return nil, err
	}
	if d.top == nil {
		return nil, errors.New("it holds null")
	}
	for _, key := range []string{"truncation", "padding"} {
		if isSet(d.top[key]) {
			d.ignored = append(d.ignored, key)
		}
		delete(d.top, key)
	}
	if err := d.parseVocabulary(); err != nil {
		return nil, err
	}
	if raw := d.top["added_tokens"]; isSet(raw) {
		if err := json.Unmarshal(raw, &d.added); err != nil {
			return nil, fmt.Errorf("added_tokens: %w", err)
		}
	}
	for _, a := range d.added {
		d.ids[a.Content] = a.ID
	}
	for token, id := range d.ids {
		if id < 0 {
			return nil, fmt.Errorf("token %q has id %d", token, id)
		}
		d.size = max(d.size, int(id)+1)
	}
	return d, nil
}

// parseVocabulary reads model.vocab, a map from token to id or, in Unigram models, a
// list of pairs whose index is the id.
func (d *definition) parseVocabulary() error {
	var model struct {
		Vocab json.RawMessage `json:"vocab"`
	}
	if raw := d.top["model"]; isSet(raw) {
		if err := json.Unmarshal(raw, &model); err != nil {
			return fmt.Errorf("model: %w", err)
		}
	}
	if !isSet(model.Vocab) {
		return errors.New("model.vocab is missing")
	}
	if model.Vocab[0] != '[' {
		if err := json.Unmarshal(model.Vocab, &d.ids); err != nil {
			return fmt.Errorf("model.vocab: %w", err)
		}
		return nil
	}
	var pieces [][]any
	if err := json.Unmarshal(model.Vocab, &pieces); err != nil {
		return fmt.Errorf("model.vocab: %w", err)
	}
	for id, piece := range pieces {
		if len(piece) == 0 {
			return fmt.Errorf("model.vocab: entry %d is empty", id)
		}
		token, ok := piece[0].(string)
		if !ok {
			return fmt.Errorf("model.vocab: entry %d is not a token and its score", id)
		}
		d.ids[token] = int32(id)
	}
	return nil
}

// id returns the id of a token's text, or -1.
func (d *definition) id(token string) int32 {
	if id, ok := d.ids[token]; ok {
		return id
	}
	return -1
}

// json returns the file that the Rust library loads.
func (d *definition) json() ([]byte, error) { return json.Marshal(d.top) }

// nulJSON returns the file with a first step that turns the placeholder into NUL and
// a last one that turns NUL into the placeholder. Normalizing comes after added tokens
// are looked for and before everything else, so that ids are those of the text with NUL.
func (d *definition) nulJSON() ([]byte, error) {
	top := make(map[string]json.RawMessage, len(d.top))
	for key, value := range d.top {
		top[key] = value
	}
	in, err := json.Marshal(replaceStep(nulPlaceholder, "\x00"))
	if err != nil {
		return nil, err
	}
	out, err := json.Marshal(replaceStep("\x00", nulPlaceholder))
	if err != nil {
		return nil, err
	}
	normalizers := []json.RawMessage{in}
	if isSet(top["normalizer"]) {
		normalizers = append(normalizers, top["normalizer"])
	}
	top["normalizer"], err = json.Marshal(map[string]any{"type": "Sequence", "normalizers": normalizers})
	if err != nil {
		return nil, err
	}
	// Without a decoder tokens are joined by blanks, which no decoder does.
	if isSet(top["decoder"]) {
		decoders := []json.RawMessage{top["decoder"], out}
		top["decoder"], err = json.Marshal(map[string]any{"type": "Sequence", "decoders": decoders})
		if err != nil {
			return nil, err
		}
	}
	return json.Marshal(top)
}

// replaceStep is a Replace step of a normalizer or decoder.
func replaceStep(from, to string) map[string]any {
	return map[string]any{"type": "Replace", "pattern": map[string]string{"String": from}, "content": to}
}

// isSet tells whether a member is there and not null.
func isSet(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
