package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rmtrain/configs"
)

// sized is a run's size by rules that are easy to follow: 100 for the weights of each layer in
// float32, 50 in bfloat16, as much again where it is trained, and one for a token of a pass, or a
// tenth if activations are recomputed.
func sized(layers int) sizer {
	return func(c configs.Run) (map[string]int64, error) {
		weights, trained, token := 100, layers, 10
		if c.Model.DType == "bfloat16" {
			weights = 50
		}
		if len(c.Train.Freeze) > 0 {
			var last int
			if _, err := fmt.Sscanf(c.Train.Freeze[1], "0-%d", &last); err != nil {
				return nil, err
			}
			trained -= last + 1
		}
		if c.Train.Recompute == "always" {
			token = 1
		}
		return map[string]int64{"all": int64(weights*(layers+trained) + token*c.PassRows()/10)}, nil
	}
}

func TestAdviceTakesTheLeastThatFits(t *testing.T) {
	const layers = 10
	var c configs.Run
	c.Model.DType, c.Train.Recompute = "float32", "never"
	c.Data.MaxLength, c.Train.MaxTokensPerBatch = 1000, 4000
	// 2000 for weights, 4000 for activations
	for _, test := range []struct {
		limit, needs int64
		want         []string
	}{
		{2400, 2400, []string{"train.recompute=always"}},
		{2399, 2200, []string{"train.recompute=always", "train.max_tokens_per_batch=2000"}},
		{2100, 2100, []string{"train.recompute=always", "train.max_tokens_per_batch=1000"}},
		{2099, 1400, []string{"train.recompute=always", "model.dtype=bfloat16"}},
		{1100, 1100, []string{"train.recompute=always", "train.max_tokens_per_batch=1000", "model.dtype=bfloat16"}},
		{1099, 1050, []string{"train.recompute=always", "train.max_tokens_per_batch=1000", "model.dtype=bfloat16", "train.freeze=[embed,0-0]"}},
		{650, 650, []string{"train.recompute=always", "train.max_tokens_per_batch=1000", "model.dtype=bfloat16", "train.freeze=[embed,0-8]"}},
		{649, 0, nil},
	} {
		changes, needs := advise(c, layers, test.limit, sized(layers))
		var got []string
		for _, x := range changes {
			got = append(got, x.set)
		}
		if !slices.Equal(got, test.want) || needs != test.needs {
			t.Errorf("%d bytes: %q, which take %d; want %q and %d", test.limit, got, needs, test.want, test.needs)
		}
	}
	auto := c
	auto.Train.Recompute = "auto"
	if changes, needs := advise(auto, layers, 2200, sized(layers)); len(changes) != 1 || changes[0].set != "train.max_tokens_per_batch=2000" || needs != 2200 {
		t.Errorf("recompute is auto: %v, %d", changes, needs)
	}
	if c.Train.Recompute != "never" || c.Train.MaxTokensPerBatch != 4000 {
		t.Error("the configuration was changed")
	}
	if changes, _ := advise(c, layers, 1<<40, func(configs.Run) (map[string]int64, error) { return nil, errors.New("no") }); changes != nil {
		t.Errorf("%v for what cannot be planned", changes)
	}
}

