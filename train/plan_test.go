package train

import (
	"math"
	"slices"
	"testing"

	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels/llama"
)

func TestPlanCountsSteps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		groups, perStep int
		epochs          float64
		maxSteps, want  int
	}{
		{10, 3, 1, -1, 4}, {10, 3, 1.5, -1, 6}, {10, 3, 0.1, -1, 1}, {10, 3, 5, 7, 7}, {9, 3, 2, -1, 6},
		{2, 64, 3, -1, 3}, {10, 3, 2, 0, 8}, {162954, 104, 5, -1, 7835},
	} {
		p, err := newPlan(run(c.perStep, c.epochs, c.maxSteps), c.groups)
		check(t, err)
		if p.total != c.want {
			t.Errorf("%+v: %d steps", c, p.total)
		}
	}
	for _, bad := range []struct {
		groups, perStep int
		epochs          float64
	}{{0, 3, 1}, {10, 3, 0}, {10, 0, 1}} {
		if _, err := newPlan(run(bad.perStep, bad.epochs, -1), bad.groups); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func run(perStep int, epochs float64, maxSteps int) configs.Run {
	var c configs.Run
	c.Train.PromptsPerStep, c.Train.NumTrainEpochs, c.Train.MaxSteps, c.Train.MaxTokensPerBatch = perStep, epochs, maxSteps, 1
	c.Data.Seed = 4
	return c
}

func TestAnEpochReadsEveryGroupOnce(t *testing.T) {
	t.Parallel()
	p, err := newPlan(run(3, 2, -1), 10)
	check(t, err)
	for epoch := range 2 {
		var got []int
		for step := 1; step <= 4; step++ {
			got = append(got, p.indices(4*epoch+step)...)
		}
		if want := data.Shuffle(10, 4, epoch); !slices.Equal(got, want) {
			t.Errorf("epoch %d reads %v, want %v", epoch, got, want)
		}
	}
	for step, want := range map[int]float64{0: 0, 1: 0.3, 3: 0.9, 4: 1, 5: 1.3, 8: 2} {
		if got := p.epochs(step); math.Abs(got-want) > 1e-12 {
			t.Errorf("after step %d: epoch %g, want %g", step, got, want)
		}
	}
}

// The forecast is what a run does.
func TestForecastIsWhatARunTakes(t *testing.T) {
	t.Parallel()
	for _, s := range storages {
		dt := s.dtype
		w := newWorld(t, dt)
		c := baseConfig(t.TempDir())
		c.Train.MaxTokensPerBatch, c.Train.StochasticRounding = 40, s.stochastic
		var err error
		w.frozen, err = Frozen([]string{"0"}, tiny.Layers)
		check(t, err)
		o := llama.Options{DType: dt, MaxRows: 16, MaxAnswers: 4, Train: true, Frozen: w.frozen}
		f, err := Plan(c, tiny, o, w.train)
		check(t, err)
		in := w.inputs(c)
		opt, err := newOptimizer(in.Backend, c.Train, in.Model.Params())
		check(t, err)
		for tag, bytes := range in.Backend.Used() {
			if f.Memory[tag] != bytes {
				t.Errorf("%v: %d bytes of %s, forecast %d", dt, bytes, tag, f.Memory[tag])
			}
		}
		opt.close()
		if n := in.Backend.Used()[optimizerTag]; n != 0 {
			t.Errorf("%v: %d bytes of the optimizer are never freed", dt, n)
		}
		rows, tokens := 0, 0
		for i, at := range data.Shuffle(10, 0, 0)[:3] {
			rows += data.PackRows(w.train.Group(at), true)
			for _, a := range w.train.Group(at).Answers {
				tokens += len(a.Tokens)
			}
			if i == 0 && f.MaxRows < rows {
				t.Errorf("the largest batch has %d rows, which a group of %d exceeds", f.MaxRows, rows)
			}
		}
		sum := 0
		for _, n := range f.MicroBatches {
			sum += n
		}
		if f.Rows != rows || sum != rows || f.Tokens != tokens || f.TotalSteps != 6 || f.StepsPerEpoch != 4 || len(f.MicroBatches) < 2 {
			t.Errorf("forecast %+v, want %d rows of %d tokens", f, rows, tokens)
		}
	}
}

func TestTheFullestBatchHasAllRows(t *testing.T) {
	t.Parallel()
	gs := groups(4, 3)
	largest, share := 0, true
	for _, g := range gs {
		largest = max(largest, data.PackRows(g, share))
	}
	for _, rows := range []int{1, largest, 2*largest + 1, 20 * largest} {
		b := fullest(gs, rows, share)
		if len(b.Tokens) != rows {
			t.Errorf("%d rows, want %d", len(b.Tokens), rows)
		}
		if rows == 20*largest && len(b.Scored) < 3*20 {
			t.Errorf("%d answers in the room for 20 groups", len(b.Scored))
		}
	}
}
