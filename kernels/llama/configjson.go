package llama

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A family is what transformers' configuration class of a model_type assumes.
type family struct {
	prefix    string // of architectures
	aliases   []string
	kvHeads   int // if num_key_value_heads is absent; 0 for as many as heads
	positions int // if max_position_embeddings is absent
}

var families = map[string]family{
	// LLMForSequenceRegression and GPTRewardModel are what Starling's own folders say.
	"llama":   {prefix: "Llama", aliases: []string{"LLaMAForCausalLM", "LLMForSequenceRegression", "GPTRewardModel"}, positions: 2048},
	"mistral": {prefix: "Mistral", kvHeads: 8, positions: 4096 * 32},
	"qwen2":   {prefix: "Qwen2", kvHeads: 32, positions: 32768},
}

const supported = "supported are Llama, Mistral and Qwen2, each as ...ForCausalLM, ...ForSequenceClassification or ...Model"

func (f family) has(architecture string) bool {
	rest, ok := strings.CutPrefix(architecture, f.prefix)
	return ok && slices.Contains([]string{"ForCausalLM", "ForSequenceClassification", "Model"}, rest) ||
		slices.Contains(f.aliases, architecture)
}

// Bounds on sizes. They are beyond all models and keep every product of sizes
// within an int64.
const (
	maxLayers   = 1 << 12
	maxChannels = 1 << 22
	maxHeadDim  = 1 << 16
	maxVocab    = 1 << 26
	maxInt32    = 1<<31 - 1
)

// ParseConfig reads config.json, in the spelling of transformers 4 or 5, and
// refuses by name everything that would change the numbers and is not supported.
// Its error lists all problems at once.
func ParseConfig(configJSON []byte) (Config, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(configJSON, &raw); err != nil {
		return Config{}, fmt.Errorf("llama: parse config.json: %w", err)
	}
	f := &fields{raw: raw}
	c := f.config()
	if len(f.problems) > 0 {
		return Config{}, fmt.Errorf("llama: parse config.json: %s", strings.Join(f.problems, "; "))
	}
	return c, nil
}

func (f *fields) config() Config {
	model, fam, ok := f.family()
	if !ok {
		return Config{}
	}
	c := Config{
		Layers:       f.size("num_hidden_layers", 0, maxLayers),
		Hidden:       f.size("hidden_size", 0, maxChannels),
		FFN:          f.size("intermediate_size", 0, maxChannels),
		Heads:        f.size("num_attention_heads", 0, maxChannels),
		Vocab:        f.size("vocab_size", 0, maxVocab),
		MaxPositions: f.size("max_position_embeddings", fam.positions, maxInt32),
		Eps:          f.positive("rms_norm_eps", 1e-6),
		Tied:         f.flag("tie_word_embeddings", false),
	}
	f.setHeads(&c, fam)
	c.PadTokenID = f.padTokenID(c.Vocab)
	f.setBiases(&c, model)
	c.Window = f.window(model, c.Layers)
	c.InvFreq = f.rope(max(c.HeadDim, 2)) // even if HeadDim is a problem of its own
	f.refuseOthers()
	return c
}

// family tells which network the file describes.
func (f *fields) family() (string, family, bool) {
	model := f.text("model_type")
	var architectures []string
	if !f.null("architectures") && json.Unmarshal(f.raw["architectures"], &architectures) != nil {
		f.problem("architectures must be a list of names")
		return "", family{}, false
	}
	if model == "" {
		for name, fam := range families {
			if len(architectures) > 0 && fam.has(architectures[0]) {
				model = name
			}
		}
	}
	fam, ok := families[model]
	if !ok {
		f.problem("model_type %q, architectures %q: %s", model, architectures, supported)
		return "", family{}, false
	}
	for _, a := range architectures {
		if !fam.has(a) {
			f.problem("architecture %q with model_type %q: %s", a, model, supported)
		}
		if strings.HasSuffix(a, "ForSequenceClassification") {
			f.oneLabel()
		}
	}
	return model, fam, true
}

// oneLabel refuses a classifier: a reward model has one output.
func (f *fields) oneLabel() {
	var labels map[string]json.RawMessage
	switch {
	case !f.null("id2label"):
		if json.Unmarshal(f.raw["id2label"], &labels) != nil || len(labels) != 1 {
			f.problem("id2label must have one label, that of the reward")
		}
	case !f.null("num_labels") && f.size("num_labels", 1, maxInt32) != 1:
		f.problem("num_labels must be 1, that of the reward")
	}
}

func (f *fields) setHeads(c *Config, fam family) {
	kv := fam.kvHeads
	if f.has("num_key_value_heads") || kv == 0 {
		kv = c.Heads // null means as many as heads
	}
	c.KVHeads = f.size("num_key_value_heads", kv, maxChannels)
	if c.Heads <= 0 || c.Hidden <= 0 || c.KVHeads <= 0 {
		return
	}
	if c.Heads%c.KVHeads != 0 {
		f.problem("num_attention_heads %d must be a multiple of num_key_value_heads %d", c.Heads, c.KVHeads)
	}
	if f.null("head_dim") && c.Hidden%c.Heads != 0 {
		f.problem("hidden_size %d must be a multiple of num_attention_heads %d (or give head_dim)", c.Hidden, c.Heads)
		return
	}
	c.HeadDim = f.size("head_dim", max(1, c.Hidden/c.Heads), maxHeadDim)
	if c.HeadDim%2 != 0 {
		f.problem("head_dim %d must be even, RoPE rotates pairs of channels", c.HeadDim)
	}
	if c.HeadDim*(c.Heads+2*c.KVHeads) > maxChannels {
		f.problem("heads of %d channels in all are more than the supported %d", c.HeadDim*(c.Heads+2*c.KVHeads), maxChannels)
	}
}

