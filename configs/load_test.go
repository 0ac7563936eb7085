package configs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// required is a file that gives what has no default, and no more.
const required = `
model: {name_or_path: ./model}
data: {train: [train.parquet]}
train: {output_dir: out}
`

// write puts a file into a new folder.
func write(t testing.TB, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t testing.TB, o LoadOptions) *Run {
	t.Helper()
	run, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestRecipesLoad(t *testing.T) {
	if want := []string{"example", "llama2-7b", "nectar"}; !reflect.DeepEqual(Recipes(), want) {
		t.Fatalf("recipes are %v, want %v", Recipes(), want)
	}
	for _, name := range Recipes() {
		embedded, ok := Recipe(name)
		file, err := os.ReadFile(name + ".yaml")
		if !ok || err != nil || string(embedded) != string(file) {
			t.Errorf("%s: the embedded recipe is not the file (%v)", name, err)
		}
		mustLoad(t, LoadOptions{File: name + ".yaml"})
	}
	nectar := mustLoad(t, LoadOptions{File: "nectar.yaml"})
	if nectar.Model.NameOrPath != "01-ai/Yi-34B-Chat" || nectar.Train.LRSchedulerType != "constant_with_log_warmup" || nectar.Train.WarmupSteps != 100 {
		t.Errorf("nectar.yaml gives %+v", nectar)
	}
	if _, ok := Recipe("nectar.yaml"); !ok {
		t.Error("a recipe is not found under the name of its file")
	}
	if _, ok := Recipe("../configs/nectar"); ok {
		t.Error("a path is taken for a recipe")
	}
}

func TestDefaults(t *testing.T) {
	path := write(t, required)
	got := mustLoad(t, LoadOptions{File: path})
	want := Default()
	dir := filepath.Dir(path)
	want.Model.NameOrPath = filepath.Join(dir, "model")
	want.Data.Train = []string{filepath.Join(dir, "train.parquet")}
	want.Train.OutputDir = filepath.Join(dir, "out")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.Data.MaxLength != 2048 || got.Train.LearningRate != 1e-5 || !got.Train.SharePrefix || got.Device != "auto" || got.Train.MaxSteps != -1 {
		t.Errorf("%+v", got)
	}
}

func TestSetOverridesEnvironmentOverridesFileOverridesDefault(t *testing.T) {
	o := LoadOptions{File: write(t, required)}
	rate := func() float64 { return mustLoad(t, o).Train.LearningRate }
	if got := rate(); got != 1e-5 {
		t.Errorf("by default %v", got)
	}
	o.File = write(t, strings.Replace(required, "output_dir: out", "output_dir: out, learning_rate: 1", 1))
	if got := rate(); got != 1 {
		t.Errorf("from the file %v", got)
	}
	o.Environ = []string{"HOME=/", "RMTRAIN_TRAIN_LEARNING_RATE=2e0", "RMTRAIN_CPU=avx2", "RMTRAIN_REALDATA=x", "RMTRAIN_REQUIRE=cuda", "RMTRAIN_TRAIN_SEED="}
	if got := rate(); got != 2 {
		t.Errorf("from the environment %v", got)
	}
	o.Sets = []string{"train.learning_rate=3"}
	if got := rate(); got != 3 {
		t.Errorf("from --set %v", got)
	}
	o.Sets = append(o.Sets, "train.learning_rate = 4")
	if got := rate(); got != 4 {
		t.Errorf("from the second --set %v", got)
	}
}

func TestEverythingWithoutAFile(t *testing.T) {
	run := mustLoad(t, LoadOptions{
		Environ: []string{"RMTRAIN_MODEL_NAME_OR_PATH=org/name", "RMTRAIN_DATA_TRAIN=a.parquet, b.jsonl", "RMTRAIN_DEVICE=cpu"},
		Sets:    []string{"train.output_dir=out", `train.freeze=embed,0-3`, `data.eval=["c,d.jsonl"]`, "train.share_prefix=false"},
	})
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(wd, "a.parquet"), filepath.Join(wd, "b.jsonl")}; !reflect.DeepEqual(run.Data.Train, want) {
		t.Errorf("data.train is %q, want %q", run.Data.Train, want)
	}
	if want := []string{filepath.Join(wd, "c,d.jsonl")}; !reflect.DeepEqual(run.Data.Eval, want) {
		t.Errorf("data.eval is %q, want %q", run.Data.Eval, want)
	}
	if want := []string{"embed", "0-3"}; !reflect.DeepEqual(run.Train.Freeze, want) {
		t.Errorf("train.freeze is %q, want %q", run.Train.Freeze, want)
	}
	if run.Model.NameOrPath != "org/name" || run.Device != "cpu" || run.Train.SharePrefix {
		t.Errorf("%+v", run)
	}
}

