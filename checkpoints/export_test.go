package checkpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// sources turns values by name into tensors to write, in bf16.
func sources(t *testing.T, d *Dir, head []byte) []Tensor {
	t.Helper()
	values := readAll(t, d, "BF16")
	if head != nil {
		values[headName] = head
	}
	var list []Tensor
	for _, name := range slices.Sorted(maps.Keys(values)) {
		shape := []int{1, 8}
		if name != headName {
			shape = d.tensors[name].shape
		}
		list = append(list, source(name, "BF16", shape, values[name]))
	}
	return list
}

func source(name, dtype string, shape []int, data []byte) Tensor {
	return Tensor{Name: name, DType: dtype, Shape: shape, Read: func(dst []byte, off int64) error {
		if n := copy(dst, data[off:]); n != len(dst) {
			return errors.New("asked for more than there is")
		}
		return nil
	}}
}

// exportOf is a reward model made of golden's base model.
func exportOf(t *testing.T, dialect string) Export {
	t.Helper()
	d := mustOpen(t, golden+"base")
	return Export{
		Dialect: dialect, Config: d.Config, PadID: 3, DType: "BF16",
		Meta:    Meta{Version: "test", Step: 9, Digests: map[string]string{"data": "abc", "model-00001-of-00099.safetensors": "of another folder"}},
		Files:   []File{{"tokenizer.json", []byte("{\"a\":\r\n1}\x00")}, {"README.md", []byte("# card\n")}},
		Tensors: sources(t, d, bytes.Repeat([]byte{0x80, 0x3f}, 8)),
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBothDialectsRoundTrip(t *testing.T) {
	for _, dialect := range []string{HuggingFace, Starling} {
		for _, maxShard := range []int64{0, 1000, 1} {
			e := exportOf(t, dialect)
			e.MaxShard = maxShard
			path := filepath.Join(t.TempDir(), "new", "model")
			if err := Write(path, e); err != nil {
				t.Fatal(err)
			}
			d := mustOpen(t, path)
			if err := d.Check(goldenWant()); err != nil {
				t.Fatal(err)
			}
			if d.Dialect != dialect || len(d.Notes) != 0 {
				t.Errorf("dialect %s, notes %q", d.Dialect, d.Notes)
			}
			if d.Meta == nil || d.Meta.Step != 9 || d.Meta.Digests["data"] != "abc" || len(d.Meta.Digests) != 1+len(d.shards) {
				t.Errorf("meta %+v for shards %v", d.Meta, d.shards)
			}
			got := readAll(t, d, "BF16")
			for _, x := range e.Tensors {
				want := make([]byte, len(got[x.Name]))
				if err := x.Read(want, 0); err != nil || len(want) == 0 || !bytes.Equal(got[x.Name], want) {
					t.Errorf("%s differs (%v)", x.Name, err)
				}
			}
			for _, f := range e.Files {
				if b, err := os.ReadFile(filepath.Join(path, f.Name)); err != nil || !bytes.Equal(b, f.Data) {
					t.Errorf("%s is %q (%v)", f.Name, b, err)
				}
			}
			s, err := Inspect(path)
			if err != nil || s.Integrity != Verified || s.Kind != KindReward || s.Parameters != parametersOf(goldenWant()) {
				t.Errorf("summary %+v, %v", s, err)
			}
			if rest := list(t, filepath.Dir(path)); len(rest) != 1 {
				t.Errorf("left beside the model: %v", rest)
			}
		}
	}
}

func parametersOf(want []Want) int64 {
	total := int64(0)
	for _, w := range want {
		n := 1
		for _, d := range w.Shape {
			n *= d
		}
		total += int64(n)
	}
	return total
}

func TestShardsKeepTheirLimitAndHaveAnIndex(t *testing.T) {
	e := exportOf(t, HuggingFace)
	e.MaxShard = 1000
	path := filepath.Join(t.TempDir(), "m")
	if err := Write(path, e); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(path, safeIndexName))
	if err != nil {
		t.Fatal(err)
	}
	var x struct {
		Metadata struct {
			TotalSize int64 `json:"total_size"`
		}
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	if want := 2 * parametersOf(goldenWant()); x.Metadata.TotalSize != want || len(x.WeightMap) != len(goldenWant()) {
		t.Errorf("index says %d bytes in %d tensors, want %d", x.Metadata.TotalSize, len(x.WeightMap), want)
	}
	d := mustOpen(t, path)
	sizes := map[string]int64{}
	for name, file := range x.WeightMap {
		sizes[file] += d.tensors[name].bytes.Size()
	}
	for file, size := range sizes {
		if size > e.MaxShard {
			t.Errorf("%s has %d bytes", file, size)
		}
	}
	if !slices.Contains(list(t, path), "model-00001-of-0000"+string(rune('0'+len(sizes)))+".safetensors") {
		t.Errorf("files %v", list(t, path))
	}
}

func TestConfigIsAdaptedAndOtherwiseKept(t *testing.T) {
	base := `{"architectures": ["%C"], "z_unknown": {"b": 1.50, "a": [1e-05]}, "model_type": "%T", "auto_map": {"AutoModel": "x.Y"},
		"pad_token_id": null, "torch_dtype": "float16", "num_labels": 2, "tie_word_embeddings": true, "use_cache": true, "rope_theta": 5000000.0}`
	tests := []struct {
		name, config, dialect string
		pad                   int32
		want                  []string
		absent                []string
	}{
		{"llama", strings.NewReplacer("%C", "LlamaForCausalLM", "%T", "llama").Replace(base), HuggingFace, 0,
			[]string{`"architectures":["LlamaForSequenceClassification"]`, `"z_unknown":{"b":1.50,"a":[1e-05]}`, `"pad_token_id":0`,
				`"torch_dtype":"bfloat16"`, `"id2label":{"0":"LABEL_0"}`, `"label2id":{"LABEL_0":0}`, `"problem_type":"regression"`,
				`"tie_word_embeddings":true`, `"use_cache":true`, `"rope_theta":5000000.0`},
			[]string{"auto_map", "num_labels", `"dtype"`}},
		{"mistral", strings.NewReplacer("%C", "MistralForCausalLM", "%T", "mistral").Replace(base), HuggingFace, -1,
			[]string{`"architectures":["MistralForSequenceClassification"]`, `"pad_token_id":null`}, nil},
		{"qwen2", strings.NewReplacer("%C", "Qwen2ForCausalLM", "%T", "qwen2").Replace(base), Starling, 7,
			[]string{`"architectures":["Qwen2ForSequenceClassification"]`, `"pad_token_id":7`}, []string{"id2label"}},
		{"transformers 5", `{"dtype": "float32", "model_type": "llama"}`, HuggingFace, -1,
			[]string{`{"dtype":"bfloat16","model_type":"llama","architectures"`}, []string{"torch_dtype", "pad_token_id"}},
		{"base", `{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}`, Base, -1,
			[]string{`"architectures":["LlamaForCausalLM"],"torch_dtype":"bfloat16"`}, []string{"id2label"}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			b, err := adaptConfig(Export{Config: []byte(c.config), Dialect: c.dialect, PadID: c.pad, DType: "bfloat16"})
			if err != nil {
				t.Fatal(err)
			}
			var flat bytes.Buffer
			if err := json.Compact(&flat, b); err != nil {
				t.Fatal(err)
			}
			for _, w := range c.want {
				if !strings.Contains(flat.String(), w) {
					t.Errorf("config %s does not contain %s", flat.String(), w)
				}
			}
			for _, a := range c.absent {
				if strings.Contains(flat.String(), a) {
					t.Errorf("config %s contains %s", flat.String(), a)
				}
			}
		})
	}
	for config, want := range map[string]string{
		`{"model_type": "gpt2"}`: `"gpt2"`, `{}`: "no model_type", `[]`: "not a JSON object", `{"a":`: "config.json",
	} {
		_, err := adaptConfig(Export{Config: []byte(config), Dialect: HuggingFace, PadID: -1})
		wantError(t, err, want)
	}
	_, err := adaptConfig(Export{Config: []byte(`{"model_type": "llama"}`), Dialect: HuggingFace, DType: "I64"})
	wantError(t, err, `"I64"`)
}

// FuzzConfig checks that an adapted config.json stays JSON and keeps unknown keys.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"model_type": "llama", "x": [1e-05, "a"], "dtype": "float16"}`))
	f.Add([]byte(`{"model_type": "qwen2", "model_type": "mistral", "\u00e9": {}}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		adapted, err := adaptConfig(Export{Config: config, Dialect: HuggingFace, PadID: 1, DType: "F32"})
		if err != nil {
			return
		}
		var was, is map[string]json.RawMessage
		if err := json.Unmarshal(config, &was); err != nil {
			t.Fatalf("accepted %q: %v", config, err)
		}
		if err := json.Unmarshal(adapted, &is); err != nil {
			t.Fatalf("%s: %v", adapted, err)
		}
		for key := range was {
			if _, ok := is[key]; !ok && key != "auto_map" && key != "num_labels" {
				t.Errorf("key %q is lost", key)
			}
		}
	})
}

func TestWriteRefusesMistakes(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Export)
		want   string
	}{
		{"dialect", func(e *Export) { e.Dialect = "other" }, `dialect "other"`},
		{"no head", func(e *Export) { e.Tensors = e.Tensors[:1] }, "no score.weight"},
		{"lm head", func(e *Export) { e.Tensors[0].Name = lmHeadName }, "lm_head.weight is neither"},
		{"twice", func(e *Export) { e.Tensors[0] = e.Tensors[1] }, "is there twice"},
		{"dtype", func(e *Export) { e.Tensors[0].DType = "F33" }, "F33"},
		{"file outside", func(e *Export) { e.Files[0].Name = "../x" }, "not the name of a file"},
		{"file twice", func(e *Export) { e.Files[0].Name = "README.md" }, "taken"},
		{"file of the model", func(e *Export) { e.Files[0].Name = configName }, "taken"},
		{"config", func(e *Export) { e.Config = nil }, "not valid JSON"},
		{"failing source", func(e *Export) {
			e.Tensors[5].Read = func([]byte, int64) error { return errors.New("device lost") }
		}, "device lost"},
		{"full disk", func(e *Export) {
			e.Tensors[5].Read = func([]byte, int64) error { return &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC} }
		}, "disk is full"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			e := exportOf(t, HuggingFace)
			c.change(&e)
			parent := t.TempDir()
			wantError(t, Write(filepath.Join(parent, "m"), e), c.want)
			if rest := list(t, parent); len(rest) != 0 {
				t.Errorf("left behind: %v", rest)
			}
			e.Into = true
			wantError(t, Write(parent, e), c.want)
			if rest := list(t, parent); len(rest) != 0 {
				t.Errorf("left behind: %v", rest)
			}
		})
	}
}

func TestWriteOverwritesNothing(t *testing.T) {
	e := exportOf(t, HuggingFace)
	dir := t.TempDir()
	wantError(t, Write(dir, e), "exists", "choose another folder")
	file := filepath.Join(dir, "file")
	put(t, file, []byte("mine"))
	wantError(t, Write(file, e), "exists")
	wantError(t, Write(filepath.Join(file, "m"), e), "is a file")
	e.Into = true
	wantError(t, Write(file, e), "is a file")
	wantError(t, Write(filepath.Join(dir, "absent"), e), "no such folder")
	if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
		t.Errorf("file is %q, %v", b, err)
	}
}

func TestReadOnlyFolderIsExplained(t *testing.T) {
	if os.Getuid() == 0 {
		wantError(t, explain(&fs.PathError{Op: "open", Path: "x", Err: syscall.EROFS}), "cannot be written")
		wantError(t, explain(&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}), "cannot be written")
		return // root may write everywhere
	}
	parent := t.TempDir()
	if err := os.Chmod(parent, 0o555); err != nil {
		t.Fatal(err)
	}
	wantError(t, Write(filepath.Join(parent, "m"), exportOf(t, HuggingFace)), "cannot be written")
	_, err := SaveState(parent, 1, []byte(`{}`), nil)
	wantError(t, err, "cannot be written")
}

func TestIntoAddsAModelToARun(t *testing.T) {
	run := t.TempDir()
	put(t, filepath.Join(run, "metrics.jsonl"), []byte("{}\n"))
	put(t, filepath.Join(run, "README.md"), []byte("draft"))
	put(t, filepath.Join(run, tempModel+"old", "x"), nil)
	if _, err := SaveState(run, 5, []byte(`{}`), nil); err != nil {
		t.Fatal(err)
	}
	e := exportOf(t, Starling)
	e.Into, e.MaxShard = true, 1000
	if err := Write(run, e); err != nil {
		t.Fatal(err)
	}
	first := list(t, run)
	if slices.ContainsFunc(first, func(n string) bool { return strings.HasPrefix(n, "tmp-") || n == incompleteName }) {
		t.Errorf("left behind: %v", first)
	}
	if d := mustOpen(t, run); d.Check(goldenWant()) != nil || d.Dialect != Starling {
		t.Errorf("dialect %s: %v", d.Dialect, d.Check(goldenWant()))
	}
	if b, err := os.ReadFile(filepath.Join(run, "README.md")); err != nil || string(b) != "# card\n" {
		t.Errorf("card %q, %v", b, err)
	}
	if s, err := Inspect(run); err != nil || !reflect.DeepEqual(s.States, []int{5}) || s.Kind != KindReward {
		t.Errorf("summary %+v, %v", s, err)
	}

	wantError(t, Write(run, e), "a model is here already", configName)

	e.Overwrite, e.MaxShard, e.Dialect = true, 0, HuggingFace
	if err := Write(run, e); err != nil {
		t.Fatal(err)
	}
	if d := mustOpen(t, run); d.Dialect != HuggingFace || !slices.Equal(d.shards, []string{safeName}) {
		t.Errorf("dialect %s in %v", d.Dialect, d.shards)
	}
	if got := list(t, run); slices.ContainsFunc(got, func(n string) bool { return strings.HasPrefix(n, "model-") || n == safeIndexName }) {
		t.Errorf("shards of the model before are left: %v", got)
	}
}

func TestInterruptedIntoIsFinishedByTheNext(t *testing.T) {
	run := t.TempDir()
	put(t, filepath.Join(run, incompleteName), nil)
	put(t, filepath.Join(run, safeName), []byte("half"))
	e := exportOf(t, HuggingFace)
	e.Into = true
	if err := Write(run, e); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, run).Check(goldenWant()); err != nil {
		t.Error(err)
	}
}

func TestBaseModelIsWrittenAsItIs(t *testing.T) {
	d := mustOpen(t, golden+"base")
	path := filepath.Join(t.TempDir(), "base")
	tensors := append(sources(t, d, nil), source(lmHeadName, "BF16", []int{16, 8}, make([]byte, 256)))
	if err := Write(path, Export{Dialect: Base, Config: d.Config, PadID: -1, Tensors: tensors}); err != nil {
		t.Fatal(err)
	}
	got := mustOpen(t, path)
	if got.Dialect != Base || got.Meta != nil || !strings.Contains(strings.Join(got.Notes, ""), lmHeadName) {
		t.Errorf("dialect %s, meta %v, notes %q", got.Dialect, got.Meta, got.Notes)
	}
	var was, is any
	if err := errors.Join(json.Unmarshal(d.Config, &was), json.Unmarshal(got.Config, &is)); err != nil || !reflect.DeepEqual(was, is) {
		t.Errorf("config %s, want %s (%v)", got.Config, d.Config, err)
	}
}
