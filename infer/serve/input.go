package serve

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"rmtrain/data/tokenizer"
)

// texts is a JSON text or a list of texts.
type texts struct {
	list []string
	many bool
}

// UnmarshalJSON reads either form.
func (t *texts) UnmarshalJSON(b []byte) error {
	var one string
	if b[0] == '"' {
		err := json.Unmarshal(b, &one)
		*t = texts{list: []string{one}}
		return err
	}
	var list []*string
	if err := json.Unmarshal(b, &list); err != nil || b[0] != '[' {
		return failf(kindInvalid, "a text or a list of texts is wanted, not %s", describe(b))
	}
	*t = texts{many: true, list: make([]string, len(list))}
	for i, s := range list {
		if s == nil {
			return failf(kindInvalid, "item %d of a list of texts is null", i)
		}
		t.list[i] = *s
	}
	return nil
}

func (t texts) inputs() []input {
	out := make([]input, len(t.list))
	for i, s := range t.list {
		out[i] = textInput(s)
	}
	return out
}

// ids is a JSON list of token ids, or a list of such lists.
type ids struct {
	list [][]int32
	many bool
}

// UnmarshalJSON reads either form.
func (t *ids) UnmarshalJSON(b []byte) error {
	if bytes.Contains(b, []byte("null")) { // which encoding/json takes for 0
		return failf(kindInvalid, "there is a null among the token ids")
	}
	var one []int32
	if json.Unmarshal(b, &one) == nil && len(one) > 0 {
		*t = ids{list: [][]int32{one}}
		return nil
	}
	*t = ids{many: true}
	if json.Unmarshal(b, &t.list) != nil || len(t.list) == 0 {
		return failf(kindInvalid, "a list of token ids, or a list of such lists, is wanted, not %s", describe(b))
	}
	for i, l := range t.list {
		if len(l) == 0 {
			return failf(kindInvalid, "list %d of token ids is empty", i)
		}
	}
	return nil
}

func (t ids) inputs() []input {
	out := make([]input, len(t.list))
	for i, l := range t.list {
		out[i] = input{ids: l}
	}
	return out
}

// anyInput is vLLM's: a text, texts, ids, or lists of ids.
type anyInput struct{ list []input }

// UnmarshalJSON reads any form.
func (a *anyInput) UnmarshalJSON(b []byte) error {
	var t texts
	if t.UnmarshalJSON(b) == nil {
		a.list = t.inputs()
		return nil
	}
	var i ids
	if i.UnmarshalJSON(b) == nil {
		a.list = i.inputs()
		return nil
	}
	if b[0] == '[' && bytes.Contains(b, []byte("null")) {
		return failf(kindInvalid, "input: nothing in the list may be null")
	}
	return failf(kindInvalid, "input: a text, a list of texts, token ids, or a list of lists of token ids is wanted, not %s", describe(b))
}

// chat is a list of messages. The content of one may be a list of parts, all of them text.
type chat []tokenizer.Message

// UnmarshalJSON reads them.
func (c *chat) UnmarshalJSON(b []byte) error {
	var list []struct {
		Role    *string         `json:"role"`
		Content json.RawMessage `json:"content"`
		Calls   json.RawMessage `json:"tool_calls"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return failf(kindInvalid, "messages: a list of objects with role and content is wanted, not %s", describe(b))
	}
	*c = make(chat, len(list))
	for i, m := range list {
		if m.Role == nil {
			return failf(kindInvalid, "messages[%d] has no role", i)
		}
		if hasContent(m.Calls) {
			return failf(kindInvalid, "messages[%d].tool_calls cannot be scored; only text can", i)
		}
		text, err := contentText(m.Content)
		if err != nil {
			return failf(kindInvalid, "messages[%d].content: %v", i, err)
		}
		(*c)[i] = tokenizer.Message{Role: *m.Role, Content: text}
	}
	return nil
}

// contentText returns a text, or the texts of a list of parts, a line each, as vLLM
// joins them.
func contentText(b json.RawMessage) (string, error) {
	var s *string
	if json.Unmarshal(b, &s) == nil && s != nil {
		return *s, nil
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if json.Unmarshal(b, &parts) != nil || parts == nil {
		return "", fmt.Errorf("a text or a list of text parts is wanted, not %s", describe(b))
	}
	out := make([]string, len(parts))
	for i, p := range parts {
		if p.Type != "text" || p.Text == nil {
			return "", fmt.Errorf("part %d has type %q; only text can be scored", i, p.Type)
		}
		out[i] = *p.Text
	}
	return strings.Join(out, "\n"), nil
}

// describe says what kind of JSON b is.
func describe(b []byte) string {
	switch b = bytes.TrimSpace(b); {
	case len(b) == 0:
		return "nothing"
	case b[0] == '{':
		return "an object"
	case b[0] == '[':
		return "this list"
	case b[0] == '"':
		return "a text"
	case b[0] == 'n':
		return "null"
	case b[0] == 't' || b[0] == 'f':
		return "a boolean"
	}
	return "a number"
}

// A number is a reward in JSON: the shortest decimal that gives the same float32, in
// which networks compute, just as `rmtrain infer` writes it.
type number float64

// MarshalJSON writes n.
func (n number) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(n), 'g', -1, 32), nil
}

// numbers applies f, if there is one.
func numbers(x []float64, f func(float64) float64) []number {
	out := make([]number, len(x))
	for i, v := range x {
		if f != nil {
			v = f(v)
		}
		out[i] = number(v)
	}
	return out
}

// sigmoid is what some clients ask for.
func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// squash is sigmoid if any of asked, which clients may leave out, is true.
func squash(asked ...*bool) func(float64) float64 {
	for _, a := range asked {
		if a != nil && *a {
			return sigmoid
		}
	}
	return nil
}

// floatsIn writes x as encoding_format says: a JSON list, or base64 of float32s in
// little endian.
func floatsIn(format string, x ...number) (any, error) {
	switch format {
	case "", "float":
		return x, nil
	case "base64":
		var b []byte
		for _, v := range x {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		}
		return base64.StdEncoding.EncodeToString(b), nil
	}
	return nil, &failure{kind: kindInvalid, param: "encoding_format", text: fmt.Sprintf("encoding_format %q is unknown (float or base64)", format)}
}
