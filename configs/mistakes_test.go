package configs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// withTrain is required with more keys of train.
func withTrain(keys string) string { return withOutput("out, " + keys) }

func withOutput(value string) string {
	return strings.Replace(required, "output_dir: out", "output_dir: "+value, 1)
}

func TestMistakesInFiles(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"unknown nested key", required + "loss: {margni: 1}", []string{
			`loss.margni = 1 (run.yaml:5): unknown key; did you mean loss.margin?`}},
		{"unknown key without a near one", required + "loss: {gamma: 1}", []string{
			`loss.gamma = 1 (run.yaml:5): unknown key; the keys of loss are type, m, ties, normalization, margin, center_rewards_coefficient, label_smoothing`}},
		{"unknown group", required + "optimizer: {name: adam}", []string{
			`optimizer = {...} (run.yaml:5): unknown key; at the top there are model, data, loss, train, device`}},
		{"key in the wrong case", required + "Device: cpu", []string{
			`Device = "cpu" (run.yaml:5): unknown key; did you mean device?`}},
		{"key at the wrong place", required + "learning_rate: 3", []string{
			`learning_rate = 3 (run.yaml:5): unknown key; did you mean train.learning_rate?`}},
		{"key in the wrong group", required + "loss: {learning_rate: 3}", []string{
			`loss.learning_rate = 3 (run.yaml:5): unknown key; did you mean train.learning_rate?`}},
		{"key with other punctuation", required + "train_learning-rate: 3", []string{
			`train_learning-rate = 3 (run.yaml:5): unknown key; did you mean train.learning_rate?`}},
		{"group misspelt", required + "los: {margin: 3}", []string{
			`los = {...} (run.yaml:5): unknown key; did you mean loss?`}},
		{"key of another program", required + "per_device_train_batch_size: 3", []string{
			`per_device_train_batch_size = 3 (run.yaml:5): unknown key; did you mean train.prompts_per_step?`}},
		{"key given twice", required + "device: cpu\ndevice: auto", []string{
			`device = "auto" (run.yaml:6): given twice; first in line 5`}},
		{"group given twice", required + "train: {seed: 1}", []string{
			`train = {...} (run.yaml:5): given twice; first in line 4`}},
		{"key that is no word", required + "[a]: 1", []string{
			`key = ["a"] (run.yaml:5): a key is a list; keys are words`}},
		{"text for a group", required + "loss: plackett_luce", []string{
			`loss = "plackett_luce" (run.yaml:5): is a text; loss is a group of keys`}},
		{"group for a value", required + "device: {name: cpu}", []string{
			`device = {...} (run.yaml:5): is a group of keys; allowed is one of auto, cpu, cuda, cuda:N`}},
		{"list for a word", required + "device: [cpu]", []string{
			`device = ["cpu"] (run.yaml:5): is a list; allowed is one of auto, cpu, cuda, cuda:N`}},
		{"fraction for an integer", required + "data.x: 1\nloss: {m: 1.9}", []string{
			`data.x = 1 (run.yaml:5): unknown key; the keys of data are train, eval, eval_prompts, max_length, truncation_side, chat_template, score_position, max_answers, on_bad_row, cache, seed`,
			`loss.m = 1.9 (run.yaml:6): has a fraction; allowed is an integer, at least 0`}},
		{"text for an integer", required + `loss: {m: "2"}`, []string{
			`loss.m = "2" (run.yaml:5): is text in quotes; allowed is an integer, at least 0, without quotes`}},
		{"word for an integer", required + "loss: {m: two}", []string{
			`loss.m = "two" (run.yaml:5): is not an integer; allowed is an integer, at least 0`}},
		{"integer that is too large", required + "loss: {m: 1e300}", []string{
			`loss.m = 1e300 (run.yaml:5): is too large; allowed is an integer, at least 0`}},
		{"number that is too large", required + "loss: {margin: 1e400}", []string{
			`loss.margin = "1e400" (run.yaml:5): is too large; allowed is a number, at least 0`}},
		{"not a number", required + "loss: {margin: .nan}", []string{
			`loss.margin = .nan (run.yaml:5): is not a number; allowed is a number, at least 0`}},
		{"number out of range", required + "loss: {margin: -1, label_smoothing: 0.5}", []string{
			`loss.margin = -1 (run.yaml:5): is out of range; allowed is a number, at least 0`,
			`loss.label_smoothing = 0.5 (run.yaml:5): is out of range; allowed is a number, at least 0 and below 0.5`}},
		{"word not allowed", required + "loss: {type: placket_luce, ties: exact}", []string{
			`loss.type = "placket_luce" (run.yaml:5): is not allowed; did you mean plackett_luce? Allowed is one of plackett_luce, top_m_plackett_luce, bradley_terry`,
			`loss.ties = "exact" (run.yaml:5): is not allowed; allowed is one of efron, breslow, drop`}},
		{"abbreviation", strings.Replace(required, "./model", "./model, dtype: bf16", 1), []string{
			`model.dtype = "bf16" (run.yaml:2): is not allowed; did you mean bfloat16? Allowed is one of float32, bfloat16`}},
		{"number for a boolean", withTrain("share_prefix: 1"), []string{
			`train.share_prefix = 1 (run.yaml:4): is not a boolean; allowed is true or false`}},
		{"word for a boolean", withTrain("share_prefix: yes"), []string{
			`train.share_prefix = "yes" (run.yaml:4): is not a boolean; allowed is true or false`}},
		{"stochastic rounding of float32", strings.Replace(withTrain("stochastic_rounding: true"), "./model", "./model, dtype: float32", 1), []string{
			`train.stochastic_rounding = true (run.yaml:4): rounds to bfloat16, but model.dtype is float32: leave it out, or set model.dtype to bfloat16`}},
		{"GPU without a number", required + "device: cuda:N", []string{
			`device = "cuda:N" (run.yaml:5): is not allowed; did you mean cuda? Allowed is one of auto, cpu, cuda, cuda:N`}},
		{"boolean for a text", required + "device: true", []string{
			`device = true (run.yaml:5): is a boolean and not text; allowed is one of auto, cpu, cuda, cuda:N (for a text that looks like this, write "true")`}},
		{"number for a path", withOutput("12"), []string{
			`train.output_dir = 12 (run.yaml:4): is a number and not text; allowed is a path (for a text that looks like this, write "12")`}},
		{"no value", required + "device:", []string{
			`device (run.yaml:5): has no value; leave the key out for the default, or give one of auto, cpu, cuda, cuda:N`}},
		{"empty required value", withOutput(`""`), []string{
			`train.output_dir = "" (run.yaml:4): is empty, but required; allowed is a path`}},
		{"empty required list", strings.Replace(required, "[train.parquet]", "[]", 1), []string{
			`data.train = [] (run.yaml:3): is empty, but required; allowed is a list of paths`}},
		{"list of groups", strings.Replace(required, "[train.parquet]", "[{a: b}]", 1), []string{
			`data.train = [...] (run.yaml:3): holds a group of keys; allowed is a list of paths`}},
		{"empty text in a list", strings.Replace(required, "[train.parquet]", `[a, ""]`, 1), []string{
			`data.train = ["a", ""] (run.yaml:3): holds an empty text; allowed is a list of paths`}},
		{"freeze", withTrain("freeze: [embd]"), []string{
			`train.freeze = ["embd"] (run.yaml:4): holds "embd"; did you mean embed? Allowed are embed, norm, and layers such as 3 or 0-41`}},
		{"freeze without sense", withTrain("freeze: [0-x]"), []string{
			`train.freeze = ["0-x"] (run.yaml:4): holds "0-x"; allowed are embed, norm, and layers such as 3 or 0-41`}},
		{"freeze backwards", withTrain("freeze: [5-2]"), []string{
			`train.freeze = ["5-2"] (run.yaml:4): holds "5-2"; the first layer of a range is not above the last`}},
		{"logger that is not there", withTrain("report_to: [jsonl, wandb]"), []string{
			`train.report_to = ["jsonl", "wandb"] (run.yaml:4): holds "wandb", which is not written directly; choose tensorboard and upload with: wandb sync --sync-tensorboard OUTPUT_DIR/tensorboard`}},
		{"logger misspelt", withTrain("report_to: tensorbord"), []string{
			`train.report_to = "tensorbord" (run.yaml:4): holds "tensorbord"; did you mean tensorboard? Allowed are jsonl and tensorboard`}},
		{"logger unknown", withTrain("report_to: [mlflow]"), []string{
			`train.report_to = ["mlflow"] (run.yaml:4): holds "mlflow"; allowed are jsonl and tensorboard`}},
		{"template that does not exist", strings.Replace(required, "[train.parquet]", "[a], chat_template: transscript", 1), []string{
			`data.chat_template = "transscript" (run.yaml:3): is neither a word nor a path that exists; did you mean transcript? Allowed is auto, transcript, none, or a path`}},
		{"checkpoint that does not exist", withTrain("resume_from_checkpoint: out/checkpoint-5"), []string{
			`train.resume_from_checkpoint = "out/checkpoint-5" (run.yaml:4): does not exist; allowed is auto, never, or a path`}},
		{"required keys missing", "model: {nam_or_path: x}", []string{
			`model.nam_or_path = "x" (run.yaml:1): unknown key; did you mean model.name_or_path?`,
			`data.train: is required: files, folders or hub ids of datasets: Parquet or JSON lines (.gz too) of ranked answers, pairs or finished texts; set it in the file, by --set data.train=..., or by RMTRAIN_DATA_TRAIN`,
			`train.output_dir: is required: where states, logs and the final model go; set it in the file, by --set train.output_dir=..., or by RMTRAIN_TRAIN_OUTPUT_DIR`}},
		{"not YAML", "a: [", []string{
			`run.yaml: is not YAML: line 1: did not find expected node content`}},
		{"not a mapping", "- a", []string{
			`run.yaml: is a list; a configuration has groups of keys: model, data, loss, train, device`}},
		{"two documents", required + "---\n" + required, []string{
			`run.yaml: holds more than one YAML document; a run has one`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := problems(t, LoadOptions{File: write(t, test.text)}); !slices.Equal(got, test.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(test.want, "\n  "))
			}
		})
	}
}

