package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/cost"
	"rmtrain/kernels/llama"
	"rmtrain/train"
)

// rooflineOptions say what is predicted.
type rooflineOptions struct {
	prompts, pass int
	gpu           string // whose operations are listed
	assume        cost.Assumptions
	launch        float64 // of assume, in microseconds
}

func rooflineCommand() *cobra.Command {
	var o rooflineOptions
	c := &cobra.Command{
		Use:   "roofline MODEL",
		Short: "Predict how long training steps of a model take on GPUs that are not here",
		Long: `Prints a page, in Markdown, of what a training step of a model should take on GPUs that are
not here: from the operations of a step, data sheets, and shares of them that the flags
say. Of the model, config.json is enough. Nothing is measured; docs/roofline.md is the page
of Yi-34B.`,
		Example: `  rmtrain roofline 01-ai/Yi-34B-Chat > roofline.md
  rmtrain roofline ./model --product 0.6 --gpu a100-80gb`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			mc, err := readModelConfig(args[0])
			if err != nil {
				return err
			}
			o.assume.Launch = o.launch * 1e-6
			page, err := o.page(mc)
			if err != nil {
				return fmt.Errorf("roofline: %w", err)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), page)
			return err
		},
	}
	likely := cost.Likely
	f := c.Flags()
	f.IntVar(&o.prompts, "prompts", 104, "prompts of a step, as train.prompts_per_step")
	f.IntVar(&o.pass, "pass", 16384, "tokens of a pass, as train.max_tokens_per_batch")
	f.StringVar(&o.gpu, "gpu", "h100-80gb", "whose operations to list")
	f.Float64Var(&o.assume.Product, "product", likely.Product, "share of the peak that matrix products reach")
	f.Float64Var(&o.assume.Memory, "memory", likely.Memory, "share of the memory's bandwidth that other operations reach")
	f.Float64Var(&o.assume.Attention, "attention", likely.Attention, "share of its static bound that attention reaches")
	f.Float64Var(&o.launch, "launch", likely.Launch*1e6, "microseconds between two kernels")
	complete(c, "gpu", cobra.ShellCompDirectiveNoFileComp, gpuNames()...)
	return c
}

func (o rooflineOptions) check() error {
	if o.prompts < 1 || o.pass < 1 {
		return fmt.Errorf("--prompts %d and --pass %d must be at least 1", o.prompts, o.pass)
	}
	for name, share := range map[string]float64{"product": o.assume.Product, "memory": o.assume.Memory, "attention": o.assume.Attention} {
		if share <= 0 || share > 1 {
			return fmt.Errorf("--%s %v is not a share above 0 and up to 1", name, share)
		}
	}
	if o.assume.Launch < 0 {
		return fmt.Errorf("--launch %v must not be negative", o.launch)
	}
	return nil
}

// A rooflineMode is a way to use a model.
type rooflineMode struct {
	name, note string
	options    llama.Options
}

var rooflineModes = []rooflineMode{
	{"scoring", "forward passes alone", llama.Options{}},
	{"full", "all weights are trained, all results of the forward pass are kept", llama.Options{Train: true}},
	{"full, recomputed", "the same with `train.recompute: always`", llama.Options{Train: true, Recompute: true}},
	{"LoRA-ready", "embedding and matrices frozen, norms and head trained: gradients pass through every matrix, as adapters need. rmtrain has no adapters, and theirs is not counted", llama.Options{Train: true, Frozen: matrix}},
	{"LoRA-ready, recomputed", "the same with results recomputed", llama.Options{Train: true, Recompute: true, Frozen: matrix}},
}

// matrix tells whether a parameter is the embedding or a matrix of a layer.
func matrix(param string) bool {
	return !strings.Contains(param, "norm") && !strings.HasPrefix(param, "score")
}

// Prompts and answers of typical groups, in tokens: about those of Nectar, and the same as
// those of `rmtrain doctor --bench`.
const (
	typicalPrompt = 300
	typicalAnswer = 130 // the first of 7; each is 10 longer than the one before
	typicalStep   = 10
)

// typicalGroups returns n groups.
func typicalGroups(n int) []data.Group {
	var g data.Group
	for k := range answersPerPrompt {
		g.Answers = append(g.Answers, data.Answer{Tokens: make([]int32, typicalPrompt+typicalAnswer+typicalStep*k), Rank: float64(k)})
		// The first token after the prompt differs, so that the prompt is all that they share.
		g.Answers[k].Tokens[typicalPrompt] = int32(k + 1)
	}
	groups := make([]data.Group, n)
	for i := range groups {
		groups[i] = g
	}
	return groups
}

// A rehearsal is what was counted of a step.
type rehearsal struct {
	entries []cost.Entry
	memory  map[string]int64 // bytes by purpose
	tokens  int              // of the conversations
	rows    int              // to compute, after sharing prompts
}

// rehearse counts a step on typical groups, in bfloat16.
func rehearse(c configs.Run, mc llama.Config, o llama.Options, prompts int) (rehearsal, error) {
	var r rehearsal
	groups := typicalGroups(prompts)
	for _, g := range groups {
		r.rows += data.PackRows(g, c.Train.SharePrefix)
		for _, a := range g.Answers {
			r.tokens += len(a.Tokens)
		}
	}
	recorder := cost.NewRecorder()
	o.DType = kernels.BF16
	if err := train.Rehearse(recorder, c, mc, o, groups, recorder.Phase); err != nil {
		return r, err
	}
	r.entries, r.memory = recorder.Entries(), recorder.Used()
	return r, nil
}

// sayPrediction adds to the plan for a GPU what a step should take there. There is nothing to
// say of one that is given by its size, or of float32.
func (r *trainRun) sayPrediction(gpu string, run configs.Run) error {
	o, err := modelOptions(run, r.model.Layers)
	card, ok := cost.Named(strings.ToLower(gpu))
	if err != nil || !ok || o.DType != kernels.BF16 {
		return err
	}
	step, err := rehearse(run, r.model, o, run.Train.PromptsPerStep)
	if err != nil {
		return err
	}
	of := func(phase string) float64 { return card.Total(step.entries, phase, cost.Likely) }
	r.say("predicted, not measured (docs/roofline.md): %s a step of %s with %d answers each, if they are as long as Nectar's",
		duration(of("")), count(run.Train.PromptsPerStep, "prompt"), answersPerPrompt)
	r.say("  forward %s, backward %s, optimizer %s; at the bounds of the card %s",
		duration(of(train.Phases[0])), duration(of(train.Phases[1])), duration(of(train.Phases[2])), duration(card.Total(step.entries, "", cost.AtBound)))
	return nil
}

// duration writes seconds with up to three digits.
func duration(seconds float64) string {
	switch {
	case seconds >= 100:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds >= 1:
		return fmt.Sprintf("%.3g s", seconds)
	case seconds >= 0.1:
		return fmt.Sprintf("%.0f ms", 1e3*seconds)
	case seconds >= 1e-3:
		return fmt.Sprintf("%.3g ms", 1e3*seconds)
	}
	return fmt.Sprintf("%.3g µs", 1e6*seconds)
}
