package configs

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// YAML writes the configuration in the order of the schema, each setting under what
// it means. Load reads it back to the same Run, wherever the file lies.
func (r *Run) YAML() ([]byte, error) {
	root, err := mapping(reflect.ValueOf(r).Elem())
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return nil, fmt.Errorf("configs: write YAML: %w", err)
	}
	return b.Bytes(), encoder.Close()
}

func mapping(v reflect.Value) (*yaml.Node, error) {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: f.Tag.Get("mapstructure"), HeadComment: f.Tag.Get("doc")}
		value := &yaml.Node{}
		var err error
		if f.Type.Kind() == reflect.Struct {
			value, err = mapping(v.Field(i))
		} else {
			err = value.Encode(v.Field(i).Interface())
		}
		if err != nil {
			return nil, fmt.Errorf("configs: write %s as YAML: %w", key.Value, err)
		}
		m.Content = append(m.Content, key, value)
	}
	return m, nil
}

const referenceHead = `# Configuration

<!-- Generated from configs/configs.go; "go test ./configs -update" writes it anew. -->

A run is configured by a YAML file, environment variables and flags:

    RMTRAIN_TRAIN_SEED=3 rmtrain --config nectar.yaml --set train.learning_rate=2e-5

` + "`--set KEY=VALUE`" + ` (repeatable; the last one counts) overrides the environment, the environment overrides
the file, and the file overrides the defaults. The variable of a key is its name in capitals after
` + "`RMTRAIN_`, with `_` for the dot: `train.learning_rate` is `RMTRAIN_TRAIN_LEARNING_RATE`" + `. An empty variable
counts as not set. ` + "`rmtrain --config FILE --print-config`" + ` prints the effective configuration as YAML with all
comments, and that file gives the same run.

* **Mistakes** are all reported at once, and nothing starts: unknown keys and variables (with the nearest right
  name), keys given twice, wrong types, numbers out of range, combinations that cannot work.
* **Types** are not guessed. An integer may be written ` + "`1e3`, but not `1.5` or `\"2\"`" + `; numbers are decimal; booleans are
  ` + "`true` and `false`; a text that looks like a number needs quotes" + `. A key without a value is a mistake;
  a group without keys is not.
* **Lists** are YAML lists; in a file a single text is a list of one. In variables and ` + "`--set`" + ` they are
  separated by commas, or written as ` + "`[a, \"b,c\"]`" + ` where an item holds a comma. Lists replace each other, they
  are not merged.
* **Paths** in a file are relative to that file; in variables and ` + "`--set`" + ` to the working directory. ` + "`~/`" + ` is the
  home folder. A ` + "`model.name_or_path` of the form `org/name`" + ` is a name on the Hugging Face hub unless there is
  a folder of that path; write ` + "`./org/name`" + ` to be sure of a folder.

Recipes that ship with the program: %s.
`

// Reference is docs/configuration.md: every setting, from the schema.
func Reference() string {
	var b strings.Builder
	var names []string
	for _, name := range Recipes() {
		names = append(names, "`configs/"+name+".yaml`")
	}
	fmt.Fprintf(&b, referenceHead, strings.Join(names, ", "))
	for _, group := range groups() {
		title := group
		if group == "" {
			title = "at the top"
		}
		fmt.Fprintf(&b, "\n## %s\n\n| key | type | default | allowed | meaning |\n| --- | --- | --- | --- | --- |\n", title)
		for _, f := range fieldsOf(group) {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.key, f.typeName(), f.defaultText(), f.allowed(), strings.ReplaceAll(f.doc, "|", `\|`))
		}
	}
	return b.String()
}

func (f field) defaultText() string {
	switch {
	case f.required:
		return "required"
	case f.def != "":
		return "`" + f.def + "`"
	case f.what == stringList:
		return "`[]`"
	}
	return ""
}