func TestImpossibleCombinations(t *testing.T) {
	for _, test := range []struct {
		sets []string
		want string
	}{
		{[]string{"data.eval=e", "data.eval_prompts=5"}, `data.eval = "e" (--set): cannot be combined with data.eval_prompts: give a file of its own, or hold out prompts of data.train`},
		{[]string{"data.train=a,/e", "data.eval=/e"}, `data.eval = "/e" (--set): holds "/e", which data.train holds too: evaluate on other prompts, or hold some out with data.eval_prompts`},
		{[]string{"data.max_answers=1"}, `data.max_answers = "1" (--set): leaves nothing to rank: give 0 for all answers, or at least 2`},
		{[]string{"loss.type=top_m_plackett_luce"}, `loss.m = 0 (default): is required by loss.type top_m_plackett_luce: give at least 1`},
		{[]string{"loss.m=2"}, `loss.m = "2" (--set): has no meaning for loss.type plackett_luce: leave it out, or choose top_m_plackett_luce`},
		{[]string{"loss.type=top_m_plackett_luce", "loss.m=5", "data.max_answers=4"}, `loss.m = "5" (--set): is above data.max_answers = 4: no group has so many places`},
		{[]string{"train.max_steps=0"}, `train.max_steps = "0" (--set): trains nothing: give at least 1, or -1 to train for train.num_train_epochs`},
		{[]string{"train.num_train_epochs=0"}, `train.num_train_epochs = "0" (--set): trains nothing while train.max_steps is -1: give a number above 0, or the number of steps`},
		{[]string{"train.max_tokens_per_batch=100"}, `train.max_tokens_per_batch = "100" (--set): is below data.max_length = 2048: a pass must hold the longest conversation`},
		{[]string{"train.warmup_steps=5", "train.warmup_ratio=0.1"}, `train.warmup_steps = "5" (--set): cannot be combined with train.warmup_ratio: give one of them`},
		{[]string{"train.eval_steps=5"}, `train.eval_steps = "5" (--set): needs something to evaluate on: set data.eval or data.eval_prompts`},
		{[]string{"train.load_best_model_at_end=true"}, `train.load_best_model_at_end = "true" (--set): needs something to evaluate on: set data.eval or data.eval_prompts`},
		{[]string{"train.load_best_model_at_end=true", "data.eval_prompts=9", "train.save_steps=4"}, `train.load_best_model_at_end = "true" (--set): needs train.eval_steps and train.save_steps: there must be states to choose from`},
		{[]string{"train.load_best_model_at_end=true", "data.eval_prompts=9", "train.save_steps=4", "train.eval_steps=8"}, `train.load_best_model_at_end = "true" (--set): needs a metric for each saved state: train.save_steps = 4 is not a multiple of train.eval_steps = 8`},
		{[]string{"train.early_stopping_patience=3"}, `train.early_stopping_patience = "3" (--set): needs evaluations on the way: set train.eval_steps`},
		{[]string{"train.output_dir=/m", "model.name_or_path=/m"}, `train.output_dir = "/m" (--set): is model.name_or_path: the trained model would overwrite the one it is made of`},
	} {
		got := problems(t, LoadOptions{File: write(t, required), Sets: test.sets})
		if !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s: got\n  %s\nwant\n  %s", test.sets, strings.Join(got, "\n  "), test.want)
		}
	}
	mustLoad(t, LoadOptions{File: write(t, required), Sets: []string{
		"data.eval_prompts=9", "train.eval_steps=4", "train.save_steps=8", "train.load_best_model_at_end=true",
		"train.early_stopping_patience=3", "loss.type=top_m_plackett_luce", "loss.m=3", "train.max_steps=5", "train.num_train_epochs=0",
	}})
}

