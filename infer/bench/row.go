package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"rmtrain/data/tokenizer"
)

// A row is one row of a file: a JSON object, whatever the file's format.
type row map[string]json.RawMessage

func parseRow(line []byte) (row, error) {
	var r row
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if r == nil {
		return nil, errors.New("null, not a JSON object")
	}
	return r, nil
}

// columns lists what the row has.
func (r row) columns() string { return strings.Join(slices.Sorted(maps.Keys(r)), ", ") }

// need names every column that is missing.
func (r row) need(names ...string) error {
	var missing []string
	for _, n := range names {
		if _, ok := r[n]; !ok {
			missing = append(missing, n)
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("missing column %s (the row has %s)", strings.Join(missing, ", "), r.columns())
}

// decode reads column name into to; want says what it should be.
func (r row) decode(name, want string, to any) error {
	raw, ok := r[name]
	switch {
	case !ok:
		return fmt.Errorf("missing column %s", name)
	case bytes.Equal(raw, []byte("null")):
		return fmt.Errorf("%s is null, not %s", name, want)
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%s is not %s", name, want)
	}
	return nil
}

func (r row) text(name string) (s string, err error) {
	return s, r.decode(name, "a string", &s)
}

// filled is text that is not blank.
func (r row) filled(name string) (string, error) {
	s, err := r.text(name)
	if err == nil && strings.TrimSpace(s) == "" {
		err = fmt.Errorf("%s is empty", name)
	}
	return s, err
}

// truth reads a truth value, also one that was written as text, as in CSV files.
func (r row) truth(name string) (b bool, err error) {
	if err = r.decode(name, "a truth value", &b); err == nil {
		return b, nil
	}
	if s, e := r.text(name); e == nil {
		switch strings.ToLower(s) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	return false, err
}

// count reads a whole number that is not negative.
func (r row) count(name string) (int, error) {
	var x float64
	if err := r.decode(name, "a number", &x); err != nil {
		return 0, err
	}
	if x < 0 || x != math.Trunc(x) || x > 1<<30 {
		return 0, fmt.Errorf("%s is %v, not a count", name, x)
	}
	return int(x), nil
}

// texts reads a list of strings.
func (r row) texts(name string) (list []string, err error) {
	var parts []*string
	if err := r.decode(name, "a list of strings", &parts); err != nil {
		return nil, err
	}
	for i, p := range parts {
		if p == nil {
			return nil, fmt.Errorf("%s[%d] is null, not a string", name, i)
		}
		list = append(list, *p)
	}
	return list, nil
}

// messages reads a list of messages, which must not be empty.
func (r row) messages(name string) ([]tokenizer.Message, error) {
	var list []struct{ Role, Content *string }
	if err := r.decode(name, "a list of messages", &list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s is an empty list", name)
	}
	ms := make([]tokenizer.Message, len(list))
	for i, m := range list {
		if m.Role == nil || m.Content == nil {
			return nil, fmt.Errorf("%s[%d] has no role or no content", name, i)
		}
		ms[i] = tokenizer.Message{Role: *m.Role, Content: *m.Content}
	}
	return ms, nil
}

// name reads an identifier, which some files have as text and some as a number.
func (r row) name(column string) (string, error) {
	if s, err := r.text(column); err == nil {
		return s, nil
	}
	var n json.Number
	if err := r.decode(column, "a string or a number", &n); err != nil {
		return "", err
	}
	return n.String(), nil
}

// label returns what the first of columns that is there says, or "".
func (r row) label(columns ...string) string {
	for _, c := range columns {
		if s, err := r.text(c); err == nil {
			return s
		}
		if list, err := r.texts(c); err == nil && len(list) > 0 {
			return strings.Join(list, ", ")
		}
	}
	return ""
}

// json returns the row as an object again.
func (r row) json() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // its values were read from JSON
	}
	return b
}
