package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// prefix begins the name of every environment variable of this program.
const prefix = "RMTRAIN_"

// otherVariables begin with prefix, but configure no run: they choose the CPU
// kernels, and say where tests find data and which hardware they may not skip.
var otherVariables = []string{"RMTRAIN_CPU", "RMTRAIN_REALDATA", "RMTRAIN_REQUIRE"}

// LoadOptions says where a configuration comes from. What stands later overrides
// what stands earlier, and all of them the defaults.
type LoadOptions struct {
	File    string   // a YAML file; "" for none
	Environ []string // as os.Environ
	Sets    []string // values of --set, such as train.learning_rate=2e-5
}

// Load reads, merges and checks a configuration. If anything is wrong, the error
// is an *Error that lists every mistake.
//
// A path in the file is relative to the file; one from the environment or --set to
// the working directory. Loaded paths are absolute, except for the name of a model
// on the Hugging Face hub: see ResolvePath and IsHubID. An empty environment
// variable counts as not set.
func Load(o LoadOptions) (*Run, error) {
	l := newLoader()
	readable := o.File == "" || l.readFile(o.File)
	l.readEnviron(o.Environ)
	l.readSets(o.Sets)
	return l.finish(readable)
}

// Default is the configuration of somebody who configured nothing. What is
// required is empty.
func Default() *Run {
	l := newLoader()
	run, err := l.decode()
	if err != nil {
		panic(err) // the schema and its tags disagree
	}
	return run
}

// A loader collects values in viper, those that override others later, and every
// mistake on the way.
type loader struct {
	viper    *viper.Viper
	failed   map[string]bool   // keys with a mistake
	texts    map[string]string // each value as it was written
	sources  map[string]string // where each value came from
	problems []Problem
}

func newLoader() *loader {
	l := &loader{
		viper: viper.New(), failed: map[string]bool{},
		texts: map[string]string{}, sources: map[string]string{},
	}
	for _, f := range fields {
		l.viper.SetDefault(f.key, f.defaultValue())
	}
	return l
}

// defaultValue is the tag's value, or the type's zero.
func (f field) defaultValue() any {
	if f.def == "" {
		if f.what == stringList {
			return []string{}
		}
		return reflect.Zero(f.what).Interface()
	}
	value, err := f.parseText(f.def)
	if err != nil {
		panic(fmt.Sprintf("configs: the default of %s %v", f.key, err)) // the schema and its tags disagree
	}
	return value
}

func (l *loader) add(p Problem) { l.problems = append(l.problems, p) }

// unknown reports a key that does not exist. Nothing else is said about the key
// that was probably meant.
func (l *loader) unknown(key, text, source string) {
	if group := fieldsOf(key); key != "" && len(group) > 0 {
		l.add(Problem{Key: key, Value: text, Source: source, Message: "is a group of keys; set one of them, such as " + group[0].key})
		return
	}
	near, message := unknownKey(key)
	if near != "" {
		l.failed[near] = true
		for _, f := range fieldsOf(near) {
			l.failed[f.key] = true
		}
	}
	l.add(Problem{Key: key, Value: text, Source: source, Message: message})
}

// take keeps a parsed value in place of earlier ones, or reports why not.
func (l *loader) take(f field, text string, value any, err error, dir, source string) {
	if err == nil {
		value, err = f.resolve(value, dir)
	}
	if err != nil {
		l.failed[f.key] = true
		l.add(Problem{Key: f.key, Value: text, Source: source, Message: err.Error()})
		return
	}
	l.viper.Set(f.key, value)
	l.texts[f.key], l.sources[f.key] = text, source
}

func (l *loader) readEnviron(environ []string) {
	keys := map[string]field{}
	known := slices.Clone(otherVariables)
	for _, f := range fields {
		keys[Variable(f.key)] = f
		known = append(known, Variable(f.key))
	}
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix) || slices.Contains(otherVariables, name) {
			continue
		}
		f, ok := keys[name]
		if !ok {
			l.add(Problem{Key: name, Value: quote(text), Source: "environment", Message: unknownVariable(name, known)})
			continue
		}
		if text == "" {
			continue
		}
		value, err := f.parseText(text)
		l.take(f, quote(text), value, err, "", name)
	}
}

func unknownVariable(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return "unknown variable; did you mean " + near + "?"
	}
	return "unknown variable; the names are those of the keys, such as " + Variable("train.learning_rate")
}

func (l *loader) readSets(sets []string) {
	for _, set := range sets {
		key, text, ok := strings.Cut(set, "=")
		key = strings.TrimSpace(key)
		if !ok {
			l.add(Problem{Key: key, Source: "--set", Message: "has no value; write --set KEY=VALUE"})
			continue
		}
		f, ok := findField(key)
		if !ok {
			l.unknown(key, quote(text), "--set")
			continue
		}
		value, err := f.parseText(strings.TrimSpace(text))
		l.take(f, quote(text), value, err, "", "--set")
	}
}

// finish decodes the merged values and checks what no value shows by itself.
// Nothing is missed in a file that could not be read.
func (l *loader) finish(readable bool) (*Run, error) {
	run, err := l.decode()
	if err != nil {
		return nil, fmt.Errorf("configs: decode: %w", err)
	}
	if readable {
		l.checkRequired()
		l.checkRules(run)
	}
	if len(l.problems) > 0 {
		return nil, &Error{l.problems}
	}
	return run, nil
}

func (l *loader) checkRequired() {
	for _, f := range fields {
		if f.required && l.sources[f.key] == "" && !l.failed[f.key] {
			l.failed[f.key] = true
			l.add(Problem{Key: f.key, Message: fmt.Sprintf("is required: %s; set it in the file, by --set %s=..., or by %s", f.doc, f.key, Variable(f.key))})
		}
	}
}

// decode is strict: values have been parsed to the types of the schema.
func (l *loader) decode() (*Run, error) {
	var run Run
	strict := func(c *mapstructure.DecoderConfig) {
		c.WeaklyTypedInput = false
		c.DecodeHook = nil
	}
	if err := l.viper.UnmarshalExact(&run, strict); err != nil {
		return nil, err
	}
	return &run, nil
}
