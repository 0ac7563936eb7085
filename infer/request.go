package infer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rmtrain/data/tokenizer"
)

// A Request is what one JSON object asks to score. Exactly one of Text, Messages,
// InputIDs, Prompt and PromptMessages is set, the last two with Answers.
type Request struct {
	Text           *string             // finished text, which no template touches
	Messages       []tokenizer.Message // the last one is the answer
	InputIDs       []int32
	Prompt         *string // in Nectar's form, "\n\nHuman: ...\n\nAssistant: "
	PromptMessages []tokenizer.Message
	Answers        []string // to the prompt, each of which gets a score
}

// requestFields are the fields that say what to score.
var requestFields = []string{"text", "messages", "prompt", "answers", "input_ids"}

// ParseRequest reads a JSON object. Fields that are null count as absent; other
// fields than a request's are allowed and ignored.
func ParseRequest(line []byte) (Request, error) {
	fields, err := parseObject(line)
	if err != nil {
		return Request{}, err
	}
	return newRequest(fields)
}

func newRequest(fields object) (Request, error) {
	var r Request
	var given []string
	for _, name := range requestFields {
		raw, ok := fields.values[name]
		if !ok || kind(raw) == "null" {
			continue
		}
		if err := r.setField(name, raw); err != nil {
			return Request{}, err
		}
		if name != "answers" {
			given = append(given, name)
		}
	}
	switch {
	case len(given) == 0 && r.Answers != nil:
		return Request{}, errors.New("answers without prompt")
	case len(given) == 0:
		return Request{}, errors.New("nothing to score (text, messages, prompt with answers, or input_ids is needed)")
	case len(given) > 1:
		return Request{}, fmt.Errorf("%s at once (give one of them)", strings.Join(given, " and "))
	case given[0] != "prompt" && r.Answers != nil:
		return Request{}, fmt.Errorf("answers belong to prompt, not to %s", given[0])
	case given[0] == "prompt" && len(r.Answers) == 0:
		return Request{}, errors.New("prompt without answers")
	}
	return r, nil
}

func (r *Request) setField(name string, raw json.RawMessage) (err error) {
	switch name {
	case "text":
		r.Text = new(string)
		return decode(name, raw, "a string", r.Text)
	case "messages":
		r.Messages, err = parseMessages(name, raw)
	case "input_ids":
		r.InputIDs, err = parseIDs(name, raw)
	case "answers":
		r.Answers, err = parseAnswers(name, raw)
	case "prompt":
		err = r.setPrompt(name, raw)
	}
	return err
}

func (r *Request) setPrompt(name string, raw json.RawMessage) (err error) {
	switch kind(raw) {
	case "a string":
		r.Prompt = new(string)
		if err := decode(name, raw, "a string", r.Prompt); err != nil {
			return err
		}
		if strings.TrimSpace(*r.Prompt) == "" {
			return errors.New("prompt is empty")
		}
		return nil
	case "a list":
		r.PromptMessages, err = parseMessages(name, raw)
		if err == nil && r.PromptMessages[len(r.PromptMessages)-1].Role == "assistant" {
			err = errors.New("prompt ends with a message of the assistant's, which answers cannot follow")
		}
		return err
	}
	return fmt.Errorf("prompt is %s, not a string or a list of messages", kind(raw))
}

func parseMessages(name string, raw json.RawMessage) ([]tokenizer.Message, error) {
	var list []json.RawMessage
	if err := decode(name, raw, "a list", &list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s is an empty list", name)
	}
	ms := make([]tokenizer.Message, len(list))
	for i, item := range list {
		name := fmt.Sprintf("%s[%d]", name, i)
		var m map[string]json.RawMessage
		if err := decode(name, item, "an object", &m); err != nil {
			return nil, err
		}
		for field, to := range map[string]*string{"role": &ms[i].Role, "content": &ms[i].Content} {
			if m[field] == nil {
				return nil, fmt.Errorf("%s has no %s", name, field)
			}
			if err := decode(name+"."+field, m[field], "a string", to); err != nil {
				return nil, err
			}
		}
		if calls := m["tool_calls"]; calls != nil && !slices.Contains([]string{"null", "[]"}, string(calls)) {
			return nil, fmt.Errorf("%s.tool_calls is not supported", name)
		}
	}
	return ms, nil
}

func parseAnswers(name string, raw json.RawMessage) ([]string, error) {
	var list []json.RawMessage
	if err := decode(name, raw, "a list", &list); err != nil {
		return nil, err
	}
	answers := make([]string, len(list))
	for i, item := range list {
		if err := decode(fmt.Sprintf("%s[%d]", name, i), item, "a string", &answers[i]); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func parseIDs(name string, raw json.RawMessage) ([]int32, error) {
	ids := []int32{}
	if err := decode(name, raw, "a list", &ids); err != nil {
		return nil, err
	}
	if bytes.Contains(raw, []byte("null")) { // which encoding/json takes for 0
		return nil, fmt.Errorf("%s has a null among its ids", name)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s is an empty list", name)
	}
	return ids, nil
}

// decode reads a value that must be of the given kind.
func decode(name string, raw json.RawMessage, want string, to any) error {
	if k := kind(raw); k != want {
		return fmt.Errorf("%s is %s, not %s", name, k, want)
	}
	err := json.Unmarshal(raw, to)
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) {
		return fmt.Errorf("%s holds %s, which is no %v", name, t.Value, t.Type)
	}
	return err
}

// Many tells whether the answer to r is a list of scores.
func (r Request) Many() bool { return r.Prompt != nil || r.PromptMessages != nil }

// Encode returns the ids of every conversation of r, all of which the model knows.
func (s *Scorer) Encode(r Request) ([]tokenizer.Encoded, error) {
	if !r.Many() {
		e, err := s.encodeOne(r, "")
		return []tokenizer.Encoded{e}, err
	}
	out := make([]tokenizer.Encoded, len(r.Answers))
	total := 0
	for i, answer := range r.Answers {
		var err error
		if out[i], err = s.encodeOne(r, answer); err != nil {
			return nil, fmt.Errorf("answers[%d]: %w", i, err)
		}
		if total += len(out[i].IDs); total > s.maxTokens {
			return nil, fmt.Errorf("the answers have more than %d tokens in all (divide them among several requests)", s.maxTokens)
		}
	}
	return out, nil
}

// encodeOne encodes the conversation that ends with answer, if r wants one.
func (s *Scorer) encodeOne(r Request, answer string) (e tokenizer.Encoded, err error) {
	switch {
	case r.Text != nil:
		e, err = s.Encoder.Text(*r.Text)
	case r.Messages != nil:
		e, err = s.Encoder.Messages(r.Messages)
	case r.InputIDs != nil:
		e, err = s.Encoder.IDs(r.InputIDs)
	case r.Prompt != nil:
		e, err = s.Encoder.Transcript(*r.Prompt, answer)
	case r.PromptMessages != nil:
		last := tokenizer.Message{Role: "assistant", Content: answer}
		e, err = s.Encoder.Messages(append(slices.Clip(r.PromptMessages), last))
	default:
		err = errors.New("infer: an empty request")
	}
	if err != nil {
		return e, err
	}
	for _, id := range e.IDs {
		if int(id) >= s.Config.Vocab {
			return e, fmt.Errorf("infer: token %d is beyond the model's vocabulary of %d", id, s.Config.Vocab)
		}
	}
	return e, nil
}
