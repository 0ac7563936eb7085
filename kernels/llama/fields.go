package llama

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// fields reads the values of a JSON object by exact key and collects what is wrong
// with them. Like Python's dict.get, readers take null as absent where they have a
// default.
type fields struct {
	raw      map[string]json.RawMessage
	prefix   string // of keys in messages
	problems []string
}

func (f *fields) problem(format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

func (f *fields) has(key string) bool { _, ok := f.raw[key]; return ok }

// null tells whether key is absent or null.
func (f *fields) null(key string) bool {
	v, ok := f.raw[key]
	return !ok || strings.TrimSpace(string(v)) == "null"
}

// size returns a whole number from 1 to limit; def, if positive, if there is none.
func (f *fields) size(key string, def, limit int) int {
	if f.null(key) {
		if def <= 0 {
			f.problem("%s%s is missing", f.prefix, key)
		}
		return def
	}
	n, ok := f.whole(key)
	if ok && (n < 1 || n > int64(limit)) {
		f.problem("%s%s %d must be from 1 to %d", f.prefix, key, n, limit)
		return 0
	}
	return int(n)
}

func (f *fields) whole(key string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(string(f.raw[key])), 10, 64)
	if err != nil {
		f.problem("%s%s %s must be a whole number", f.prefix, key, abbreviate(f.raw[key]))
	}
	return n, err == nil
}

// positive returns a number above 0 that float32 can hold; def, if positive, if
// there is none.
func (f *fields) positive(key string, def float64) float64 {
	if f.null(key) {
		if def <= 0 {
			f.problem("%s%s is missing", f.prefix, key)
		}
		return def
	}
	var x float64
	if json.Unmarshal(f.raw[key], &x) != nil || float32(x) <= 0 || x > math.MaxFloat32 {
		f.problem("%s%s %s must be a positive number", f.prefix, key, abbreviate(f.raw[key]))
		return 0
	}
	return x
}

func (f *fields) flag(key string, def bool) bool {
	if f.null(key) {
		return def
	}
	var b bool
	if json.Unmarshal(f.raw[key], &b) != nil {
		f.problem("%s%s %s must be true or false", f.prefix, key, abbreviate(f.raw[key]))
	}
	return b
}

// text returns a string, "" if there is none.
func (f *fields) text(key string) string {
	if f.null(key) {
		return ""
	}
	var s string
	if json.Unmarshal(f.raw[key], &s) != nil {
		f.problem("%s%s %s must be a string", f.prefix, key, abbreviate(f.raw[key]))
	}
	return s
}

// object returns the fields of an object, nil if there is none. Its problems are
// to be joined to those of f.
func (f *fields) object(key string) *fields {
	if f.null(key) {
		return nil
	}
	o := &fields{prefix: f.prefix + key + "."}
	if json.Unmarshal(f.raw[key], &o.raw) != nil {
		f.problem("%s%s %s must be an object", f.prefix, key, abbreviate(f.raw[key]))
		return nil
	}
	return o
}

// abbreviate returns the start of a value for a message.
func abbreviate(v json.RawMessage) string {
	const most = 60
	s := []rune(strings.Join(strings.Fields(string(v)), " "))
	if len(s) > most {
		return string(s[:most]) + "..."
	}
	return string(s)
}