func TestMistakesInVariablesAndSets(t *testing.T) {
	for _, test := range []struct {
		environ, sets []string
		want          string
	}{
		{environ: []string{"RMTRAIN_TRAIN_LEARNIN_RATE=4"}, want: `RMTRAIN_TRAIN_LEARNIN_RATE = "4" (environment): unknown variable; did you mean RMTRAIN_TRAIN_LEARNING_RATE?`},
		{environ: []string{"RMTRAIN_VERBOSITY_LEVEL=1"}, want: `RMTRAIN_VERBOSITY_LEVEL = "1" (environment): unknown variable; the names are those of the keys, such as RMTRAIN_TRAIN_LEARNING_RATE`},
		{environ: []string{"RMTRAIN_TRAIN_SEED=1.5"}, want: `train.seed = "1.5" (RMTRAIN_TRAIN_SEED): has a fraction; allowed is an integer, at least 0`},
		{environ: []string{"RMTRAIN_DATA_TRAIN=,"}, want: `data.train = "," (RMTRAIN_DATA_TRAIN): is empty, but required; allowed is a list of paths`},
		{environ: []string{"RMTRAIN_TRAIN_OUTPUT_DIR=a\xff"}, want: `train.output_dir = "a\xff" (RMTRAIN_TRAIN_OUTPUT_DIR): is not UTF-8 text`},
		{sets: []string{"train.lr=3"}, want: `train.lr = "3" (--set): unknown key; did you mean train.learning_rate?`},
		{sets: []string{"train=3"}, want: `train = "3" (--set): is a group of keys; set one of them, such as train.output_dir`},
		{sets: []string{"train.seed"}, want: `train.seed (--set): has no value; write --set KEY=VALUE`},
		{sets: []string{"train.seed="}, want: `train.seed = "" (--set): is not an integer; allowed is an integer, at least 0`},
		{sets: []string{"data.eval=[a"}, want: `data.eval = "[a" (--set): is not a list of YAML; allowed is a list of paths`},
		{sets: []string{"train.share_prefix=1"}, want: `train.share_prefix = "1" (--set): is not a boolean; allowed is true or false`},
	} {
		got := problems(t, LoadOptions{File: write(t, required), Environ: test.environ, Sets: test.sets})
		if !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s %s: got\n  %s\nwant\n  %s", test.environ, test.sets, strings.Join(got, "\n  "), test.want)
		}
	}
}

