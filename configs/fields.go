package configs

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A field is one setting of the schema, as its struct tags declare it:
//
//	mapstructure  the name in YAML
//	default       the value when nobody gives one; without it, empty
//	required      "true": there is no default, a run must give it
//	oneof         the allowed words; one that ends in :N stands for any number N
//	meant         pairs text=word: what a text that is no such word must mean, however it is spelled
//	min, max      the smallest and largest allowed number
//	above, below  the same, itself not allowed
//	kind          how a text is read: "path" (see ResolvePath), "template" and
//	              "resume" (a word of also, or a path), "freeze" (see checkFreeze), "report" (see
//	              checkReport)
//	also          the words that a template or resume may be instead of a path
//	aka           what it is called elsewhere, for the message about an unknown key
//	doc           what it means
type field struct {
	key      string // such as train.learning_rate
	group    string // train; "" at the top
	name     string // learning_rate
	kind     string
	what     reflect.Type
	def      string
	required bool
	words    []string
	meant    map[string]string
	aka      []string
	bounds   []bound
	doc      string
}

// A bound is a limit of a number.
type bound struct {
	limit     float64
	text      string
	upper     bool
	exclusive bool
}

var stringList = reflect.TypeFor[[]string]()

// fields lists the schema in the order of the struct.
var fields = collect(reflect.TypeFor[Run](), "")

func collect(t reflect.Type, group string) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("mapstructure")
		if f.Type.Kind() == reflect.Struct {
			all = append(all, collect(f.Type, name)...)
			continue
		}
		key := name
		if group != "" {
			key = group + "." + name
		}
		words := f.Tag.Get("oneof")
		if words == "" {
			words = f.Tag.Get("also")
		}
		all = append(all, field{
			key: key, group: group, name: name, kind: f.Tag.Get("kind"), what: f.Type,
			def: f.Tag.Get("default"), required: f.Tag.Get("required") == "true",
			words: strings.Fields(words), meant: pairs(f.Tag.Get("meant")), aka: strings.Fields(f.Tag.Get("aka")), bounds: bounds(f.Tag), doc: f.Tag.Get("doc"),
		})
	}
	return all
}

// pairs splits texts of the form a=b.
func pairs(tag string) map[string]string {
	all := map[string]string{}
	for _, pair := range strings.Fields(tag) {
		from, to, _ := strings.Cut(pair, "=")
		all[from] = to
	}
	return all
}

func bounds(tag reflect.StructTag) []bound {
	var all []bound
	for _, kind := range []bound{{text: "min"}, {text: "above", exclusive: true}, {text: "max", upper: true}, {text: "below", upper: true, exclusive: true}} {
		text, ok := tag.Lookup(kind.text)
		if !ok {
			continue
		}
		limit, err := strconv.ParseFloat(text, 64)
		if err != nil {
			panic("configs: a limit of the schema is not a number: " + text)
		}
		kind.limit, kind.text = limit, text
		all = append(all, kind)
	}
	return all
}

func (b bound) allows(x float64) bool {
	switch {
	case x == b.limit:
		return !b.exclusive
	case b.upper:
		return x < b.limit
	}
	return x > b.limit
}

func (b bound) String() string {
	switch {
	case b.upper && b.exclusive:
		return "below " + b.text
	case b.upper:
		return "at most " + b.text
	case b.exclusive:
		return "above " + b.text
	}
	return "at least " + b.text
}

// free reports whether any text will do besides the words.
func (f field) free() bool {
	return f.what.Kind() != reflect.String || f.kind != "" || len(f.words) == 0
}

// allowsWord reports whether text is one of the words.
func (f field) allowsWord(text string) bool {
	return slices.ContainsFunc(f.words, func(w string) bool {
		stem, numbered := strings.CutSuffix(w, ":N")
		number, ok := strings.CutPrefix(text, stem+":")
		if !numbered || !ok {
			return text == w && !numbered
		}
		_, err := strconv.ParseUint(number, 10, 16)
		return err == nil
	})
}

// nearestWord is the word that text was probably meant to be, or "".
func (f field) nearestWord(text string) string {
	if word, ok := f.meant[strings.ToLower(text)]; ok {
		return word
	}
	literal := slices.DeleteFunc(slices.Clone(f.words), func(w string) bool { return strings.HasSuffix(w, ":N") })
	return nearest(text, literal)
}

// isPath reports whether a text of this field, unless it is one of the words, is a path.
func (f field) isPath() bool { return f.kind == "path" || f.kind == "template" || f.kind == "resume" }

// typeName names the type for people.
func (f field) typeName() string {
	switch {
	case f.what == stringList && f.isPath():
		return "list of paths"
	case f.what == stringList:
		return "list"
	case f.what.Kind() == reflect.Int:
		return "integer"
	case f.what.Kind() == reflect.Float64:
		return "number"
	case f.what.Kind() == reflect.Bool:
		return "boolean"
	case f.kind == "path":
		return "path"
	case f.kind != "":
		return "word or path"
	}
	return "word"
}

// allowed says what may stand here.
func (f field) allowed() string {
	switch f.what.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Float64:
		text := "a number"
		if f.what.Kind() == reflect.Int {
			text = "an integer"
		}
		var limits []string
		for _, b := range f.bounds {
			limits = append(limits, b.String())
		}
		if len(limits) > 0 {
			text += ", " + strings.Join(limits, " and ")
		}
		return text
	case reflect.Slice:
		switch f.kind {
		case "freeze":
			return "a list of " + freezable
		case "report":
			return "a list of " + reportable
		case "path":
			return "a list of paths"
		}
		return "a list"
	}
	switch {
	case f.kind == "path":
		return "a path"
	case f.kind != "":
		return strings.Join(f.words, ", ") + ", or a path"
	case len(f.words) > 0:
		return "one of " + strings.Join(f.words, ", ")
	}
	return "text"
}

// Keys lists every setting, such as train.learning_rate, in the schema's order.
func Keys() []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

// Variable is the environment variable that sets a key, such as
// RMTRAIN_TRAIN_LEARNING_RATE.
func Variable(key string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func findField(key string) (field, bool) {
	for _, f := range fields {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// fieldsOf lists the settings of a group.
func fieldsOf(group string) []field {
	var all []field
	for _, f := range fields {
		if f.group == group {
			all = append(all, f)
		}
	}
	return all
}

// groups lists the groups in order; "" holds the settings at the top.
func groups() []string {
	var all []string
	for _, f := range fields {
		if len(all) == 0 || all[len(all)-1] != f.group {
			all = append(all, f.group)
		}
	}
	return all
}
