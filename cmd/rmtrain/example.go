package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/data/nectar"
	"rmtrain/data/tokenizer"
	"rmtrain/kernels/llama"
)

// Sizes of the built-in example.
const (
	exampleTrain, exampleTest = 960, 120 // prompts
	exampleSamples            = 8
	exampleMerges             = 360
	exampleSeed               = 20231127
)

func exampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "example DIR",
		Short: "Write a small world to try rmtrain on: a base model, ranked answers, a configuration",
		Args:  one("one folder to create"),
		RunE: func(c *cobra.Command, args []string) error {
			return writeExample(args[0], c.OutOrStdout())
		},
	}
}

// writeExample writes the example's folder, which must not exist.
func writeExample(dir string, w io.Writer) error {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("example: %s exists (choose another folder)", dir)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(dir)), 0o755); err != nil {
		return fmt.Errorf("example: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".example-*")
	if err != nil {
		return fmt.Errorf("example: create %s: %w", dir, err)
	}
	defer os.RemoveAll(tmp)
	if err := errors.Join(os.Chmod(tmp, 0o755), fillExample(tmp)); err != nil {
		return fmt.Errorf("example: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("example: %w", err)
	}
	fmt.Fprintf(w, `wrote %s
  model/          a Llama base model with random weights, a tokenizer and a chat template
  train.parquet   %d prompts with %d ranked answers each, in Nectar's schema
  test.parquet    %d more
  samples.jsonl   %d of these, to score
  nectar.yaml     the run
`, dir, exampleTrain, answersPerPrompt, exampleTest, exampleSamples)
	return nil
}

func fillExample(dir string) error {
	w := newWorld(exampleSeed)
	var samples []sample
	for seen := map[string]bool{}; len(samples) < exampleTrain+exampleTest; {
		if s := w.sample(); !seen[s.prompt] {
			seen[s.prompt] = true
			samples = append(samples, s)
		}
	}
	train, test := samples[:exampleTrain], samples[exampleTrain:]
	recipe, ok := configs.Recipe("example")
	if !ok {
		return errors.New("the recipe example is not part of this program")
	}
	requests, err := samplesJSON(test[:exampleSamples])
	if err != nil {
		return err
	}
	return errors.Join(
		writeModel(filepath.Join(dir, "model"), corpus(train), nil),
		nectar.WriteParquet(filepath.Join(dir, "train.parquet"), w.rows(train)),
		nectar.WriteParquet(filepath.Join(dir, "test.parquet"), w.rows(test)),
		os.WriteFile(filepath.Join(dir, "samples.jsonl"), requests, 0o644),
		os.WriteFile(filepath.Join(dir, "nectar.yaml"), recipe, 0o644),
	)
}

// corpus is the text that the tokenizer learns from.
func corpus(samples []sample) string {
	var b strings.Builder
	for _, s := range samples[:200] {
		b.WriteString(s.prompt)
		for _, a := range s.answers {
			b.WriteString(a)
		}
	}
	b.WriteString(strings.Repeat("system\nuser\nassistant\n", 100))
	return b.String()
}

// rows turns samples into rows, their answers in random order.
func (w world) rows(samples []sample) []nectar.Row {
	rows := make([]nectar.Row, len(samples))
	for i, s := range samples {
		rows[i] = nectar.Row{Prompt: s.prompt, Turns: int64(s.turns), NumResponses: int64(len(s.answers)), Source: []string{"example"}, GoodNatured: true}
		for _, rank := range w.rng.Perm(len(s.answers)) {
			rows[i].Answers = append(rows[i].Answers, nectar.RankedAnswer{
				Answer: s.answers[rank], Model: fmt.Sprintf("writer-%d", w.rng.IntN(20)), Rank: float64(rank + 1)})
		}
	}
	return rows
}

// samplesJSON writes requests for `rmtrain infer`: all answers to a prompt, best
// first, and now and then one conversation as messages.
func samplesJSON(samples []sample) ([]byte, error) {
	type messages struct {
		Messages []tokenizer.Message `json:"messages"`
	}
	type answers struct {
		Prompt  string   `json:"prompt"`
		Answers []string `json:"answers"`
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for i, s := range samples {
		var line any = answers{s.prompt, s.answers}
		if i%4 == 3 {
			ms, err := tokenizer.ParseTranscript(s.prompt)
			if err != nil {
				return nil, err
			}
			line = messages{append(ms, tokenizer.Message{Role: "assistant", Content: s.answers[0]})}
		}
		if err := e.Encode(line); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

var exampleSpecials = []string{"<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"}

const exampleTemplate = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// writeModel writes a Hugging Face folder of a language model with random weights
// and a tokenizer learned from text. Settings are added to those of its config.json.
func writeModel(dir, text string, settings map[string]any) error {
	vocab, tokenizerJSON, err := exampleTokenizer(text)
	if err != nil {
		return err
	}
	config := map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
		"vocab_size": vocab, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
		"initializer_range": 0.02, "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
		"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "use_cache": true,
	}
	maps.Copy(config, settings)
	tokenizerConfig := map[string]any{
		"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1024, "clean_up_tokenization_spaces": false,
		"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "chat_template": exampleTemplate,
	}
	configJSON, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	tokenizerConfigJSON, err := json.MarshalIndent(tokenizerConfig, "", "  ")
	if err != nil {
		return err
	}
	tensors, err := randomWeights(configJSON)
	if err != nil {
		return err
	}
	return checkpoints.Write(dir, checkpoints.Export{
		Dialect: "base", Config: configJSON, PadID: -1, DType: "F32", Tensors: tensors,
		Files: []checkpoints.File{{Name: "tokenizer.json", Data: append(tokenizerJSON, '\n')}, {Name: "tokenizer_config.json", Data: append(tokenizerConfigJSON, '\n')}},
	})
}

// exampleTokenizer returns a byte-level BPE as tokenizer.json, and its size.
func exampleTokenizer(text string) (int, []byte, error) {
	vocab := map[string]int{}
	added := []map[string]any{}
	for id, s := range exampleSpecials {
		vocab[s] = id
		added = append(added, map[string]any{"id": id, "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
	}
	for _, r := range byteRunes() {
		vocab[string(r)] = len(vocab)
	}
	merges := []string{}
	for _, m := range trainBPE(text, exampleMerges) {
		if _, ok := vocab[m[0]+m[1]]; !ok {
			vocab[m[0]+m[1]] = len(vocab)
		}
		merges = append(merges, m[0]+" "+m[1])
	}
	byteLevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	b, err := json.MarshalIndent(map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil,
		"pre_tokenizer": byteLevel, "post_processor": nil, "decoder": byteLevel,
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
		},
	}, "", " ")
	return len(vocab), b, err
}

// randomWeights returns every tensor of the model, normal with a standard deviation
// of 0.02, norms of one, and an lm_head, which rmtrain will leave behind.
func randomWeights(configJSON []byte) ([]checkpoints.Tensor, error) {
	c, err := llama.ParseConfig(configJSON)
	if err != nil {
		return nil, err
	}
	params := []llama.Param{{Name: "lm_head.weight", Shape: []int{c.Vocab, c.Hidden}}}
	for _, p := range llama.Table(c) {
		if p.Name != headName {
			params = append(params, p)
		}
	}
	rng := rand.New(rand.NewPCG(exampleSeed, 1))
	tensors := make([]checkpoints.Tensor, len(params))
	for i, p := range params {
		x := make([]float32, elements(p.Shape))
		for j := range x {
			x[j] = 1
			if len(p.Shape) > 1 {
				x[j] = float32(0.02 * rng.NormFloat64())
			}
		}
		tensors[i] = checkpoints.Tensor{Name: p.Name, DType: "F32", Shape: p.Shape, Read: bytesReader(floatBytes(x))}
	}
	return tensors, nil
}

// floatBytes returns x in little endian.
func floatBytes(x []float32) []byte {
	b := make([]byte, 0, 4*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}
