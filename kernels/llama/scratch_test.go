package llama

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
)

// ranked returns a batch of groups of 4 answers of so many tokens behind a prompt.
func ranked(r *rand.Rand, vocab, groups, prompt, answer int) *data.Batch {
	tokens := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(r.IntN(vocab))
		}
		return ids
	}
	gs := make([]data.Group, groups)
	for i := range gs {
		start := tokens(prompt)
		for range 4 {
			gs[i].Answers = append(gs[i].Answers, data.Answer{Tokens: append(start[:prompt:prompt], tokens(answer)...)})
		}
	}
	return data.Pack(gs, true)
}

// What is held depends on the order of operations, by up to a quarter; the plan is no less,
// nor much more where there are no more threads than work for them.
func TestScratchMemoryIsPlanned(t *testing.T) {
	for _, x := range []struct {
		threads int
		o       Options
	}{
		{2, Options{}}, {2, Options{Train: true}}, {16, Options{Train: true}}, {2, Options{Train: true, Recompute: true}},
		{2, Options{Train: true, Frozen: func(p string) bool { return p != "score.weight" }}},
	} {
		for name, c := range benchConfigs {
			for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
				o := x.o
				t.Run(fmt.Sprintf("%d/%s/%v/train=%t,recompute=%t,frozen=%t", x.threads, name, dt, o.Train, o.Recompute, o.Frozen != nil), func(t *testing.T) {
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(x.threads))
					c.Layers, c.Vocab, o.DType = 2, 100, dt
					held, planned := heldAndPlanned(t, c, o)
					if held == 0 || held > planned || x.threads == 2 && 4*planned > 5*held {
						t.Errorf("%d bytes of scratch memory are held, planned were %d", held, planned)
					}
				})
			}
		}
	}
}

// heldAndPlanned returns the scratch memory that is held after passes over a batch and
// over smaller ones, and that of the plan.
func heldAndPlanned(t *testing.T, c Config, o Options) (held, planned int64) {
	t.Helper()
	b, err := cpu.New(o.DType)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r := rand.New(rand.NewPCG(1, 2))
	o.Fullest = ranked(r, c.Vocab, 2, 60, 70)
	o.MaxRows, o.MaxAnswers = len(o.Fullest.Tokens), len(o.Fullest.Scored)
	if n := Plan(c, o)[kernels.ScratchTag]; n != 0 {
		t.Errorf("%d bytes of scratch memory are planned without asking the backend", n)
	}
	o.Planner = b.(kernels.Planner)
	planned = Plan(c, o)[kernels.ScratchTag]
	if used := b.Used(); len(used) != 0 {
		t.Errorf("the plan has taken %v", used)
	}
	m := newSeeded(t, b, c, o)
	defer m.Close()
	for _, batch := range []*data.Batch{ranked(r, c.Vocab, 1, 60, 70), o.Fullest, ranked(r, c.Vocab, 1, 20, 80)} {
		scores := forward(t, m, batch)
		if !o.Train {
			continue
		}
		if err := m.Backward(scores); err != nil {
			t.Fatal(err)
		}
	}
	return b.Used()[kernels.ScratchTag], planned
}

// Without a batch to go by, a plan is for a conversation that fills the rows.
func TestScratchMemoryIsPlannedWithoutABatch(t *testing.T) {
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
		b, err := cpu.New(dt)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		c := benchConfigs["smollm"]
		c.Layers, c.Vocab = 2, 100
		o := Options{DType: dt, MaxRows: 600, MaxAnswers: 600, Planner: b.(kernels.Planner)}
		planned := Plan(c, o)[kernels.ScratchTag]
		m := newSeeded(t, b, c, o)
		defer m.Close()
		forward(t, m, ranked(rand.New(rand.NewPCG(1, 2)), c.Vocab, 2, 100, 50))
		if held := b.Used()[kernels.ScratchTag]; held == 0 || held > planned {
			t.Errorf("%v: %d bytes of scratch memory are held, planned were %d", dt, held, planned)
		}
	}
}
