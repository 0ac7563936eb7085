package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
	"rmtrain/kernels/llama"
	"rmtrain/kernels/reference"
)

// trainingLimits bound how far 20 steps may part from those of another backend: losses
// relative to the first, and the distance of the weights' changes relative to the change.
// They allow some times what the CPU and the emulator show against float64 (1e-7 and 6e-6
// in float32, 9e-4 and 0.04 in bfloat16, most of which is the rounding of the weights).
var trainingLimits = map[kernels.DType]struct{ loss, weights float64 }{
	kernels.F32:  {5e-6, 1e-4},
	kernels.BF16: {1e-2, 0.25},
}

// trainingChecks run the trainer itself on a model of random weights.
func (d *doctor) trainingChecks() []doctorCheck {
	const section = "training"
	var cs []doctorCheck
	cs = append(cs, d.perType(section, "against float64", "a training run computes what the definitions say", d.againstFloat64)...)
	if d.gpu {
		cs = append(cs, d.perType(section, "against the CPU", "a training run on the GPU is that of the CPU, but for rounding", d.againstCPU)...)
	}
	cs = append(cs, d.perType(section, "resumed", "a run that goes on from a state has the bits of one that was not stopped", d.resumed)...)
	cs = append(cs, d.perType(section, "prompts not shared", "sharing a prompt changes a run by rounding alone", d.unshared)...)
	return append(cs, d.perType(section, "scores in any company", "a score has the same bits alone, in a batch, behind a shared prompt and behind its own", d.anyCompany)...)
}

// near compares two runs.
func near(a, b *tinyRun, dt kernels.DType) finding {
	if len(a.losses) != len(b.losses) || len(a.weights) != len(b.weights) {
		return fail(fmt.Errorf("%d steps and %d weights, compared with %d and %d", len(a.losses), len(a.weights), len(b.losses), len(b.weights)))
	}
	worst := 0.0
	for i := range b.losses {
		worst = max(worst, math.Abs(a.losses[i]-b.losses[i])/b.losses[0])
	}
	apart, change := 0.0, 0.0
	for i := range b.weights {
		apart += (a.weights[i] - b.weights[i]) * (a.weights[i] - b.weights[i])
		change += (b.weights[i] - b.start[i]) * (b.weights[i] - b.start[i])
	}
	limit, distance := trainingLimits[dt], math.Sqrt(apart/change)
	detail := fmt.Sprintf("%d steps, loss %.4f to %.4f; losses differ by %.1g (allowed %.2g), changes of weights by %.1g (allowed %.2g)",
		len(b.losses), b.losses[0], b.losses[len(b.losses)-1], worst, limit.loss, distance, limit.weights)
	if worst <= limit.loss && distance <= limit.weights { // false for NaN
		return pass("%s", detail)
	}
	return finding{failed, detail}
}

func (d *doctor) againstFloat64(ctx context.Context, b kernels.Backend, dt kernels.DType) finding {
	return d.compareRuns(ctx, b, dt, "reference", reference.New(kernels.F64), nil)
}

func (d *doctor) againstCPU(ctx context.Context, b kernels.Backend, dt kernels.DType) finding {
	other, err := cpu.New(dt)
	if err != nil {
		return fail(err)
	}
	defer other.Close()
	return d.compareRuns(ctx, b, dt, "cpu", other, nil)
}

func (d *doctor) unshared(ctx context.Context, b kernels.Backend, dt kernels.DType) finding {
	return d.compareRuns(ctx, b, dt, "unshared", b, func(c *configs.Run) { c.Train.SharePrefix = false })
}

// compareRuns compares the device's run with one on another backend, or with other settings.
func (d *doctor) compareRuns(ctx context.Context, b kernels.Backend, dt kernels.DType, name string, other kernels.Backend, change func(*configs.Run)) finding {
	mine, err := d.trained(ctx, "device", b, dt, nil)
	if err != nil {
		return fail(err)
	}
	theirs, err := d.trained(ctx, name, other, dt, change)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", name, err))
	}
	return near(mine, theirs, dt)
}

// resumed goes on from the state in the middle.
func (d *doctor) resumed(ctx context.Context, b kernels.Backend, dt kernels.DType) finding {
	whole, err := d.trained(ctx, "device", b, dt, nil)
	if err != nil {
		return fail(err)
	}
	again, err := d.trained(ctx, "resumed", b, dt, func(c *configs.Run) {
		c.Train.ResumeFrom = filepath.Join(whole.dir, fmt.Sprintf("checkpoint-%d", tinySteps/2))
	})
	switch {
	case err != nil:
		return fail(err)
	case !slices.Equal(again.losses, whole.losses[tinySteps/2:]):
		return fail(fmt.Errorf("losses %v, without a stop %v", again.losses, whole.losses[tinySteps/2:]))
	case !slices.Equal(again.weights, whole.weights):
		return fail(fmt.Errorf("the losses are equal, the weights are not"))
	}
	return pass("from step %d to %d: losses and %d weights are equal to the bit", tinySteps/2, tinySteps, len(whole.weights))
}

// anyCompany scores every conversation in four ways.
func (d *doctor) anyCompany(ctx context.Context, b kernels.Backend, dt kernels.DType) finding {
	size := d.tinySize()
	m, err := llama.New(b, size.config, llama.Options{DType: dt})
	if err != nil {
		return fail(err)
	}
	defer m.Close()
	if err := m.Load(tinyWeights(dt)); err != nil {
		return fail(err)
	}
	groups := size.groups()
	want, err := m.Forward(data.Pack(groups, true))
	if err != nil {
		return fail(err)
	}
	unshared, err := m.Forward(data.Pack(groups, false))
	if err != nil {
		return fail(err)
	}
	var grouped, alone []float64
	for _, g := range groups {
		if ctx.Err() != nil {
			return fail(context.Cause(ctx))
		}
		scores, err := m.Forward(data.Pack([]data.Group{g}, true))
		if err != nil {
			return fail(err)
		}
		grouped = append(grouped, scores...)
		for _, a := range g.Answers {
			score, err := m.Forward(data.Pack([]data.Group{{Answers: []data.Answer{a}}}, false))
			if err != nil {
				return fail(err)
			}
			alone = append(alone, score...)
		}
	}
	for _, way := range []struct {
		name   string
		scores []float64
	}{{"behind prompts of their own", unshared}, {"group by group", grouped}, {"one by one", alone}} {
		if i := slices.IndexFunc(upTo(len(want)), func(i int) bool { return way.scores[i] != want[i] }); i >= 0 {
			return fail(fmt.Errorf("%s: score %d is %v, in one batch %v", way.name, i, way.scores[i], want[i]))
		}
	}
	return pass("%d scores of %s, four ways", len(want), count(len(groups), "group"))
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
