package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"rmtrain/configs"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/train"
)

// A change is a setting with which a run takes less memory.
type change struct {
	set   string // as --set takes it
	apply func(*configs.Run)
}

// A sizer forecasts the bytes by purpose that the run of a configuration takes. It takes
// recompute: auto for never.
type sizer func(configs.Run) (map[string]int64, error)

// settled makes recompute: auto one of the others, as it fits into limit bytes, and returns
// what the run takes.
func settled(c configs.Run, limit int64, size sizer) (configs.Run, map[string]int64, error) {
	m, err := size(c)
	if err != nil || c.Train.Recompute != "auto" || total(m) <= limit {
		return c, m, err
	}
	c.Train.Recompute = "always"
	m, err = size(c)
	return c, m, err
}

// advise returns changes after which the run of c, whose model has so many layers, fits into
// limit bytes, and the bytes then. Those come first that leave the results alone: recomputing,
// and smaller passes; then bfloat16; then freezing as few layers as it takes. There are none
// if not even that fits.
func advise(c configs.Run, layers int, limit int64, size sizer) ([]change, int64) {
	need := func(changes []change) int64 {
		changed := c
		for _, x := range changes {
			x.apply(&changed)
		}
		_, m, err := settled(changed, limit, size)
		if err != nil {
			return math.MaxInt64
		}
		return total(m)
	}
	for _, changes := range attempts(c, layers, func(x []change) bool { return need(x) <= limit }) {
		if need(changes) > limit {
			continue
		}
		for i := len(changes) - 1; i >= 0; i-- {
			if without := slices.Delete(slices.Clone(changes), i, i+1); need(without) <= limit {
				changes = without
			}
		}
		return changes, need(changes)
	}
	return nil, 0
}

// attempts lists ever stronger changes.
func attempts(c configs.Run, layers int, fits func([]change) bool) [][]change {
	var all [][]change
	var base []change
	if c.Train.Recompute == "never" {
		base = []change{{"train.recompute=always", func(c *configs.Run) { c.Train.Recompute = "always" }}}
		all = append(all, base)
	}
	with := func(x change) []change { return append(slices.Clone(base), x) }
	smaller := base
	for rows := c.PassRows() / 2; rows >= c.Data.MaxLength; rows /= 2 {
		smaller = with(change{fmt.Sprintf("train.max_tokens_per_batch=%d", rows), func(c *configs.Run) { c.Train.MaxTokensPerBatch = rows }})
		all = append(all, smaller)
	}
	base = smaller
	if c.Model.DType != "bfloat16" {
		base = with(change{"model.dtype=bfloat16", func(c *configs.Run) { c.Model.DType = "bfloat16" }})
		all = append(all, base)
	}
	last := sort.Search(layers-1, func(last int) bool { return fits(with(freezing(last))) })
	if last < layers-1 { // something is left to train
		all = append(all, with(freezing(last)))
	}
	return all
}

// freezing freezes the embedding and the layers up to last.
func freezing(last int) change {
	frozen := []string{"embed", fmt.Sprintf("0-%d", last)}
	return change{fmt.Sprintf("train.freeze=[%s]", strings.Join(frozen, ",")), func(c *configs.Run) { c.Train.Freeze = frozen }}
}

// sayAdvice writes what advise returns.
func sayAdvice(changes []change, bytes int64) string {
	if len(changes) == 0 {
		return "no setting makes it fit: train a smaller model, or where there is more memory"
	}
	var b strings.Builder
	b.WriteString("would fit:")
	for _, c := range changes {
		fmt.Fprintf(&b, " --set %s", c.set)
	}
	fmt.Fprintf(&b, ", which takes %s", mebibytes(bytes))
	return b.String()
}

// modelOptions are those of the model that c trains.
func modelOptions(c configs.Run, layers int) (llama.Options, error) {
	dt, err := parseDType(c.Model.DType)
	if err != nil {
		return llama.Options{}, err
	}
	frozen, err := train.Frozen(c.Train.Freeze, layers)
	if err != nil {
		return llama.Options{}, err
	}
	return llama.Options{DType: dt, Train: true, Frozen: frozen, Recompute: c.Train.Recompute == "always"}, nil
}

// size is a sizer for the data that was read.
func (r *trainRun) size(c configs.Run) (map[string]int64, error) {
	o, err := modelOptions(c, r.model.Layers)
	if err != nil {
		return nil, err
	}
	o.Planner, _ = r.backend.(kernels.Planner)
	f, err := train.Plan(c, r.model, o, r.data.Train)
	return f.Memory, err
}

// explain adds to an error for want of the device's memory what was planned and what would
// fit: less than that by a tenth, if the plan seemed to fit.
func (r *trainRun) explain(err error) error {
	if !errors.Is(err, kernels.ErrOutOfMemory) {
		return err
	}
	var table strings.Builder
	writeMemory(&table, r.planned.Memory)
	limit := min(r.limit, total(r.planned.Memory)/10*9)
	return fmt.Errorf("%w\nplanned was\n%s%s", err, &table, sayAdvice(advise(r.cfg, r.model.Layers, limit, r.size)))
}
