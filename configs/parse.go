package configs

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

var number = regexp.MustCompile(`^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$`)

// parseText reads a value from a variable or a flag. Lists are separated by
// commas, or written as in YAML: [a, "b,c"].
func (f field) parseText(text string) (any, error) {
	if f.what != stringList {
		return f.parseScalar(text)
	}
	if strings.HasPrefix(text, "[") {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) != 1 {
			return nil, fmt.Errorf("is not a list of YAML; allowed is %s", f.allowed())
		}
		return f.parseNode(doc.Content[0])
	}
	list := []string{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return f.checkList(list)
}

// parseNode reads a value from a file. A list may be one text.
func (f field) parseNode(n *yaml.Node) (any, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if f.what == stringList {
		return f.parseList(n)
	}
	if n.Kind != yaml.ScalarNode {
		return nil, fmt.Errorf("is a %s; allowed is %s", kindName(n), f.allowed())
	}
	if n.Tag == "!!null" {
		return nil, fmt.Errorf("has no value; leave the key out for the default, or give %s", f.allowed())
	}
	if err := f.checkTag(n); err != nil {
		return nil, err
	}
	return f.parseScalar(n.Value)
}

func (f field) parseList(n *yaml.Node) (any, error) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	list := []string{}
	for _, item := range items {
		if item.Kind == yaml.AliasNode {
			item = item.Alias
		}
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return nil, fmt.Errorf("holds a %s; allowed is %s", kindName(item), f.allowed())
		}
		if err := f.checkTag(item); err != nil {
			return nil, err
		}
		list = append(list, item.Value)
	}
	return f.checkList(list)
}

// checkTag refuses a quoted number for a number, and a bare number for a text:
// what YAML takes a scalar for must be what the schema asks for.
func (f field) checkTag(n *yaml.Node) error {
	isText := n.Tag == "!!str" || n.Tag == "!!timestamp"
	switch f.what.Kind() {
	case reflect.String, reflect.Slice:
		if !isText && f.kind != "freeze" {
			return fmt.Errorf("is a %s and not text; allowed is %s (for a text that looks like this, write %q)", kindName(n), f.allowed(), n.Value)
		}
	default:
		if n.Tag == "!!str" && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			return fmt.Errorf("is text in quotes; allowed is %s, without quotes", f.allowed())
		}
	}
	return nil
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "group of keys"
	case yaml.SequenceNode:
		return "list"
	case yaml.AliasNode:
		return "reference"
	}
	switch n.Tag {
	case "!!int", "!!float":
		return "number"
	case "!!bool":
		return "boolean"
	case "!!null":
		return "null"
	case "!!str":
		return "text"
	}
	return strings.TrimLeft(n.Tag, "!")
}

// parseScalar reads anything but a list.
func (f field) parseScalar(text string) (any, error) {
	switch f.what.Kind() {
	case reflect.Bool:
		return f.parseBool(text)
	case reflect.Int:
		return f.parseInt(text)
	case reflect.Float64:
		return f.parseFloat(text)
	}
	return text, f.checkString(text)
}

func (f field) parseBool(text string) (any, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, fmt.Errorf("is not a boolean; allowed is %s", f.allowed())
}

// parseInt also reads whole numbers such as 1e3. Numbers are decimal: 010 is ten.
func (f field) parseInt(text string) (any, error) {
	if !number.MatchString(text) {
		return nil, fmt.Errorf("is not an integer; allowed is %s", f.allowed())
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || math.Abs(x) > 1<<53 {
		return nil, fmt.Errorf("is too large; allowed is %s", f.allowed())
	}
	if x != math.Trunc(x) {
		return nil, fmt.Errorf("has a fraction; allowed is %s", f.allowed())
	}
	return int(x), f.checkNumber(x)
}

func (f field) parseFloat(text string) (any, error) {
	if !number.MatchString(text) {
		return nil, fmt.Errorf("is not a number; allowed is %s", f.allowed())
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, fmt.Errorf("is too large; allowed is %s", f.allowed())
	}
	return x, f.checkNumber(x)
}

func (f field) checkNumber(x float64) error {
	for _, b := range f.bounds {
		if !b.allows(x) {
			return fmt.Errorf("is out of range; allowed is %s", f.allowed())
		}
	}
	return nil
}

func (f field) checkString(text string) error {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return fmt.Errorf("is not UTF-8 text")
	}
	if f.required && text == "" {
		return fmt.Errorf("is empty, but required; allowed is %s", f.allowed())
	}
	if f.free() || f.allowsWord(text) {
		return nil
	}
	if near := f.nearestWord(text); near != "" {
		return fmt.Errorf("is not allowed; did you mean %s? Allowed is %s", near, f.allowed())
	}
	return fmt.Errorf("is not allowed; allowed is %s", f.allowed())
}

func (f field) checkList(list []string) (any, error) {
	for _, item := range list {
		if item == "" {
			return nil, fmt.Errorf("holds an empty text; allowed is %s", f.allowed())
		}
		if err := f.checkString(item); err != nil {
			return nil, err
		}
		var err error
		switch f.kind {
		case "freeze":
			err = checkFreeze(item)
		case "report":
			err = checkReport(item)
		}
		if err != nil {
			return nil, err
		}
	}
	if f.required && len(list) == 0 {
		return nil, fmt.Errorf("is empty, but required; allowed is %s", f.allowed())
	}
	return list, nil
}
