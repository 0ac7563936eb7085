package checkpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

const classifierSuffix = "ForSequenceClassification"

// classes are transformers' names of the model types that rmtrain trains.
var classes = map[string]string{"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}

// torchDTypes spell element types as config.json does.
var torchDTypes = map[string]string{
	"F32": "float32", "BF16": "bfloat16", "F16": "float16",
	"float32": "float32", "bfloat16": "bfloat16", "float16": "float16",
}

// A document is a JSON object whose keys keep their order and whose values keep
// their bytes, so that nothing that is not understood changes.
type document struct {
	keys   []string
	values map[string]json.RawMessage
}

func parseDocument(b []byte) (*document, error) {
	if !json.Valid(b) {
		return nil, errors.New("not valid JSON")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	doc := &document{values: map[string]json.RawMessage{}}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		doc.setRaw(t.(string), v)
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	return doc, nil
}

// setRaw replaces a value in its place, or appends the key.
func (d *document) setRaw(key string, v json.RawMessage) {
	if !d.has(key) {
		d.keys = append(d.keys, key)
	}
	d.values[key] = v
}

// set is setRaw for values that always marshal: strings, numbers, maps of them.
func (d *document) set(key string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("checkpoints: value of %s: %v", key, err)) // a mistake in this package
	}
	d.setRaw(key, b)
}

func (d *document) has(key string) bool {
	_, ok := d.values[key]
	return ok
}

func (d *document) remove(key string) {
	delete(d.values, key)
	d.keys = slices.DeleteFunc(d.keys, func(k string) bool { return k == key })
}

// bytes returns the object, indented as transformers does.
func (d *document) bytes() ([]byte, error) {
	var b, indented bytes.Buffer
	b.WriteByte('{')
	for i, key := range d.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		q, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		b.Write(q)
		b.WriteByte(':')
		b.Write(d.values[key])
	}
	b.WriteByte('}')
	if err := json.Indent(&indented, b.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}

// adaptConfig turns the base model's config.json into that of the exported model.
func adaptConfig(e Export) ([]byte, error) {
	doc, err := parseDocument(e.Config)
	if err != nil {
		return nil, fmt.Errorf("config.json of the base model: %w", err)
	}
	if err := setDType(doc, e.DType); err != nil {
		return nil, err
	}
	if e.PadID >= 0 {
		doc.set("pad_token_id", e.PadID)
	}
	if e.Dialect == Base {
		return doc.bytes()
	}
	var modelType string
	if err := json.Unmarshal(doc.values["model_type"], &modelType); err != nil {
		return nil, errors.New("config.json of the base model has no model_type")
	}
	class, ok := classes[modelType]
	if !ok {
		return nil, fmt.Errorf("config.json of the base model: model_type %q has no known %s class (llama, mistral and qwen2 have)", modelType, classifierSuffix)
	}
	doc.set("architectures", []string{class + classifierSuffix})
	doc.remove("auto_map") // would load code that lies elsewhere instead of this class
	if e.Dialect == HuggingFace {
		doc.remove("num_labels") // follows from id2label
		doc.set("id2label", map[string]string{"0": "LABEL_0"})
		doc.set("label2id", map[string]int{"LABEL_0": 0})
		doc.set("problem_type", "regression")
	}
	return doc.bytes()
}

// setDType sets the element type under the key that the base model uses:
// torch_dtype until transformers 4, dtype from 5 on.
func setDType(doc *document, dtype string) error {
	if dtype == "" {
		return nil
	}
	name, ok := torchDTypes[dtype]
	if !ok {
		return fmt.Errorf("element type %q is not one of float32, bfloat16 and float16", dtype)
	}
	if doc.has("dtype") {
		doc.set("dtype", name)
	}
	if doc.has("torch_dtype") || !doc.has("dtype") {
		doc.set("torch_dtype", name)
	}
	return nil
}
