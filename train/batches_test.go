package train

import (
	"testing"

	"rmtrain/data"
)

// BenchmarkBatches reads and packs the groups of a step, for which the device waits.
func BenchmarkBatches(b *testing.B) {
	const perStep = 64
	gs := groups(20*perStep, 1)
	for i := range gs {
		lengthen(&gs[i], 8)
	}
	d := dataset(b, gs)
	p := plan{groups: d.Len(), perStep: perStep, perEpoch: d.Len() / perStep, epoch: -1}
	b.ReportAllocs()
	tokens, steps := 0, 0
	for b.Loop() {
		steps++
		for _, batch := range pack(read(d, p.indices(steps)), 2048, true) {
			tokens += batch.layout.Real
		}
	}
	b.ReportMetric(float64(tokens)/float64(steps), "tokens/step")
}

// lengthen repeats the tokens of all answers.
func lengthen(g *data.Group, times int) {
	for i, a := range g.Answers {
		for range times - 1 {
			g.Answers[i].Tokens = append(g.Answers[i].Tokens, a.Tokens...)
		}
	}
}