func TestSpellingsOfValues(t *testing.T) {
	path := write(t, `
model: {name_or_path: "2024", dtype: float32}
data:
  train: one.parquet # a list of one
  max_length: 1e3
  seed: 010
loss:
train:
  output_dir: 2024-01-02
  learning_rate: 1
  num_train_epochs: .5
  freeze: [3, 0-1, norm]
  load_best_model_at_end: False
`)
	run := mustLoad(t, LoadOptions{File: path})
	dir := filepath.Dir(path)
	if run.Model.NameOrPath != filepath.Join(dir, "2024") || run.Train.OutputDir != filepath.Join(dir, "2024-01-02") {
		t.Errorf("paths are %q and %q", run.Model.NameOrPath, run.Train.OutputDir)
	}
	if !reflect.DeepEqual(run.Data.Train, []string{filepath.Join(dir, "one.parquet")}) || !reflect.DeepEqual(run.Train.Freeze, []string{"3", "0-1", "norm"}) {
		t.Errorf("lists are %q and %q", run.Data.Train, run.Train.Freeze)
	}
	if run.Data.MaxLength != 1000 || run.Data.Seed != 10 || run.Train.LearningRate != 1 || run.Train.NumTrainEpochs != 0.5 {
		t.Errorf("numbers are %v, %v, %v and %v", run.Data.MaxLength, run.Data.Seed, run.Train.LearningRate, run.Train.NumTrainEpochs)
	}
}

func TestPaths(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	path := write(t, strings.NewReplacer("./model", "org/name", "train.parquet", "~/train.parquet", "output_dir: out", "output_dir: /elsewhere/../out").Replace(required))
	dir := filepath.Dir(path)
	run := mustLoad(t, LoadOptions{File: path})
	if run.Model.NameOrPath != "org/name" {
		t.Errorf("a hub id became %q", run.Model.NameOrPath)
	}
	if run.Data.Train[0] != filepath.Join(home, "train.parquet") || run.Train.OutputDir != "/out" {
		t.Errorf("paths are %q and %q", run.Data.Train[0], run.Train.OutputDir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "org", "name"), 0o755); err != nil {
		t.Fatal(err)
	}
	if run := mustLoad(t, LoadOptions{File: path}); run.Model.NameOrPath != filepath.Join(dir, "org", "name") {
		t.Errorf("a folder that looks like a hub id became %q", run.Model.NameOrPath)
	}
	for name, want := range map[string]bool{"01-ai/Yi-34B-Chat": true, "./a/b": false, "a": false, "a/b/c": false, "../a": false, "/a/b": false, "org/name": false} {
		if got := IsHubID(name, dir); got != want {
			t.Errorf("IsHubID(%q) = %v", name, got)
		}
	}
}

func TestTemplateAndCheckpointMayBePaths(t *testing.T) {
	path := write(t, strings.Replace(required, "train.parquet]", "train.parquet], chat_template: run.yaml", 1))
	run := mustLoad(t, LoadOptions{File: path, Sets: []string{"train.resume_from_checkpoint=" + filepath.Dir(path)}})
	if run.Data.ChatTemplate != path || run.Train.ResumeFrom != filepath.Dir(path) {
		t.Errorf("%q and %q", run.Data.ChatTemplate, run.Train.ResumeFrom)
	}
}

// problems is the mistakes that Load lists.
func problems(t testing.TB, o LoadOptions) []string {
	t.Helper()
	run, err := Load(o)
	if err == nil {
		return nil
	}
	var list *Error
	if run != nil || !errors.As(err, &list) {
		t.Fatalf("Load gives %v, %v; want an *Error alone", run, err)
	}
	var all []string
	for _, p := range list.Problems {
		all = append(all, strings.ReplaceAll(p.String(), o.File, "run.yaml"))
	}
	return all
}

func TestPassesHoldTheLongestConversation(t *testing.T) {
	for _, c := range []struct{ setting, maxLength, want int }{
		{0, 512, 2048}, {0, 2048, 2048}, {0, 4096, 4096}, {300, 256, 300}, {16384, 2048, 16384},
	} {
		r := Run{Data: Data{MaxLength: c.maxLength}, Train: Train{MaxTokensPerBatch: c.setting}}
		if got := r.PassRows(); got != c.want {
			t.Errorf("max_tokens_per_batch %d with max_length %d: passes of %d rows, want %d", c.setting, c.maxLength, got, c.want)
		}
	}
}
