package main

import (
	"context"
	"fmt"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/train"
)

// plan prints what the run will do, and the memory that it takes.
func (r *trainRun) plan(context.Context) error {
	available, gpu := memoryOf(r.backend)
	r.limit = plannable(available, gpu)
	if err := r.forecast(r.limit); err != nil {
		return err
	}
	c, f, t := r.model, r.planned, r.cfg.Train
	r.say("\nplan")
	r.say("  model    %s", r.cfg.Model.NameOrPath)
	r.say("           %s parameters in %s on %s: %d layers, %d channels, %d:%d heads of %d", si(float64(parameters(c))), r.cfg.Model.DType, r.backend.Name(), c.Layers, c.Hidden, c.Heads, c.KVHeads, c.HeadDim)
	r.say("  data     %s to train on, %s to evaluate on", count(f.Groups, "group"), count(groupsOf(r.data.Eval), "group"))
	r.say("  steps    %d of %s each, %d in an epoch, %d to warm up", f.TotalSteps, count(min(t.PromptsPerStep, f.Groups), "group"), f.StepsPerEpoch, f.WarmupSteps)
	r.say("  step 1   %d tokens, %d to compute after sharing prompts, in %s of at most %d", f.Tokens, f.Rows, count(len(f.MicroBatches), "pass"), f.MaxRows)
	r.say("  output   %s", t.OutputDir)
	r.sayMemory(f.Memory, r.options.Recompute)
	if sum := total(f.Memory); sum > available {
		r.say("note: that is more than the %s that are available\n%s", mebibytes(available), sayAdvice(advise(r.cfg, c.Layers, r.limit, r.size)))
	}
	return nil
}

func (r *trainRun) sayMemory(m map[string]int64, recompute bool) {
	r.say("\nmemory%s", map[bool]string{true: ", with activations recomputed in the backward pass"}[recompute])
	writeMemory(r.w, m)
}

// forecast plans the run, and decides what depends on whether that takes more than limit
// bytes: recomputing activations, without which it should fit, and then whether there is
// room for packed weights.
func (r *trainRun) forecast(limit int64) error {
	o := r.options
	o.Recompute = r.cfg.Train.Recompute == "always"
	if err := r.forecastWith(o); err != nil {
		return err
	}
	if r.cfg.Train.Recompute == "auto" && total(r.planned.Memory) > limit {
		o.Recompute = true
		if err := r.forecastWith(o); err != nil {
			return err
		}
	}
	return r.forecastPacked(limit)
}

func (r *trainRun) forecastWith(o llama.Options) error {
	f, err := train.Plan(r.cfg, r.model, o, r.data.Train)
	if err == nil {
		r.options, r.planned = o, f
	}
	return err
}

// forecastPacked has the backend keep weights packed, if it can, if the passes of a step
// are enough for that to pay, and if the run still takes at most limit bytes.
func (r *trainRun) forecastPacked(limit int64) error {
	keeper, ok := r.backend.(kernels.Keeper)
	if !ok || len(r.planned.MicroBatches) < train.KeptPasses {
		return nil
	}
	o := r.options
	o.Keeper = keeper
	f, err := train.Plan(r.cfg, r.model, o, r.data.Train)
	if err == nil && total(f.Memory) <= limit {
		r.options, r.planned = o, f
	}
	return err
}

func groupsOf(d *data.Dataset) int {
	if d == nil {
		return 0
	}
	return d.Len()
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if thing[len(thing)-1] == 's' {
		return fmt.Sprintf("%d %ses", n, thing)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
