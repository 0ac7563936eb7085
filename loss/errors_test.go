package loss

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
)

func TestBadConfigIsRefused(t *testing.T) {
	for _, test := range []struct {
		config Config
		want   string
	}{
		{Config{Type: "pairwise"}, `loss: type is "pairwise": it must be one of ["plackett_luce" "top_m_plackett_luce" "bradley_terry"]`},
		{Config{Ties: "exact"}, `loss: ties is "exact": it must be one of ["efron" "breslow" "drop"]`},
		{Config{Normalization: "mean"}, `loss: normalization is "mean": it must be one of ["pairs" "terms" "sum"]`},
		{Config{Type: TopMPlackettLuce}, "loss: m is 0: top_m_plackett_luce ranks at least 1 place"},
		{Config{Margin: -1}, "loss: margin is -1: it must be finite and not negative"},
		{Config{Margin: math.NaN()}, "loss: margin is NaN: it must be finite and not negative"},
		{Config{Center: math.Inf(1)}, "loss: center is +Inf: it must be finite and not negative"},
		{Config{LabelSmoothing: 0.5}, "loss: label_smoothing is 0.5: it must be at least 0 and less than 0.5, where rankings say nothing"},
	} {
		if _, err := New(test.config); err == nil || err.Error() != test.want {
			t.Errorf("New(%+v): %v\nwant %s", test.config, err, test.want)
		}
		for name, build := range implementations {
			if _, err := build(test.config); err == nil || err.Error() != test.want {
				t.Errorf("%s of %+v: %v\nwant %s", name, test.config, err, test.want)
			}
		}
	}
}

func TestBadGroupIsRefusedByIndex(t *testing.T) {
	good := Group{Scores: []float64{1, 2}, Ranks: []float64{1, 2}}
	for _, test := range []struct {
		group Group
		grads int
		want  string
	}{
		{Group{}, 0, "loss: eval group 1: 0 answers: a ranking needs at least 2"},
		{Group{Scores: []float64{1}, Ranks: []float64{1}}, 1, "loss: eval group 1: 1 answers: a ranking needs at least 2"},
		{Group{Scores: []float64{1, 2}, Ranks: []float64{1}}, 2, "loss: eval group 1: 2 scores but 1 ranks and room for 2 gradients"},
		{Group{Scores: []float64{1, 2}, Ranks: []float64{1, 2}}, 3, "loss: eval group 1: 2 scores but 2 ranks and room for 3 gradients"},
		{Group{Scores: []float64{1, 2}, Ranks: []float64{1, math.NaN()}}, 2, "loss: eval group 1: rank of answer 1 is NaN: ranks are finite numbers"},
		{Group{Scores: []float64{1, 2}, Ranks: []float64{math.Inf(-1), 1}}, 2, "loss: eval group 1: rank of answer 0 is -Inf: ranks are finite numbers"},
		{Group{Scores: []float64{1, 2}, Ranks: []float64{1, 2}, Margin: math.NaN()}, 2, "loss: eval group 1: margin is NaN: it must be finite"},
	} {
		for name := range implementations {
			grads := [][]float64{make([]float64, 2), make([]float64, test.grads)}
			_, err := mustLoss(t, name, Config{}).Eval([]Group{good, test.group}, grads)
			if err == nil || err.Error() != test.want {
				t.Errorf("%s of %+v: %v\nwant %s", name, test.group, err, test.want)
			}
			if grads[0][0] != 0 {
				t.Errorf("%s of %+v: a gradient was written", name, test.group)
			}
		}
	}
	_, err := mustLoss(t, "closed", Config{}).Eval([]Group{good}, nil)
	if want := "loss: eval: 1 groups but 0 gradients"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestConcurrentUse(t *testing.T) {
	closed := mustLoss(t, "closed", Config{Margin: 0.1})
	for name := range implementations {
		l := mustLoss(t, name, Config{Margin: 0.1})
		var wg sync.WaitGroup
		for seed := range uint64(4) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, 0))
				for range 20 {
					groups := []Group{randomGroup(r, 2+r.IntN(6)), randomGroup(r, 4)}
					want, err := closed.Eval(groups, room(groups))
					if err != nil {
						t.Error(err)
						return
					}
					got, err := l.Eval(groups, room(groups))
					if err != nil {
						t.Error(err)
						return
					}
					for i := range got {
						if !near(got[i], want[i], 1e-12) {
							t.Errorf("%s: goroutine %d: loss %v, want %v", name, seed, got[i], want[i])
						}
					}
				}
			})
		}
		wg.Wait()
	}
}
