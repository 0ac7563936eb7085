package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/data/nectar"
	"rmtrain/data/tokenizer"
	"rmtrain/train"
)

// card writes the model card of a reward model from what its rmtrain.json knows.
// With curves there is a curves.png beside it.
func card(m checkpoints.Meta, dialect string, curves bool) []byte {
	front := map[string]any{"pipeline_tag": "text-classification", "tags": []string{"reward-model", "rmtrain"}}
	base, isID := baseModel(m.Base)
	title := "Reward model"
	if isID {
		front["base_model"] = base
		title += " of " + base
	}
	var b bytes.Buffer
	header, _ := yaml.Marshal(front) // strings always marshal
	fmt.Fprintf(&b, "---\n%s---\n\n# %s\n\n", header, title)
	b.WriteString("A scalar reward for the last answer of a conversation: higher is better. Only differences between answers to the same prompt mean something.\n\n")
	cardUse(&b, m, dialect)
	cardTraining(&b, m)
	if curves {
		b.WriteString("![Loss and accuracy](curves.png)\n\n")
	}
	cardData(&b, m)
	cardRecipe(&b, m)
	fmt.Fprintf(&b, "Made by rmtrain %s.\n", m.Version)
	return b.Bytes()
}

// baseModel returns how to call the base model in public: its id on the hub, which
// is also the name of its folder in the local cache, or the last part of its path.
func baseModel(nameOrPath string) (name string, isID bool) {
	for part := range strings.SplitSeq(filepath.ToSlash(nameOrPath), "/") {
		if id, ok := strings.CutPrefix(part, "models--"); ok {
			return strings.Replace(id, "--", "/", 1), true
		}
	}
	if configs.IsHubID(nameOrPath, ".") {
		return nameOrPath, true
	}
	return filepath.Base(nameOrPath), false
}

// has decodes an optional part of rmtrain.json.
func has(raw json.RawMessage, v any) bool {
	return len(raw) > 0 && string(raw) != "null" && json.Unmarshal(raw, v) == nil
}

func cardUse(b *bytes.Buffer, m checkpoints.Meta, dialect string) {
	b.WriteString("## Use\n\n    rmtrain infer --checkpoint . < samples.jsonl\n\n")
	if dialect == "huggingface" {
		b.WriteString("or `AutoModelForSequenceClassification.from_pretrained` of transformers; the reward is the only logit.\n\n")
	} else {
		b.WriteString("or the class of Starling-RM's model card: tensors are named `transformer.*` and `v_head.weight`.\n\n")
	}
	var f tokenizer.Format
	if !has(m.Format, &f) {
		return
	}
	how := "the chat template in `rmtrain.json`"
	switch f.Template {
	case "":
		how = "plain text, \"\\n\\nHuman: ...\\n\\nAssistant: ...\""
	case textsOnly:
		how = "nothing: only finished texts are scored"
	}
	fmt.Fprintf(b, "Conversations are rendered by %s, cut on the %s to %d tokens, and scored at the position `%s`.\n\n", how, f.TruncationSide, f.MaxLength, f.ScorePosition)
}

func cardTraining(b *bytes.Buffer, m checkpoints.Meta) {
	var s train.Summary
	if !has(m.Metrics, &s) {
		return
	}
	fmt.Fprintf(b, "## Training\n\n%d of %d optimizer steps (%.2f epochs); these are the weights of step %d. Mean training loss %.4f.\n\n", s.Step, s.TotalSteps, s.Epoch, s.Exported, s.TrainLoss)
	if s.Last == nil {
		return
	}
	b.WriteString("| held-out data | step | pairwise accuracy | loss |\n|---|---|---|---|\n")
	for _, e := range []*train.Evaluation{s.Best, s.Last} {
		if e != nil && (e == s.Last || e.Step != s.Last.Step) {
			fmt.Fprintf(b, "| %d groups | %d | %.4f | %.4f |\n", e.Groups, e.Step, e.PairwiseAccuracy, e.Loss)
		}
	}
	b.WriteString("\n")
}

func cardData(b *bytes.Buffer, m checkpoints.Meta) {
	var r nectar.Report
	if !has(m.Data, &r) {
		return
	}
	b.WriteString("## Data\n\n```\n")
	_ = r.WriteTable(b) // a buffer takes everything
	b.WriteString("```\n\n")
}

func cardRecipe(b *bytes.Buffer, m checkpoints.Meta) {
	var c configs.Run
	if !has(m.Recipe, &c) {
		return
	}
	y, err := c.YAML()
	if err != nil {
		return
	}
	b.WriteString("## Recipe\n\n```yaml\n")
	for line := range strings.Lines(string(y)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	b.WriteString("```\n\n")
}