// padTokenID returns the row of the embedding that PyTorch's padding_idx means,
// which counts negative ones from the end.
func (f *fields) padTokenID(vocab int) int32 {
	if f.null("pad_token_id") || vocab <= 0 {
		return -1
	}
	id, ok := f.whole("pad_token_id")
	if !ok {
		return -1
	}
	if id < -int64(vocab) || id >= int64(vocab) {
		f.problem("pad_token_id %d is not in the vocabulary of %d", id, vocab)
		return -1
	}
	if id < 0 {
		id += int64(vocab)
	}
	return int32(id)
}

func (f *fields) setBiases(c *Config, model string) {
	attention, mlp := f.flag("attention_bias", false), f.flag("mlp_bias", false)
	switch model {
	case "llama":
		c.QKVBias, c.OutBias, c.MLPBias = attention, attention, mlp
	case "mistral":
		if attention {
			f.problem("attention_bias true: model_type mistral has none (supported by llama)")
		}
	case "qwen2": // always has those of q, k and v, whatever attention_bias says
		c.QKVBias = true
	}
	if mlp && model != "llama" {
		f.problem("mlp_bias true: model_type %s has none (supported by llama)", model)
	}
}

// window returns the sliding window that transformers applies to every layer.
func (f *fields) window(model string, layers int) int {
	window := 0
	switch {
	case model == "llama": // transformers has no window for it, whatever the file says
	case model == "mistral" && !f.has("sliding_window"):
		window = 4096
	case model == "qwen2" && !f.flag("use_sliding_window", false):
	case model == "qwen2" && !f.has("sliding_window"):
		window = 4096
	case !f.null("sliding_window"):
		window = f.size("sliding_window", 0, maxInt32)
	}
	if !f.null("layer_types") {
		return f.windowByLayer(model, window, layers)
	}
	if model != "qwen2" || window == 0 {
		return window
	}
	full := 28 // layers that see everything, before those that do not
	if f.has("max_window_layers") {
		n, _ := f.whole("max_window_layers")
		full = int(min(max(n, 0), maxLayers))
	}
	if full >= layers {
		return 0
	}
	if full > 0 {
		f.problem("use_sliding_window with max_window_layers %d of %d layers: supported is one window for all layers or none", full, layers)
	}
	return window
}

// windowByLayer reads layer_types, which must be the same for all layers. Only
// Qwen2 obeys it, so elsewhere it must agree with the window.
func (f *fields) windowByLayer(model string, window, layers int) int {
	var types []string
	if json.Unmarshal(f.raw["layer_types"], &types) != nil || len(types) != layers {
		f.problem("layer_types must be a list of %d names, one a layer", layers)
		return 0
	}
	kinds := slices.Compact(slices.Sorted(slices.Values(types)))
	switch {
	case slices.Equal(kinds, []string{"full_attention"}) && (model == "qwen2" || window == 0):
		return 0
	case slices.Equal(kinds, []string{"sliding_attention"}) && window > 0:
		return window
	}
	f.problem("layer_types %q with a sliding window of %d: supported is full_attention, or one window, in all layers", kinds, window)
	return 0
}

// refuseOthers refuses what other networks and other programs mean by keys that
// would change the numbers.
func (f *fields) refuseOthers() {
	if !f.null("hidden_act") {
		if act := f.text("hidden_act"); act != "silu" && act != "swish" {
			f.problem("hidden_act %q: supported is \"silu\"", act)
		}
	}
	for _, r := range refused {
		for _, key := range r.keys {
			if f.null(key) {
				continue
			}
			var v any
			if json.Unmarshal(f.raw[key], &v) != nil || !slices.Contains(r.neutral, v) {
				f.problem("%s %s: %s", key, abbreviate(f.raw[key]), r.reason)
			}
		}
	}
}

// refused lists keys that change the numbers unless their value is null or neutral.
var refused = []struct {
	keys    []string
	neutral []any
	reason  string
}{
	{[]string{"quantization_config", "compression_config"}, nil, "quantized weights are not supported, use the float checkpoint"},
	{[]string{"attention_dropout"}, zero, "dropout is not supported, set it to 0"},
	{[]string{"qk_norm", "use_qk_norm", "qk_layernorm"}, no, "norms of queries and keys are not supported"},
	{[]string{"num_local_experts", "num_experts", "n_routed_experts"}, zero, "mixtures of experts are not supported"},
	{[]string{"embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale", "attention_multiplier",
		"scale_emb", "scale_depth", "query_pre_attn_scalar"}, one, "multipliers are not supported"},
	{[]string{"partial_rotary_factor", "rotary_pct"}, one, "RoPE of a part of the channels is not supported"},
	{[]string{"attn_logit_softcapping", "final_logit_softcapping", "clip_qkv"}, no, "capped attention or logits are not supported"},
	{[]string{"alibi", "rope_interleaved", "rope_interleave"}, no, "positions other than half-split RoPE are not supported"},
	{[]string{"use_bidirectional_attention", "add_cross_attention", "is_encoder_decoder"}, no, "attention other than causal self-attention is not supported"},
	{[]string{"is_causal"}, []any{true}, "attention other than causal self-attention is not supported"},
	{[]string{"attention_chunk_size"}, no, "chunked attention is not supported"},
}

var (
	zero = []any{0.0}
	one  = []any{1.0}
	no   = []any{false, 0.0}
)
