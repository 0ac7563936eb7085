package llama

import (
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rmtrain/kernels"
)

// sizes are what every file must have.
var sizes = map[string]any{
	"model_type": "llama", "architectures": []string{"LlamaForCausalLM"}, "vocab_size": 100, "hidden_size": 32,
	"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
}

// with returns a config.json of sizes and changes; a nil value is JSON's null, and
// "absent" takes a key away.
func with(t testing.TB, changes string) []byte {
	t.Helper()
	all := maps.Clone(sizes)
	var m map[string]any
	if err := json.Unmarshal([]byte("{"+changes+"}"), &m); err != nil {
		t.Fatal(err)
	}
	for k, v := range m {
		if all[k] = v; v == "absent" {
			delete(all, k)
		}
	}
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConfigMeansWhatTransformersMeans(t *testing.T) {
	const mistral = `"model_type": "mistral", "architectures": ["MistralForCausalLM"], "num_key_value_heads": 2`
	const qwen = `"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": 2`
	for name, test := range map[string]struct {
		json string
		want func(c *Config)
	}{
		"defaults":                {``, func(c *Config) {}},
		"no model_type":           {`"model_type": "absent"`, func(c *Config) {}},
		"no architectures":        {`"architectures": null`, func(c *Config) {}},
		"trunk":                   {`"architectures": ["LlamaModel"]`, func(c *Config) {}},
		"Starling's class":        {`"architectures": ["LLMForSequenceRegression"]`, func(c *Config) {}},
		"classifier of one label": {`"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}`, func(c *Config) {}},
		"grouped heads":           {`"num_key_value_heads": 2`, func(c *Config) { c.KVHeads = 2 }},
		"null kv heads":           {`"num_key_value_heads": null`, func(c *Config) {}},
		"explicit head_dim": {`"head_dim": 10, "hidden_size": 30`, func(c *Config) {
			c.Hidden, c.HeadDim, c.InvFreq = 30, 10, invFreq(10000, 10)
		}},
		"null head_dim":         {`"head_dim": null`, func(c *Config) {}},
		"biases":                {`"attention_bias": true, "mlp_bias": true`, func(c *Config) { c.QKVBias, c.OutBias, c.MLPBias = true, true, true }},
		"tied":                  {`"tie_word_embeddings": true`, func(c *Config) { c.Tied = true }},
		"epsilon and positions": {`"rms_norm_eps": 1e-05, "max_position_embeddings": 4096`, func(c *Config) { c.Eps, c.MaxPositions = 1e-5, 4096 }},
		"pad token":             {`"pad_token_id": 0`, func(c *Config) { c.PadTokenID = 0 }},
		"no pad token":          {`"pad_token_id": null`, func(c *Config) {}},
		"pad token -1 is the last row for PyTorch": {`"pad_token_id": -1`, func(c *Config) { c.PadTokenID = 99 }},
		"theta":                    {`"rope_theta": 5000000.0`, func(c *Config) { c.InvFreq = invFreq(5e6, 8) }},
		"rope_scaling null":        {`"rope_theta": 500000, "rope_scaling": null`, func(c *Config) { c.InvFreq = invFreq(5e5, 8) }},
		"linear, old spelling":     {`"rope_scaling": {"type": "linear", "factor": 4}`, func(c *Config) { c.InvFreq = scaledBy(4) }},
		"linear, both spellings":   {`"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4.0}`, func(c *Config) { c.InvFreq = scaledBy(4) }},
		"transformers 5":           {`"dtype": "bfloat16", "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}`, func(c *Config) { c.InvFreq = invFreq(5e5, 8) }},
		"transformers 5, linear":   {`"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}`, func(c *Config) { c.InvFreq = scaledBy(4) }},
		"both versions, same":      {`"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4}, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4}`, func(c *Config) { c.InvFreq = scaledBy(4) }},
		"neutral values":           {`"attention_dropout": 0.0, "partial_rotary_factor": 1.0, "quantization_config": null, "qk_layernorm": false, "num_local_experts": 0, "pretraining_tp": 4, "embedding_multiplier": 1, "is_causal": true`, func(c *Config) {}},
		"sliding_window of llama":  {`"sliding_window": 8`, func(c *Config) {}}, // transformers has none
		"swish":                    {`"hidden_act": "swish"`, func(c *Config) {}},
		"mistral":                  {mistral + `, "sliding_window": 8`, func(c *Config) { c.KVHeads, c.MaxPositions, c.Window = 2, 131072, 8 }},
		"mistral without window":   {mistral + `, "sliding_window": null`, func(c *Config) { c.KVHeads, c.MaxPositions = 2, 131072 }},
		"mistral's default window": {mistral, func(c *Config) { c.KVHeads, c.MaxPositions, c.Window = 2, 131072, 4096 }},
		"mistral with layer_types": {mistral + `, "sliding_window": 8, "layer_types": ["sliding_attention", "sliding_attention"]`, func(c *Config) { c.KVHeads, c.MaxPositions, c.Window = 2, 131072, 8 }},
		"mistral has eight kv heads": {`"model_type": "mistral", "architectures": ["MistralModel"], "num_attention_heads": 16, "sliding_window": null`, func(c *Config) {
			c.Heads, c.HeadDim, c.KVHeads, c.MaxPositions, c.InvFreq = 16, 2, 8, 131072, []float32{1}
		}},
		"qwen2":                            {qwen, qwenWindow(0)},
		"qwen2, window not used":           {qwen + `, "use_sliding_window": false, "sliding_window": 8`, qwenWindow(0)},
		"qwen2, window above all layers":   {qwen + `, "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2`, qwenWindow(0)},
		"qwen2, window above 28 layers":    {qwen + `, "use_sliding_window": true, "sliding_window": 8`, qwenWindow(0)},
		"qwen2, window in all layers":      {qwen + `, "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0`, qwenWindow(8)},
		"qwen2, layer_types without":       {qwen + `, "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0, "layer_types": ["full_attention", "full_attention"]`, qwenWindow(0)},
		"qwen2, layer_types with":          {qwen + `, "use_sliding_window": true, "sliding_window": 8, "layer_types": ["sliding_attention", "sliding_attention"]`, qwenWindow(8)},
		"unknown keys that change nothing": {`"use_cache": true, "transformers_version": "4.57.6", "torch_dtype": "bfloat16"`, func(c *Config) {}},
	} {
		t.Run(name, func(t *testing.T) {
			want := Config{Layers: 2, Hidden: 32, FFN: 48, Heads: 4, KVHeads: 4, HeadDim: 8, Vocab: 100, MaxPositions: 2048,
				Eps: 1e-6, PadTokenID: -1, InvFreq: invFreq(10000, 8)}
			test.want(&want)
			got, err := ParseConfig(with(t, test.json))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func qwenWindow(window int) func(*Config) {
	return func(c *Config) { c.KVHeads, c.MaxPositions, c.QKVBias, c.Window = 2, 32768, true, window }
}

func scaledBy(factor float32) []float32 {
	out := invFreq(10000, 8)
	for i := range out {
		out[i] /= factor
	}
	return out
}

func TestConfigRefusesByName(t *testing.T) {
	for json, want := range map[string]string{
		`"model_type": "gemma2"`:                                          `model_type "gemma2"`,
		`"model_type": "mixtral"`:                                         `model_type "mixtral"`,
		`"model_type": 7`:                                                 `model_type 7 must be a string`,
		`"architectures": "Llama"`:                                        `architectures must be a list`,
		`"architectures": ["LlamaBidirectionalModel"]`:                    `architecture "LlamaBidirectionalModel"`,
		`"architectures": ["Qwen2ForRewardModel"], "model_type": "qwen2"`: `architecture "Qwen2ForRewardModel"`,
		`"architectures": ["MistralForCausalLM"]`:                         `architecture "MistralForCausalLM" with model_type "llama"`,
		`"architectures": ["LlamaForSequenceClassification"], "id2label": {"0":"a","1":"b"}`: `id2label must have one label`,
		`"architectures": ["LlamaForSequenceClassification"], "num_labels": 3`:               `num_labels must be 1`,
		`"hidden_size": "absent"`:                                `hidden_size is missing`,
		`"vocab_size": null`:                                     `vocab_size is missing`,
		`"hidden_size": -4`:                                      `hidden_size -4 must be from 1 to`,
		`"num_hidden_layers": 0`:                                 `num_hidden_layers 0 must be from 1 to`,
		`"num_hidden_layers": 2.5`:                               `num_hidden_layers 2.5 must be a whole number`,
		`"num_attention_heads": "4"`:                             `num_attention_heads "4" must be a whole number`,
		`"intermediate_size": 1e300`:                             `intermediate_size 1e+300 must be a whole number`,
		`"vocab_size": 9223372036854775807`:                      `vocab_size`,
		`"hidden_size": 4194305`:                                 `hidden_size 4194305 must be from 1 to 4194304`,
		`"head_dim": 65536, "num_attention_heads": 4096`:         `heads of 805306368 channels`,
		`"hidden_size": 30`:                                      `hidden_size 30 must be a multiple of num_attention_heads 4 (or give head_dim)`,
		`"num_key_value_heads": 3`:                               `num_attention_heads 4 must be a multiple of num_key_value_heads 3`,
		`"head_dim": 7`:                                          `head_dim 7 must be even`,
		`"rms_norm_eps": 0`:                                      `rms_norm_eps 0 must be a positive number`,
		`"rms_norm_eps": "1e-6"`:                                 `rms_norm_eps "1e-6" must be a positive number`,
		`"rope_theta": -1`:                                       `rope_theta -1 must be a positive number`,
		`"rope_theta": 1e40`:                                     `rope_theta 1e+40 must be a positive number`,
		`"rope_theta": 1e-44, "head_dim": 512`:                   `beyond float32`,
		`"tie_word_embeddings": 1`:                               `tie_word_embeddings 1 must be true or false`,
		`"pad_token_id": 100`:                                    `pad_token_id 100 is not in the vocabulary of 100`,
		`"pad_token_id": -101`:                                   `pad_token_id -101`,
		`"pad_token_id": [1]`:                                    `pad_token_id [1] must be a whole number`,
		`"hidden_act": "gelu"`:                                   `hidden_act "gelu": supported is "silu"`,
		`"quantization_config": {"bits": 4}`:                     `quantization_config {"bits":4}`,
		`"qk_norm": true`:                                        `qk_norm true`,
		`"num_local_experts": 8`:                                 `num_local_experts 8`,
		`"embedding_multiplier": 12.0`:                           `embedding_multiplier 12`,
		`"logits_scaling": 8`:                                    `logits_scaling 8`,
		`"partial_rotary_factor": 0.5`:                           `partial_rotary_factor 0.5`,
		`"attention_dropout": 0.1`:                               `attention_dropout 0.1`,
		`"attn_logit_softcapping": 50.0`:                         `attn_logit_softcapping 50`,
		`"is_causal": false`:                                     `is_causal false`,
		`"layer_types": ["full_attention", "sliding_attention"]`: `layer_types`,
		`"layer_types": ["full_attention"]`:                      `layer_types must be a list of 2`,
		`"rope_scaling": {"type": "yarn", "factor": 4}`:          `rope_scaling.rope_type "yarn": supported are default, linear and llama3`,
		`"rope_scaling": {"type": "dynamic", "factor": 4}`:       `rope_scaling.rope_type "dynamic"`,
		`"rope_scaling": {"factor": 4}`:                          `rope_scaling.rope_type ""`,
		`"rope_scaling": {"type": "linear"}`:                     `rope_scaling.factor is missing`,
		`"rope_scaling": {"type": "linear", "factor": 0}`:        `rope_scaling.factor 0 must be a positive number`,
		`"rope_scaling": {"type": "linear", "rope_type": "llama3", "factor": 2}`: `differ`,
		`"rope_scaling": "linear"`:                             `rope_scaling "linear" must be an object`,
		`"rope_scaling": {"rope_type": "llama3", "factor": 8}`: `rope_scaling.low_freq_factor is missing`,
		`"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4, "original_max_position_embeddings": 8192}`: `high_freq_factor must be above low_freq_factor`,
		`"rope_parameters": {"full_attention": {"rope_type": "default"}}`:                                                                             `rope_parameters of each kind of layer`,
		`"rope_parameters": {"rope_theta": 10.0, "partial_rotary_factor": 0.25}`:                                                                      `rope_parameters.partial_rotary_factor must be 1`,
		`"rope_theta": 10, "rope_parameters": {"rope_theta": 20}`:                                                                                     `rope_theta and rope_parameters.rope_theta differ`,
		`"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "default"}`:                                                `rope_scaling and rope_parameters differ`,
		`"model_type": "mistral", "architectures": null, "attention_bias": true`:                                                                      `attention_bias true`,
		`"model_type": "mistral", "architectures": null, "sliding_window": 0`:                                                                         `sliding_window 0 must be from 1 to`,
		`"model_type": "mistral", "architectures": null, "sliding_window": 8, "layer_types": ["full_attention", "full_attention"]`:                    `layer_types`,
		`"model_type": "qwen2", "architectures": null, "mlp_bias": true`:                                                                              `mlp_bias true`,
		`"model_type": "qwen2", "architectures": null, "use_sliding_window": true, "max_window_layers": 1`:                                            `max_window_layers 1 of 2 layers`,
	} {
		if _, err := ParseConfig(with(t, json)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", json, err, want)
		}
	}
	for _, text := range []string{``, `[]`, `null`, `{"hidden_size": NaN}`, `{`, `7`} {
		if _, err := ParseConfig([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestConfigNamesAllProblemsAtOnce(t *testing.T) {
	_, err := ParseConfig(with(t, `"hidden_size": "wide", "rms_norm_eps": -1, "hidden_act": "relu", "num_experts": 4,
		"rope_scaling": {"type": "longrope", "rope_theta": "high"}`))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"hidden_size", "rms_norm_eps", "hidden_act", "num_experts", "rope_scaling.rope_theta", "longrope"} {
		if n := strings.Count(err.Error(), want); n != 1 {
			t.Errorf("%s is named %d times in: %v", want, n, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{
		``, `"num_key_value_heads": 2, "pad_token_id": -1, "head_dim": 6`,
		`"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}`,
		`"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2}, "layer_types": ["full_attention", "full_attention"]`,
		`"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": true, "max_window_layers": 0, "num_key_value_heads": 4`,
		`"model_type": "mistral", "architectures": [], "sliding_window": 1, "num_key_value_heads": 1`,
		`"hidden_size": 4194304, "vocab_size": 67108864, "intermediate_size": 4194304, "num_attention_heads": 1, "head_dim": 65536`,
	} {
		f.Add(with(f, seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig(text)
		if err != nil {
			return
		}
		if err := c.check(); err != nil {
			t.Fatalf("accepted, but %v", err)
		}
		if slices.ContainsFunc(c.InvFreq, func(x float32) bool { return !(x > 0) || x > math.MaxFloat32 }) {
			t.Fatalf("frequencies %v", c.InvFreq)
		}
		if c.PadTokenID < -1 || int(c.PadTokenID) >= c.Vocab {
			t.Fatalf("pad token %d", c.PadTokenID)
		}
		for tag, n := range Plan(c, Options{DType: kernels.F64, MaxRows: 1 << 17, MaxAnswers: 64, Train: true, Recompute: true}) {
			if n <= 0 {
				t.Fatalf("plans %d bytes of %s", n, tag)
			}
		}
	})
}
