package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rmtrain/checkpoints/safetensors"
)

// scores scores the shared samples.
func scores(t *testing.T, model string) string {
	t.Helper()
	return ok(t, "infer", "--checkpoint", model, "--input", filepath.Join(small(t), "samples.jsonl"))
}

// Both dialects of one model, and exports of exports, give the same scores to the
// bit, and back in its own dialect it is the same file.
func TestExportsScoreAlike(t *testing.T) {
	t.Parallel()
	run := trained(t)
	want := scores(t, run)
	dir := t.TempDir()
	starling, huggingface, back := filepath.Join(dir, "starling"), filepath.Join(dir, "huggingface"), filepath.Join(dir, "new", "back")
	for _, e := range []struct{ from, dialect, to string }{
		{run, "starling", starling}, {run, "huggingface", huggingface}, {starling, "huggingface", back},
	} {
		out := ok(t, "export", "--model", e.from, "--to", e.dialect, "--output", e.to)
		if !strings.Contains(out, "wrote "+e.to) || strings.Count(out, "note:") > 0 {
			t.Errorf("%s: output\n%s", e.dialect, out)
		}
		if got := scores(t, e.to); got != want {
			t.Errorf("%s scores\n%s\nwant\n%s", e.to, got, want)
		}
		for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
			if !bytes.Equal(read(t, e.to, name), read(t, small(t), "model", name)) {
				t.Errorf("%s: %s is not the base model's", e.to, name)
			}
		}
		card := string(read(t, e.to, "README.md"))
		for _, part := range []string{"pipeline_tag: text-classification", "## Training", "## Data", "## Recipe", "![Loss and accuracy](curves.png)", "longer answer wins"} {
			if !strings.Contains(card, part) {
				t.Errorf("%s: the model card has no %q", e.to, part)
			}
		}
		if len(read(t, e.to, "curves.png")) == 0 {
			t.Errorf("%s: no curves", e.to)
		}
	}
	if !bytes.Equal(weights(t, huggingface), weights(t, run)) || !bytes.Equal(weights(t, back), weights(t, run)) {
		t.Error("in its own dialect the file has changed")
	}
	if bytes.Equal(weights(t, starling), weights(t, run)) {
		t.Error("the dialects are the same")
	}
}

func TestExportWritesWhatOtherProgramsExpect(t *testing.T) {
	t.Parallel()
	run := trained(t)
	for dialect, names := range map[string][2]string{
		"huggingface": {"model.norm.weight", "score.weight"},
		"starling":    {"transformer.norm.weight", "v_head.weight"},
	} {
		out := filepath.Join(t.TempDir(), dialect)
		ok(t, "export", "--model", run, "--to", dialect, "--output", out)
		file := tensors(t, filepath.Join(out, "model.safetensors"))
		for _, name := range names {
			if !file[name] {
				t.Errorf("%s: no %s among %v", dialect, name, file)
			}
		}
		if file["lm_head.weight"] {
			t.Errorf("%s: holds an lm_head", dialect)
		}
		if dialect == "starling" {
			continue
		}
		var c struct {
			Architectures []string
			ID2Label      map[string]string
			ProblemType   string `json:"problem_type"`
			PadTokenID    *int   `json:"pad_token_id"`
		}
		if err := json.Unmarshal(read(t, out, "config.json"), &c); err != nil {
			t.Fatal(err)
		}
		if len(c.Architectures) != 1 || c.Architectures[0] != "LlamaForSequenceClassification" || len(c.ID2Label) != 1 || c.ProblemType != "regression" || c.PadTokenID == nil || *c.PadTokenID != 0 {
			t.Errorf("config.json: %+v", c)
		}
	}
}