func TestGPUsByNameAndSize(t *testing.T) {
	for s, want := range map[string]int64{
		"h100-80gb": 81559 << 20, "H200-141GB": 143771 << 20, "80GiB": 80 << 30, "1.5gib": 3 << 29, "94GB": 94e9, "512MiB": 512 << 20,
	} {
		if got, err := parseGPU(s); err != nil || got != want {
			t.Errorf("parseGPU(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "h100", "80", "GiB", "-1GiB", "0GiB", "NaNGiB", "1e99GiB", "80TiB"} {
		if n, err := parseGPU(s); err == nil || !strings.Contains(err.Error(), "h100-80gb") {
			t.Errorf("parseGPU(%q) = %d, %v, want an error with what is known", s, n, err)
		}
	}
}

// yi34b is what decides about memory in the config.json of Yi-34B-Chat.
const yi34b = `{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 7168,
	"intermediate_size": 20480, "num_hidden_layers": 60, "num_attention_heads": 56, "num_key_value_heads": 8,
	"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 5000000.0, "tie_word_embeddings": false, "vocab_size": 64000}`

// A recipe's memory on a card is known with nothing but the recipe and config.json.
func TestDryRunForAGPUThatIsNotHere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	model := filepath.Join(dir, "model")
	if err := os.Mkdir(model, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(model, "config.json"), []byte(yi34b), 0o666); err != nil {
		t.Fatal(err)
	}
	recipe, _ := configs.Recipe("nectar")
	file := filepath.Join(dir, "nectar.yaml")
	if err := os.WriteFile(file, recipe, 0o666); err != nil {
		t.Fatal(err)
	}
	dry := func(sets ...string) string {
		args := []string{"--config", file, "--dry-run", "--set", "model.name_or_path=" + model}
		return ok(t, append(args, sets...)...)
	}
	// Weights of 2 bytes, gradients of 4 and AdamW with a master copy of 12 for 33.9 G parameters.
	got := dry("--gpu", "h200-141gb")
	for _, line := range []string{
		`plan for a GPU with 140.4 GiB`, `33.9 G parameters in bfloat16: 60 layers, 7168 channels, 56:8 heads of 128`, `passes +of 16384 tokens`,
		`recomputed`, ` optimizer +379\.\d GiB\n`, ` gradients +126\.\d GiB\n`, ` weights +63\.\d GiB\n`, `it does not fit: 133.4 GiB are at hand`,
	} {
		if !regexp.MustCompile(line).MatchString(got) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	// Without the master copy it is 4 less.
	if text := dry("--gpu", "h200-141gb", "--set", "train.stochastic_rounding=true"); !regexp.MustCompile(` optimizer +252\.\d GiB\n`).MatchString(text) {
		t.Errorf("with stochastic rounding:\n%s", text)
	}
	// What is advised fits, and with one layer less it would not.
	advice := regexp.MustCompile(`would fit:(.*), which takes (\d+\.\d) GiB`).FindStringSubmatch(got)
	if advice == nil {
		t.Fatalf("no advice in\n%s", got)
	}
	took := dry(append(strings.Fields(advice[1]), "--gpu", "h200-141gb")...)
	if !strings.Contains(took, "it fits: "+advice[2]+" GiB of 140.4 GiB") {
		t.Errorf("with%s:\n%s", advice[1], took)
	}
	// A card of a known name gets a prediction, one of a size does not.
	for gpu, want := range map[string]bool{"h200-141gb": true, "140GiB": false} {
		text := dry(append(strings.Fields(advice[1]), "--gpu", gpu)...)
		predicted := regexp.MustCompile(`predicted, not measured .*: \d[\d.]* s a step of 104 prompts with 7 answers each, .*\n  forward \d[\d.]* s, backward \d[\d.]* s, optimizer \d[\d.]* ms; at the bounds of the card \d[\d.]* s\n`).MatchString(text)
		if predicted != want {
			t.Errorf("%s: prediction %v in\n%s", gpu, predicted, text)
		}
	}
	if small := dry("--gpu", "24GiB"); !strings.Contains(small, "no setting makes it fit") {
		t.Errorf("24 GiB:\n%s", small)
	}
	fails(t, []string{"--config", file, "--gpu", "80GiB"}, "--gpu is for --dry-run")
	fails(t, []string{"--config", file, "--dry-run", "--gpu", "tpu"}, `"tpu" is unknown`)
	fails(t, []string{"--config", file, "--dry-run", "--gpu", "80GiB", "--set", "model.name_or_path=" + dir + "/none"}, "config.json is enough")
}
