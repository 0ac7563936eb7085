package configs

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

func TestReferenceIsWritten(t *testing.T) {
	const path = "../docs/configuration.md"
	if *update {
		if err := os.WriteFile(path, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != Reference() {
		t.Error("docs/configuration.md is not what the schema says (write it with: go test ./configs -update)")
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	for _, f := range fields {
		if f.doc == "" || f.name == "" || strings.ToLower(f.key) != f.key {
			t.Errorf("%s has no doc or a bad name", f.key)
		}
		for _, tag := range []string{"min", "max", "above", "below"} {
			if number := f.what.Kind() == reflect.Int || f.what.Kind() == reflect.Float64; !number && len(f.bounds) > 0 {
				t.Errorf("%s is no number, but has a limit %s", f.key, tag)
			}
		}
	}
	for _, r := range rules {
		for _, key := range r.keys {
			if _, ok := findField(key); !ok {
				t.Errorf("a rule names the unknown key %s", key)
			}
		}
	}
	if len(Keys()) != len(fields) || !slices.Contains(Keys(), "train.learning_rate") || Variable("train.learning_rate") != "RMTRAIN_TRAIN_LEARNING_RATE" {
		t.Errorf("keys are %v", Keys())
	}
}

// reload writes a run and reads it back.
func reload(t testing.TB, run *Run) (*Run, string) {
	t.Helper()
	text, err := run.YAML()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "elsewhere.yaml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := Load(LoadOptions{File: path})
	if err != nil {
		t.Fatalf("%v\nof\n%s", err, text)
	}
	return again, string(text)
}

func TestPrintedConfigurationGivesTheSameRun(t *testing.T) {
	for _, o := range []LoadOptions{
		{File: "nectar.yaml"}, {File: "llama2-7b.yaml"}, {File: "example.yaml"},
		{File: "example.yaml", Sets: []string{"train.output_dir= a # b: [1] 'x' \"y\" é\n ", "data.cache=~", "train.freeze=3,0-1,norm", "train.learning_rate=0.1234567890123", "loss.type=top_m_plackett_luce", "loss.m=2"}},
		{File: "example.yaml", Sets: []string{`data.train=["true", "12", "a\nb"]`, "model.name_or_path=org/name"}},
	} {
		run := mustLoad(t, o)
		if again, text := reload(t, run); !reflect.DeepEqual(again, run) {
			t.Errorf("%v: got\n%+v\nwant\n%+v\nfrom\n%s", o, again, run, text)
		}
	}
}

func TestPrintedConfigurationHasOrderAndComments(t *testing.T) {
	_, text := reload(t, mustLoad(t, LoadOptions{File: "example.yaml"}))
	at := -1
	for _, f := range fields {
		want := "# " + f.doc + "\n"
		if f.group != "" {
			want += "  "
		}
		want += f.name + ":"
		next := strings.Index(text, want)
		if next <= at {
			t.Errorf("%s is missing or out of order in\n%s", f.key, text)
		}
		at = next
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(required)
	for _, name := range Recipes() {
		text, _ := Recipe(name)
		f.Add(string(text))
	}
	f.Add("a: &a [*a]\nmodel: *a\n? {x: y}\n: 1\n")
	f.Add("model: {name_or_path: !!binary aGk=, dtype: !x y}\n<<: {device: cpu}\ntrain: {freeze: [!!null x, 3]}")
	f.Fuzz(func(t *testing.T, text string) {
		l := newLoader()
		readable := l.readYAML([]byte(text), "/folder/run.yaml")
		run, err := l.finish(readable)
		if err != nil {
			var list *Error
			if run != nil || !errors.As(err, &list) || strings.Count(err.Error(), "\n") != len(list.Problems) {
				t.Fatalf("not a list of problems, one a line: %v", err)
			}
			return
		}
		if again, _ := reload(t, run); !reflect.DeepEqual(again, run) {
			t.Fatalf("got\n%+v\nwant\n%+v", again, run)
		}
	})
}

func FuzzSet(f *testing.F) {
	f.Add("train.output_dir", "a\u0085b\ufeff")
	f.Add("data.eval", `["a,b", 'c', d]`)
	f.Add("train.freeze", "3,embed")
	f.Add("train.learning_rate", "-0")
	f.Add("loss.m", "00000000000000000000000000000001e0")
	path := write(f, required)
	f.Fuzz(func(t *testing.T, key, text string) {
		run, err := Load(LoadOptions{File: path, Sets: []string{key + "=" + text}})
		if err != nil {
			return
		}
		if again, _ := reload(t, run); !reflect.DeepEqual(again, run) {
			t.Fatalf("got\n%+v\nwant\n%+v", again, run)
		}
	})
}
