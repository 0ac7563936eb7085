package configs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile reads the settings of a YAML file. It reports whether the file could be
// read as YAML at all.
func (l *loader) readFile(path string) bool {
	raw, err := os.ReadFile(path)
	if err != nil {
		l.add(Problem{Key: path, Message: unreadable(path, err)})
		return false
	}
	return l.readYAML(raw, path)
}

func unreadable(path string, err error) string {
	if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
		err = pathError.Err
	}
	text := "cannot read the configuration: " + err.Error()
	name := filepath.Base(path)
	if _, ok := Recipe(name); ok && errors.Is(err, fs.ErrNotExist) {
		text += " (a recipe of this name ships with rmtrain: copy it from configs/" + strings.TrimSuffix(name, ".yaml") + ".yaml of its source)"
	}
	return text
}

// readYAML reads one YAML document; its paths are relative to the folder of path.
func (l *loader) readYAML(raw []byte, path string) bool {
	root, err := document(raw)
	if err != nil {
		l.add(Problem{Key: path, Message: err.Error()})
		return false
	}
	if root == nil {
		return true
	}
	if root.Kind != yaml.MappingNode {
		l.add(Problem{Key: path, Message: fmt.Sprintf("is a %s; a configuration has groups of keys: %s", kindName(root), strings.Join(topLevel(), ", "))})
		return false
	}
	l.readMapping(root, "", path)
	return true
}

// document parses exactly one YAML document; it is nil if the file is empty.
func document(raw []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	var doc, second yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document; a run has one")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	return root, nil
}

// readMapping reads the keys of a group, or of the top where group is "".
func (l *loader) readMapping(m *yaml.Node, group, path string) {
	lines := map[string]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		name, value := m.Content[i], m.Content[i+1]
		key := name.Value
		if group != "" {
			key = group + "." + key
		}
		source := fmt.Sprintf("%s:%d", path, name.Line)
		if name.Kind != yaml.ScalarNode {
			l.add(Problem{Key: cmp.Or(group, "key"), Value: nodeText(name), Source: source, Message: "a key is a " + kindName(name) + "; keys are words"})
			continue
		}
		if first, ok := lines[name.Value]; ok {
			l.add(Problem{Key: key, Value: nodeText(value), Source: source, Message: fmt.Sprintf("given twice; first in line %d", first)})
			l.failed[key] = true
			continue
		}
		lines[name.Value] = name.Line
		l.readEntry(key, value, group, path, source)
	}
}

func (l *loader) readEntry(key string, value *yaml.Node, group, path, source string) {
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	if group == "" && len(fieldsOf(key)) > 0 && key != "" {
		l.readGroup(key, value, path, source)
		return
	}
	f, ok := findField(key)
	if !ok {
		l.unknown(key, nodeText(value), source)
		return
	}
	parsed, err := f.parseNode(value)
	l.take(f, nodeText(value), parsed, err, filepath.Dir(path), source)
}

func (l *loader) readGroup(group string, value *yaml.Node, path, source string) {
	switch {
	case value.Kind == yaml.MappingNode:
		l.readMapping(value, group, path)
	case value.Kind != yaml.ScalarNode || value.Tag != "!!null":
		l.add(Problem{Key: group, Value: nodeText(value), Source: source, Message: "is a " + kindName(value) + "; " + group + " is a group of keys"})
		for _, f := range fieldsOf(group) {
			l.failed[f.key] = true
		}
	}
}

// nodeText shows a value as it would be written on one line.
func nodeText(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!str" {
			return quote(n.Value)
		}
		return shorten(n.Value)
	case yaml.SequenceNode:
		var items []string
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return "[...]"
			}
			items = append(items, nodeText(item))
		}
		return shorten("[" + strings.Join(items, ", ") + "]")
	}
	return "{...}"
}
