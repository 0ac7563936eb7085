package infer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// An object is a JSON object whose fields keep their order and their bytes.
type object struct {
	names  []string
	values map[string]json.RawMessage
}

// parseObject reads a JSON object. A name that occurs twice is refused, because
// programs disagree about which of the two counts.
func parseObject(b []byte) (object, error) {
	var o object
	var all json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return o, fmt.Errorf("not a JSON object: %w", err)
	}
	if k := kind(all); k != "an object" {
		return o, fmt.Errorf("%s, not a JSON object", k)
	}
	d := json.NewDecoder(bytes.NewReader(all))
	if _, err := d.Token(); err != nil { // the brace
		return o, fmt.Errorf("not a JSON object: %w", err)
	}
	var twice []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return o, fmt.Errorf("not a JSON object: %w", err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return o, fmt.Errorf("not a JSON object: %w", err)
		}
		if o.has(name.(string)) {
			twice = append(twice, fmt.Sprintf("%q", name))
		}
		o.set(name.(string), value)
	}
	if len(twice) > 0 {
		return o, errors.New(strings.Join(twice, ", ") + " occurs twice")
	}
	return o, nil
}

func (o *object) has(name string) bool {
	_, ok := o.values[name]
	return ok
}

// set replaces a field in its place, or appends it.
func (o *object) set(name string, value any) {
	raw, ok := value.(json.RawMessage)
	if !ok {
		raw = marshal(value)
	}
	if o.values == nil {
		o.values = map[string]json.RawMessage{}
	}
	if !o.has(name) {
		o.names = append(o.names, name)
	}
	o.values[name] = raw
}

// appendTo appends the object to b, on one line and in valid UTF-8.
func (o *object) appendTo(b []byte) []byte {
	b = append(b, '{')
	for i, name := range o.names {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, marshal(name)...)
		b = append(b, ": "...)
		b = append(b, bytes.ToValidUTF8(o.values[name], []byte("\uFFFD"))...)
	}
	return append(b, '}')
}

// marshal writes strings, numbers and lists of them, which always succeeds.
func marshal(value any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic(fmt.Sprintf("infer: %v cannot be written as JSON: %v", value, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// kind names a JSON value by its first byte.
func kind(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '[':
		return "a list"
	case '{':
		return "an object"
	case 't', 'f':
		return "a truth value"
	case 'n':
		return "null"
	}
	return "a number"
}
