package checkpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Canonical names that have a meaning here.
const (
	headName   = "score.weight"
	embedName  = "model.embed_tokens.weight"
	lmHeadName = "lm_head.weight"
	trunk      = "model."
)

// heads are the names of trained value heads: transformers', Starling's, and those
// of TRL and LLaMA-Factory.
var heads = []string{headName, "v_head.weight", "value_head.weight", "v_head.summary.weight"}

// prefixes are what trunks are stored under, first the one that wins when a folder
// holds several copies. A bare LlamaModel has no prefix. trlx's reward model keeps
// the causal model as model.model.* and its trunk once more as transformer.*.
var prefixes = []string{"model.model.", "model.", "transformer.", ""}

// adopt gives the tensors of the files their canonical names and sets aside what is
// known to be left over from training or from the LM head.
func (d *Dir) adopt(raw map[string]tensor) error {
	d.tensors = map[string]tensor{}
	names := slices.Sorted(maps.Keys(raw))
	rest, err := d.adoptHead(raw, names)
	if err != nil {
		return err
	}
	rest = d.dropBuffers(rest)
	rest, lmHead := takeLMHead(raw, rest)
	d.adoptTrunk(raw, rest)
	return d.adoptTied(lmHead)
}

// adoptHead finds the value head and returns the names that remain.
func (d *Dir) adoptHead(raw map[string]tensor, names []string) ([]string, error) {
	var found, rest []string
	for _, name := range names {
		if slices.Contains(heads, name) {
			found = append(found, name)
			continue
		}
		if weight, ok := strings.CutSuffix(name, "bias"); ok && slices.Contains(heads, weight+"weight") {
			if err := checkZeroBias(name, raw[name]); err != nil {
				return nil, err
			}
			d.note("%s is zero and is left out", name)
			continue
		}
		rest = append(rest, name)
	}
	d.Dialect = Base
	if len(found) > 1 {
		return nil, fmt.Errorf("several value heads: %s (keep the one that was trained)", strings.Join(found, ", "))
	}
	if len(found) == 0 {
		return rest, nil
	}
	d.Dialect = HuggingFace
	if found[0] == "v_head.weight" {
		d.Dialect = Starling
	}
	head := raw[found[0]]
	if len(head.shape) == 1 { // [hidden] means [1, hidden]
		head.shape = []int{1, head.shape[0]}
		if head.strides != nil {
			head.strides = []int{0, head.strides[0]}
		}
	}
	d.tensors[headName] = head
	return rest, nil
}

// checkZeroBias refuses the bias of a value head, which rmtrain's has not, unless
// leaving it out changes nothing.
func checkZeroBias(name string, t tensor) error {
	n, err := t.elements()
	if err != nil || n > 1<<16 {
		return fmt.Errorf("%s has shape %v, not that of a value head's bias", name, t.shape)
	}
	values := make([]byte, 4*n)
	if err := t.read("F32", values); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, b := range values {
		if b != 0 {
			return fmt.Errorf("%s is not zero, and a head with a bias is not supported (scores would shift; subtract it and remove the tensor if only differences matter)", name)
		}
	}
	return nil
}

// dropBuffers leaves out buffers that old versions of transformers saved.
func (d *Dir) dropBuffers(names []string) []string {
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return strings.HasSuffix(name, "rotary_emb.inv_freq")
	})
	if n := len(names) - len(rest); n > 0 {
		d.note("%d rotary_emb.inv_freq buffers are left out: they follow from config.json", n)
	}
	return rest
}

// takeLMHead separates the LM head, under its own name or inside of a wrapped model.
func takeLMHead(raw map[string]tensor, names []string) (rest []string, lmHead *tensor) {
	for _, name := range names {
		if name == lmHeadName || name == trunk+lmHeadName {
			t := raw[name]
			lmHead = &t
			continue
		}
		rest = append(rest, name)
	}
	return rest, lmHead
}

// adoptTrunk takes the trunk under one prefix and notes copies under others. What
// has no known prefix stays as it is: Check reports it as extra.
func (d *Dir) adoptTrunk(raw map[string]tensor, names []string) {
	order := prefixes
	if d.Dialect == Starling { // its class runs transformer.*
		order = []string{"transformer.", "model.model.", "model.", ""}
	}
	byPrefix := map[string][]string{}
	for _, name := range names {
		p := trunkPrefix(name)
		byPrefix[p] = append(byPrefix[p], name)
	}
	for _, p := range order {
		copies, taken := 0, 0
		for _, name := range byPrefix[p] {
			canonical := canonicalName(name, p)
			first, twice := d.tensors[canonical]
			switch {
			case !twice:
				d.tensors[canonical] = raw[name]
				taken++
			case slices.Equal(first.shape, raw[name].shape):
				copies++
			default: // not a copy: Check shall see it
				d.tensors[name] = raw[name]
			}
		}
		if copies > 0 {
			d.note("a second copy of the trunk, %s* (%d tensors), is left out", p, copies)
		}
		if copies > 0 && taken > 0 {
			d.note("%d tensors are only in the second copy %s* and come from there", taken, p)
		}
	}
}

// trunkPrefix returns the longest known prefix of name.
func trunkPrefix(name string) string {
	best := ""
	for _, p := range prefixes {
		if len(p) > len(best) && strings.HasPrefix(name, p) {
			best = p
		}
	}
	return best
}

// canonicalName maps the name of a tensor under prefix p to transformers'
// ...ForSequenceClassification.
func canonicalName(name, p string) string {
	bare := name[len(p):]
	if p != "" {
		return trunk + bare
	}
	for _, start := range []string{"embed_tokens.", "layers.", "norm."} {
		if strings.HasPrefix(bare, start) {
			return trunk + bare
		}
	}
	return name
}

// adoptTied uses the LM head as embedding where the two are one tensor that was
// stored under the LM head's name only. Otherwise the LM head is left behind.
func (d *Dir) adoptTied(lmHead *tensor) error {
	if lmHead == nil {
		return nil
	}
	if _, ok := d.tensors[embedName]; ok {
		d.note("lm_head.weight is left out: a reward model has a value head instead")
		return nil
	}
	var config struct {
		Tied bool `json:"tie_word_embeddings"`
	}
	if err := json.Unmarshal(d.Config, &config); err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	if !config.Tied {
		return errors.New("lm_head.weight is here but model.embed_tokens.weight is not, and config.json does not tie them (tie_word_embeddings)")
	}
	d.tensors[embedName] = *lmHead
	d.note("lm_head.weight is the embedding: config.json ties them")
	return nil
}
