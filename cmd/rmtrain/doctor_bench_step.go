package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/train"
)

// A modelShape is that of a well-known model. Layers are left out where they do not fit.
type modelShape struct {
	name   string
	config llama.Config
}

func shapeOf(layers, hidden, ffn, heads, kv, dim, vocab int) llama.Config {
	c := llama.Config{Layers: layers, Hidden: hidden, FFN: ffn, Heads: heads, KVHeads: kv, HeadDim: dim, Vocab: vocab, MaxPositions: 4096, Eps: 1e-5, PadTokenID: -1}
	for i := range dim / 2 {
		c.InvFreq = append(c.InvFreq, float32(math.Pow(1e4, -2*float64(i)/float64(dim))))
	}
	return c
}

// modelShapes are what is trained for a few steps.
func (d *doctor) modelShapes() []modelShape {
	switch {
	case d.quick:
		return []modelShape{{"tiny", d.tinySize().config}}
	case !d.gpu: // a layer of it tells the speed
		return []modelShape{{"1B", shapeOf(1, 2048, 8192, 32, 8, 64, 4096)}}
	}
	return []modelShape{
		{"1B", shapeOf(16, 2048, 8192, 32, 8, 64, 128256)},
		{"7B", shapeOf(32, 4096, 11008, 32, 32, 128, 32000)},
		{"34B", shapeOf(60, 7168, 20480, 56, 8, 128, 64000)},
	}
}

func (d *doctor) stepChecks(section string) (cs []doctorCheck) {
	const dt = kernels.BF16
	for _, shape := range d.modelShapes() {
		cs = append(cs, doctorCheck{section, "training step, " + shape.name + " shape", "measured; memory is what the table says", func(context.Context) finding {
			b := d.backends[dt]
			if b == nil {
				return skip("the backend does not open; see above")
			}
			return d.benchStep(b, dt, shape)
		}})
		if d.o.python != "" {
			cs = append(cs, doctorCheck{section, "training step in PyTorch, " + shape.name + " shape", "measured; its loss is rmtrain's", func(ctx context.Context) finding {
				return d.torchStep(ctx, shape.name)
			}})
		}
	}
	return cs
}

// stepGroups are prompts of Nectar's lengths with 7 answers each.
func (d *doctor) stepGroups(c llama.Config) []data.Group {
	prompts, prompt, answer := 4, 300, 150
	switch {
	case d.quick:
		return d.tinySize().groups()
	case !d.gpu:
		prompts, prompt, answer = 4, 60, 30
	}
	groups := make([]data.Group, prompts)
	id := 0
	tokens := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(1 + id*7919%(c.Vocab-1))
			id++
		}
		return out
	}
	for i := range groups {
		start := tokens(prompt)
		for k := range answersPerPrompt {
			groups[i].Answers = append(groups[i].Answers, data.Answer{Tokens: append(start[:prompt:prompt], tokens(answer-20+10*k)...), Rank: float64(k)})
		}
	}
	return groups
}

// benchStep trains as many layers as fit.
func (d *doctor) benchStep(b kernels.Backend, dt kernels.DType, shape modelShape) finding {
	c := shape.config
	groups := d.stepGroups(c)
	batch := data.Pack(groups, true)
	o := llama.Options{DType: dt, Train: true, MaxRows: len(batch.Tokens), MaxAnswers: len(batch.Scored), Fullest: batch}
	o.Planner, _ = b.(kernels.Planner)
	all := c.Layers
	available, _ := memoryOf(b)
	for ; c.Layers > 0 && !fits(train.Memory(configs.Train{}, c, o), available); c.Layers-- {
	}
	if c.Layers == 0 {
		return skip("not one of %d layers fits into %s", all, mebibytes(available))
	}
	before := inTensors(b.Used())
	ours := stepRun{config: c, groups: groups, dt: dt}
	flops, err := d.timeStep(b, &ours, o, batch, before)
	if err != nil {
		return fail(err)
	}
	d.steps[shape.name] = ours
	seconds := ours.seconds
	note := fmt.Sprintf("%d of %d layers, %d tokens in %d rows", c.Layers, all, batch.Real, len(batch.Tokens))
	speed := measurement{Name: "training step, " + shape.name + " shape, " + dtypeName(dt), Value: 3 * flops / seconds, Unit: "FLOP/s", Note: note}
	if peak := d.peaks[dt]; peak > 0 {
		speed.Share = speed.Value / peak
	}
	d.report.Measured = append(d.report.Measured, speed,
		measurement{Name: "tokens of conversations, " + shape.name + " shape", Value: float64(batch.Real) / seconds, Unit: "tokens/s", Note: note},
		measurement{Name: "prompts, " + shape.name + " shape", Value: float64(len(groups)) / seconds, Unit: "prompts/s", Note: note})
	memory := mebibytes(inTensors(train.Memory(configs.Train{}, c, o))) + ", as planned"
	if n := b.Used()[kernels.ScratchTag]; n > 0 {
		memory += ", and " + mebibytes(n) + " of scratch memory"
	}
	return pass("%s; memory %s", note, memory)
}

// inTensors returns the bytes of tensors alone: without scratch memory, of which a plan is a
// bound.
func inTensors(m map[string]int64) int64 { return total(m) - m[kernels.ScratchTag] }

// timedSteps are measured after one to warm up.
const timedSteps = 2

// timeStep measures a step and returns the operations of its forward pass. Memory in use
// must be what was planned.
func (d *doctor) timeStep(b kernels.Backend, s *stepRun, o llama.Options, batch *data.Batch, before int64) (flops float64, err error) {
	m, err := llama.New(b, s.config, o)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	if err := m.Load(repeatedWeights()); err != nil {
		return 0, err
	}
	w := &benchWork{b: b, m: m, groups: s.groups, bins: [][]int{upTo(len(s.groups))}}
	defer w.free()
	if err := w.prepareTraining(); err != nil {
		return 0, err
	}
	first, result := map[string]any{}, map[string]any{}
	if err := w.step(first); err != nil {
		return 0, err
	}
	s.loss, s.gradNorm = first["loss"].(float64), first["grad_norm"].(float64)
	start := time.Now()
	for range timedSteps {
		if err := w.step(result); err != nil {
			return 0, err
		}
	}
	s.seconds = time.Since(start).Seconds() / timedSteps
	if used, want := inTensors(b.Used())-before, inTensors(train.Memory(configs.Train{}, s.config, o)); used > want || 10*used < 9*want {
		return 0, fmt.Errorf("a step uses %s, planned are %s", mebibytes(used), mebibytes(want))
	}
	return m.FLOPs(batch), nil
}

// repeatedPeriod is how many numbers of a weight differ.
const repeatedPeriod = 1<<16 + 1

// repeatedWeights are those of benchWeights for the first elements of a tensor, again and
// again: hashing every element of a large model would take minutes.
func repeatedWeights() func(string, kernels.DType, []int, []byte) error {
	return func(name string, dt kernels.DType, shape []int, dst []byte) error {
		n := min(len(dst), repeatedPeriod*dt.Size())
		if err := benchWeights(name, dt, shape, dst[:n]); err != nil {
			return err
		}
		for ; n > 0 && n < len(dst); n *= 2 {
			copy(dst[n:], dst[:n])
		}
		return nil
	}
}

// free gives back the optimizer's memory.
func (w *benchWork) free() {
	for _, a := range w.params {
		for _, t := range []kernels.Tensor{a.Master, a.M, a.V} {
			w.b.Free(t)
		}
	}
	w.b.Free(w.norm)
}
