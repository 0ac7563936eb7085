package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rmtrain/configs"
)

func TestCommandLineMistakesSayWhatWasMeant(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args  string
		parts string // divided by |
	}{
		{"", "Available Commands|no --config FILE given|rmtrain example DIR"},
		{"exprot", "exprot is not a command|did you mean export"},
		{"nonsense", "nonsense is not a command|export"},
		{"run.yaml", "rmtrain --config run.yaml"},
		{"--confg x", "--confg|rmtrain --help"},
		{"--config nix.yaml", "nix.yaml|no such file"},
		{"--config x.yaml --dry-run --print-config", "dry-run|print-config"},
		{"export --model x", "--output is missing"},
		{"export --model x --output y --to gguf", "gguf|huggingface|starling"},
		{"export --model nix --output y", "nix"},
		{"infer", "--checkpoint is missing"},
		{"inspect", "give the folder of one checkpoint|rmtrain inspect --help"},
		{"inspect nix", "nix|no such folder"},
		{"data", "give files of ranked answers|rmtrain data --help"},
		{"data nix", "nix|no such file"},
		{"example", "give one folder to create|rmtrain example --help"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			r := fails(t, strings.Fields(c.args), strings.Split(c.parts, "|")...)
			if r.stdout != "" {
				t.Errorf("standard output: %s", r.stdout)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	if out := ok(t, "--version"); !strings.Contains(out, "rmtrain version "+version) {
		t.Errorf("version: %s", out)
	}
	for _, c := range command().Commands() {
		if c.Hidden || c.Name() == "completion" {
			continue
		}
		if out := ok(t, c.Name(), "--help"); !strings.Contains(out, "Usage:\n  rmtrain "+c.Name()) {
			t.Errorf("help of %s:\n%s", c.Name(), out)
		}
	}
}

func TestShellCompletionKnowsTheSettings(t *testing.T) {
	t.Parallel()
	out := ok(t, "__complete", "--set", "")
	for _, key := range configs.Keys() {
		if !strings.Contains(out, key+"=\n") {
			t.Errorf("%s is not offered", key)
		}
	}
}

// All mistakes of a configuration are told at once, each with its key, its value,
// what is allowed and what was probably meant.
func TestConfigurationMistakesAreListedTogether(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "run.yaml")
	text := "model: {name_or_path: ./m}\ntrain: {learning_rat: 1e-5, max_steps: 1.5, output_dir: ./o}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := runWith(t, []string{"RMTRAIN_TRAIN_SEEED=1"}, "--config", file, "--set", "loss.type=plackett_luce_", "--set", "device=tpu")
	mustFail(t, r, "6 mistakes", "learning_rate", "max_steps", "1.5", "RMTRAIN_TRAIN_SEED", "plackett_luce", "data.train", "tpu")
}

// What the configuration cannot know is found before anything is read, and also
// told at once.
func TestMistakesAreFoundBeforeTheDataIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := fails(t, training(t, dir, "device=cuda", "data.train="+filepath.Join(dir, "none.parquet"), "data.eval="+filepath.Join(dir, "no.jsonl"), "model.name_or_path="+filepath.Join(dir, "no-model")),
		"nothing was started", "device cuda", "none.parquet", "no.jsonl", "no-model")
	if r.stdout != "" {
		t.Errorf("it began:\n%s", r.stdout)
	}
	for setting, part := range map[string]string{
		"train.freeze=7":                      "layers 0-1",
		"data.max_length=4096":                "max_position_embeddings 1024",
		"data.chat_template=" + dir:           "chat_template",
		"train.resume_from_checkpoint=" + dir: "no complete training state",
	} {
		settings := []string{setting}
		if strings.HasPrefix(setting, "data.max_length") {
			settings = append(settings, "train.max_tokens_per_batch=4096")
		}
		if r := fails(t, training(t, filepath.Join(dir, "out"), settings...), part); strings.Contains(r.stdout, "training data") {
			t.Errorf("%s was refused after the data was read", setting)
		}
	}
	model := filepath.Join(dir, "model")
	if err := writeModel(model, "text", nil); err != nil {
		t.Fatal(err)
	}
	config := bytes.Replace(read(t, model, "config.json"), []byte(`"num_hidden_layers": 2`), []byte(`"num_hidden_layers": 3`), 1)
	if err := os.WriteFile(filepath.Join(model, "config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := fails(t, training(t, filepath.Join(dir, "out"), "model.name_or_path="+model), "missing", "model.layers.2.mlp.up_proj.weight"); strings.Contains(r.stdout, "training data") {
		t.Error("missing tensors were found after the data was read")
	}
	few := filepath.Join(dir, "few")
	if err := writeModel(few, "text", map[string]any{"vocab_size": 100}); err != nil {
		t.Fatal(err)
	}
	if r := fails(t, training(t, filepath.Join(dir, "out"), "model.name_or_path="+few), "train.parquet", "beyond the model's vocab_size 100"); strings.Contains(r.stdout, "ready to train") {
		t.Error("tokens beyond the model's were found only in training")
	}
	broken := filepath.Join(dir, "broken.jinja")
	if err := os.WriteFile(broken, []byte("{% for m in messages %}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := fails(t, training(t, filepath.Join(dir, "out"), "data.chat_template="+broken), "template"); strings.Contains(r.stdout, "training data") {
		t.Error("a broken template was refused after the data was read")
	}
}

func TestPrintedConfigurationIsTheConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := append(training(t, filepath.Join(dir, "out"), "train.learning_rate=2e-5"), "--print-config")
	r := runWith(t, []string{"RMTRAIN_TRAIN_SEED=7", "RMTRAIN_TRAIN_LEARNING_RATE=1"}, args...)
	if r.status != 0 || !strings.Contains(r.stdout, "learning_rate: 2e-05") || !strings.Contains(r.stdout, "seed: 7") {
		t.Fatalf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	file := filepath.Join(dir, "elsewhere.yaml")
	if err := os.WriteFile(file, []byte(r.stdout), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := ok(t, "--config", file, "--print-config"); again != r.stdout {
		t.Errorf("read back and printed it is\n%s\nand was\n%s", again, r.stdout)
	}
}

func TestDryRunPlansAndStops(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	got := ok(t, append(training(t, out), "--dry-run")...)
	for _, line := range []string{
		`training data`, `groups +40\n`, `model +\S+/model\n`, `114 k parameters in float32 on cpu`,
		`steps +4 of 8 groups each, 5 in an epoch`, `memory\n`, ` activations +\d+\.\d MiB\n`, ` total +\d+\.\d MiB\n`,
	} {
		if !regexp.MustCompile(line).MatchString(got) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("it made the output folder")
	}
	if n := strings.Count(got, "lm_head"); n != 1 {
		t.Errorf("the note on lm_head stands there %d times", n)
	}
	always := ok(t, append(training(t, out, "train.recompute=always"), "--dry-run")...)
	if !strings.Contains(always, "recomputed") || strings.Contains(got, "recomputed") {
		t.Errorf("recomputing is not told apart:\n%s", always)
	}
}

func TestDataReportsEveryFindingByItsRow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "rows.jsonl")
	rows := []string{
		`{"prompt": "a", "answers": [{"answer": "x", "rank": 1}, {"answer": "y", "rank": 2}]}`,
		`{"prompt": "b", "answers": [{"answer": "x", "rank": 1}]}`,
		`not JSON`,
		`{"prompt": "c", "answers": [{"answer": "x", "rank": 1}, {"answer": "x", "rank": 1}, {"answer": "", "rank": 5}]}`,
	}
	if err := os.WriteFile(file, []byte(strings.Join(rows, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var report struct {
		Groups   int
		Rows     int
		Findings []struct {
			Kind string
			Row  int
			File string
		}
	}
	if err := json.Unmarshal([]byte(ok(t, "data", "--json", dir)), &report); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range report.Findings {
		found[fmt.Sprint(f.Row, " ", f.Kind)] = f.File == file
	}
	for _, want := range []string{"2 bad_row", "3 bad_row", "4 odd_ranks", "4 tied_ranks", "4 empty_answer", "4 duplicate_answer"} {
		if !found[want] {
			t.Errorf("no finding %q among %v", want, report.Findings)
		}
	}
	if report.Groups != 2 || report.Rows != 4 {
		t.Errorf("%d groups of %d rows", report.Groups, report.Rows)
	}
	if table := ok(t, "data", file); !strings.Contains(table, "row 3  ") {
		t.Errorf("table:\n%s", table)
	}
	if err := os.WriteFile(file, []byte("not JSON\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := fails(t, []string{"data", "--json", file}, "none of 1 rows is usable", file+":1")
	if r.stdout != "" || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("standard output %q, error %q: want one clear error", r.stdout, r.stderr)
	}
}

// Finished texts need no template, and a model trained on them refuses conversations.
func TestFinishedTextsTrainWithoutATemplate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var lines bytes.Buffer
	for i := range 12 {
		fmt.Fprintf(&lines, `{"texts": ["<s> text %d: good", "<s> text %d: bad", "<s> text %d: worse"], "ranks": [1, 2, 3]}`+"\n", i, i, i)
	}
	file := filepath.Join(dir, "texts.jsonl")
	if err := os.WriteFile(file, lines.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out := trained(t, "data.train="+file, "data.chat_template=none", "train.prompts_per_step=4", "data.eval_prompts=2", "data.eval=[]")
	input := filepath.Join(dir, "in.jsonl")
	requests := `{"text": "<s> text 1: good"}` + "\n" + `{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}` + "\n"
	if err := os.WriteFile(input, []byte(requests), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, "infer", "--checkpoint", out, "--input", input)
	answers := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if r.status != 1 || len(answers) != 2 || !strings.Contains(answers[0], `"score"`) || !strings.Contains(answers[1], "chat_template is none") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	// Conversations cannot be trained on either.
	fails(t, training(t, filepath.Join(dir, "o"), "data.chat_template=none"), "chat_template is none")
}
