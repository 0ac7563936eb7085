package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// A scalars is one line of metrics.jsonl as TensorBoard shows it.
type scalars struct {
	step   int64
	values []scalar
}

type scalar struct {
	tag   string
	value float32
}

// parseLine reads a line of metrics.jsonl. Its fields become tags in their order:
// loss is train/loss, eval_loss is eval/loss, and the items of a list are numbered
// from 1. Nulls and texts are left out.
func parseLine(line []byte) (scalars, error) {
	var s scalars
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return s, fmt.Errorf("not a JSON object")
	}
	hasStep := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return s, err
		}
		name := key.(string) // the decoder has made sure
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return s, err
		}
		if name == "step" {
			if err := json.Unmarshal(raw, &s.step); err != nil {
				return s, fmt.Errorf("step: %w", err)
			}
			hasStep = true
			continue
		}
		s.add(tag(name), raw)
	}
	if _, err := d.Token(); err != nil {
		return s, err
	}
	if !hasStep {
		return s, fmt.Errorf("no step")
	}
	return s, nil
}

func tag(field string) string {
	if name, ok := strings.CutPrefix(field, "eval_"); ok {
		return "eval/" + name
	}
	return "train/" + field
}

// add appends a number or a list of numbers.
func (s *scalars) add(tag string, raw json.RawMessage) {
	var number *float64
	if json.Unmarshal(raw, &number) == nil {
		if number != nil {
			s.values = append(s.values, scalar{tag, float32(*number)})
		}
		return
	}
	var list []*float64
	if json.Unmarshal(raw, &list) != nil {
		return
	}
	for i, x := range list {
		if x != nil {
			s.values = append(s.values, scalar{fmt.Sprintf("%s/%d", tag, i+1), float32(*x)})
		}
	}
}