func TestMistakesOfAllSourcesAreReportedAtOnce(t *testing.T) {
	path := write(t, required+"device: gpu")
	_, err := Load(LoadOptions{File: path, Environ: []string{"RMTRAIN_TRAIN_SEED=x"}, Sets: []string{"loss.margin=-1", "train.warmup_steps=1", "train.warmup_ratio=1"}})
	want := `configs: 4 mistakes in the configuration, nothing was started
  device = "gpu" (` + path + `:5): is not allowed; did you mean cuda? Allowed is one of auto, cpu, cuda, cuda:N
  train.seed = "x" (RMTRAIN_TRAIN_SEED): is not an integer; allowed is an integer, at least 0
  loss.margin = "-1" (--set): is out of range; allowed is a number, at least 0
  train.warmup_steps = "1" (--set): cannot be combined with train.warmup_ratio: give one of them`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestMissingFile(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		"other.yaml":  "cannot read the configuration: no such file or directory",
		"nectar.yaml": "cannot read the configuration: no such file or directory (a recipe of this name ships with rmtrain: copy it from configs/nectar.yaml of its source)",
		"nectar":      "cannot read the configuration: no such file or directory (a recipe of this name ships with rmtrain: copy it from configs/nectar.yaml of its source)",
		".":           "cannot read the configuration: is a directory",
	} {
		path := filepath.Join(dir, name)
		_, err := Load(LoadOptions{File: path, Sets: []string{"train.seed=x"}})
		text := "configs: 2 mistakes in the configuration, nothing was started\n  " + path + ": " + want +
			"\n  train.seed = \"x\" (--set): is not an integer; allowed is an integer, at least 0"
		if err == nil || err.Error() != text {
			t.Errorf("got\n%v\nwant\n%s", err, text)
		}
	}
}

func TestEmptyFileMissesWhatIsRequired(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		if got := problems(t, LoadOptions{File: write(t, text)}); len(got) != 3 {
			t.Errorf("%q: %q, want the three required keys", text, got)
		}
	}
}

func TestPathOfNobody(t *testing.T) {
	t.Setenv("HOME", "")
	if err := os.Unsetenv("HOME"); err != nil {
		t.Fatal(err)
	}
	want := `train.output_dir = "~/out" (--set): begins with ~, but there is no home folder: $HOME is not defined`
	if got := problems(t, LoadOptions{File: write(t, required), Sets: []string{"train.output_dir=~/out"}}); !slices.Equal(got, []string{want}) {
		t.Errorf("got %q, want %s", got, want)
	}
}