// tensors names the tensors of a safetensors file.
func tensors(t *testing.T, path string) map[string]bool {
	t.Helper()
	b := read(t, path)
	f, err := safetensors.Open(path, bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for n := range f.Tensors {
		names[n] = true
	}
	return names
}

// writeHead writes a value head for export --value-head.
func writeHead(t *testing.T, shape []int, values []float32) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "head.safetensors")
	header, err := json.Marshal(map[string]any{"head": map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{0, 4 * len(values)}}})
	if err != nil {
		t.Fatal(err)
	}
	b := append([]byte{byte(len(header)), byte(len(header) >> 8), 0, 0, 0, 0, 0, 0}, header...)
	if err := os.WriteFile(path, append(b, floatBytes(values)...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// A value head makes a reward model of any supported base, without training.
func TestExportAttachesAValueHead(t *testing.T) {
	t.Parallel()
	head := newHead("normal", 64, 5)
	for name, settings := range map[string]map[string]any{
		"llama":   nil,
		"mistral": {"model_type": "mistral", "architectures": []string{"MistralForCausalLM"}, "sliding_window": 16},
		"qwen2":   {"model_type": "qwen2", "architectures": []string{"Qwen2ForCausalLM"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			base := filepath.Join(dir, "base")
			if err := writeModel(base, "some text to learn merges from", settings); err != nil {
				t.Fatal(err)
			}
			model := filepath.Join(dir, "hf")
			out := ok(t, "export", "--model", base, "--value-head", writeHead(t, []int{1, 64}, head), "--output", model)
			if n := strings.Count(out, "lm_head"); n != 1 {
				t.Errorf("the note on lm_head stands there %d times:\n%s", n, out)
			}
			starling := filepath.Join(dir, "starling")
			ok(t, "export", "--model", base, "--value-head", writeHead(t, []int{64}, head), "--to", "starling", "--output", starling)
			got := scores(t, model)
			if got != scores(t, starling) {
				t.Error("dialects score differently")
			}
			zero := filepath.Join(dir, "zero")
			ok(t, "export", "--model", base, "--value-head", writeHead(t, []int{64}, make([]float32, 64)), "--output", zero)
			if scores(t, zero) == got {
				t.Error("another head has the same scores")
			}
			want := map[string]string{"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}[name] + "ForSequenceClassification"
			if !strings.Contains(string(read(t, model, "config.json")), want) {
				t.Errorf("config.json names no %s", want)
			}
		})
	}
}

func TestExportRefuses(t *testing.T) {
	t.Parallel()
	base := filepath.Join(small(t), "model")
	run := trained(t, "train.save_steps=4")
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	good := writeHead(t, []int{64}, make([]float32, 64))
	for _, c := range []struct {
		args  []string
		parts []string
	}{
		{[]string{"--model", base, "--output", out}, []string{"no value head", "--value-head"}},
		{[]string{"--model", run, "--value-head", good, "--output", out}, []string{"has a value head already"}},
		{[]string{"--model", run, "--output", dir}, []string{dir, "exists"}},
		{[]string{"--model", base, "--value-head", writeHead(t, []int{63}, make([]float32, 63)), "--output", out}, []string{"63", "64"}},
		{[]string{"--model", base, "--value-head", filepath.Join(base, "model.safetensors"), "--output", out}, []string{"21 tensors, not one"}},
		{[]string{"--model", base, "--value-head", "nix", "--output", out}, []string{"nix", "no such file"}},
		{[]string{"--model", filepath.Join(run, "checkpoint-4"), "--output", out}, []string{"training state"}},
	} {
		fails(t, append([]string{"export"}, c.args...), c.parts...)
		if exists(out) {
			t.Fatalf("%q left an output folder", c.args)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// An export that is stopped leaves nothing behind.
func TestAStoppedExportLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(signalError{syscall.SIGINT})
	dir := t.TempDir()
	o := exportOptions{model: filepath.Join(small(t), "model"), to: "starling", output: filepath.Join(dir, "out"), valueHead: writeHead(t, []int{64}, make([]float32, 64))}
	if err := o.run(ctx, io.Discard); exitStatus(ctx, err) != 130 {
		t.Errorf("error %v, status %d", err, exitStatus(ctx, err))
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// A model in the hub's local cache goes by its id, and its card says so.
func TestModelsOfTheHubCache(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	repo := filepath.Join(cache, "models--someone--tiny")
	snapshot := filepath.Join(repo, "snapshots", "0123456789abcdef0123456789abcdef01234567")
	if err := os.MkdirAll(filepath.Join(repo, "refs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(repo, "refs", "main"), []byte(filepath.Base(snapshot)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeModel(snapshot, "some text", nil); err != nil {
		t.Fatal(err)
	}
	cached := []string{"HF_HUB_CACHE=" + cache}
	r := runWith(t, cached, append(training(t, filepath.Join(t.TempDir(), "out"), "model.name_or_path=someone/tiny"), "--dry-run")...)
	if r.status != 0 || !strings.Contains(r.stdout, "model    someone/tiny\n") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	head := writeHead(t, []int{64}, newHead("normal", 64, 1))
	for _, model := range []string{"someone/tiny", repo, snapshot} {
		out := filepath.Join(t.TempDir(), "out")
		r := runWith(t, cached, "export", "--model", model, "--value-head", head, "--output", out)
		if r.status != 0 {
			t.Fatalf("%s: status %d\n%s", model, r.status, r.stderr)
		}
		if card := string(read(t, out, "README.md")); !strings.Contains(card, "base_model: someone/tiny\n") || !strings.Contains(card, "# Reward model of someone/tiny\n") {
			t.Errorf("%s: model card\n%s", model, card)
		}
	}
}

func TestInspectSaysWhatAFolderHolds(t *testing.T) {
	t.Parallel()
	run := trained(t, "train.save_steps=2")
	for path, parts := range map[string][]string{
		run:                                {"reward model", "huggingface", "verified", "states         2 4"},
		filepath.Join(run, "checkpoint-2"): {"training state", "step           2", "verified"},
		filepath.Join(small(t), "model"):   {"base model", "LlamaForCausalLM", "value head     no"},
	} {
		out := ok(t, "inspect", path)
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("inspect %s has no %q:\n%s", path, p, out)
			}
		}
		if !json.Valid([]byte(ok(t, "inspect", "--json", path))) {
			t.Errorf("inspect --json %s is not JSON", path)
		}
	}
}
