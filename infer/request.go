package infer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"rmtrain/data/tokenizer"
)

// A Request is one JSON object to score: exactly one of Text, Messages,
// Prompt with Answers, and InputIDs.
type Request struct {
	Text     *string             `json:"text"`
	Messages []tokenizer.Message `json:"messages"`
	Prompt   json.RawMessage     `json:"prompt"` // Nectar's transcript, or messages
	Answers  []string            `json:"answers"`
	InputIDs []int32             `json:"input_ids"`
}

// ParseRequest reads a JSON object. Other fields are allowed and ignored.
func ParseRequest(line []byte) (Request, error) {
	var r Request
	if len(bytes.TrimSpace(line)) == 0 {
		return r, errors.New("empty line")
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("not a request: %w", jsonError(err))
	}
	var kinds []string
	for name, ok := range map[string]bool{"text": r.Text != nil, "messages": r.Messages != nil, "prompt": r.Prompt != nil, "input_ids": r.InputIDs != nil} {
		if ok {
			kinds = append(kinds, name)
		}
	}
	switch {
	case len(kinds) == 0:
		return r, errors.New("nothing to score (want text, messages, prompt with answers, or input_ids)")
	case len(kinds) > 1:
		return r, errors.New("more than one of text, messages, prompt and input_ids")
	case r.Prompt != nil && len(r.Answers) == 0:
		return r, errors.New("prompt without answers")
	case r.Prompt == nil && r.Answers != nil:
		return r, errors.New("answers without prompt")
	}
	return r, nil
}

// jsonError says in plain words what encoding/json says of its types.
func jsonError(err error) error {
	var t *json.UnmarshalTypeError
	if !errors.As(err, &t) {
		return err
	}
	if t.Field == "" {
		return fmt.Errorf("a JSON object is wanted, not %s", t.Value)
	}
	return fmt.Errorf("field %s: %s does not fit", t.Field, t.Value)
}

// Many tells whether the answer to r is a list of scores.
func (r Request) Many() bool { return r.Prompt != nil }

// Encode returns the ids of every conversation of r.
func (r Request) Encode(e *tokenizer.Encoder) ([]tokenizer.Encoded, error) {
	switch {
	case r.Text != nil:
		return one(e.Text(*r.Text))
	case r.Messages != nil:
		return one(e.Messages(r.Messages))
	case r.InputIDs != nil:
		return one(e.IDs(r.InputIDs))
	}
	encode, err := promptEncoder(e, r.Prompt)
	if err != nil {
		return nil, err
	}
	out := make([]tokenizer.Encoded, len(r.Answers))
	for i, a := range r.Answers {
		if out[i], err = encode(a); err != nil {
			return nil, fmt.Errorf("answer %d: %w", i+1, err)
		}
	}
	return out, nil
}

func one(c tokenizer.Encoded, err error) ([]tokenizer.Encoded, error) {
	return []tokenizer.Encoded{c}, err
}

func promptEncoder(e *tokenizer.Encoder, prompt json.RawMessage) (func(answer string) (tokenizer.Encoded, error), error) {
	var text string
	if json.Unmarshal(prompt, &text) == nil {
		if strings.TrimSpace(text) == "" {
			return nil, errors.New("prompt is empty")
		}
		return func(a string) (tokenizer.Encoded, error) { return e.Transcript(text, a) }, nil
	}
	var ms []tokenizer.Message
	if err := json.Unmarshal(prompt, &ms); err != nil {
		return nil, errors.New("prompt is neither text nor a list of messages")
	}
	return func(a string) (tokenizer.Encoded, error) {
		all := append(ms[:len(ms):len(ms)], tokenizer.Message{Role: "assistant", Content: a})
		return e.Messages(all)
	}, nil
}
