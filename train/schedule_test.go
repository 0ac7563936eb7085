package train

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"rmtrain/configs"
)

func TestSchedulesAreThoseOfTransformers(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/schedules.json")
	check(t, err)
	var golden struct {
		Cases []struct {
			Type   string    `json:"lr_scheduler_type"`
			LR     float64   `json:"learning_rate"`
			Warmup int       `json:"warmup_steps"`
			Total  int       `json:"total_steps"`
			Rates  []float64 `json:"rates"`
		} `json:"cases"`
	}
	check(t, json.Unmarshal(text, &golden))
	if len(golden.Cases) == 0 {
		t.Fatal("no golden cases")
	}
	for _, c := range golden.Cases {
		lr, err := Schedule(configs.Train{
			LRSchedulerType: c.Type, LearningRate: c.LR, WarmupSteps: c.Warmup, MinLRRate: 0.1,
		}, c.Total)
		check(t, err)
		for i, want := range c.Rates {
			if got := lr(i + 1); math.Abs(got-want) > 1e-12*c.LR {
				t.Errorf("%s, warm-up %d of %d: step %d has %g, want %g", c.Type, c.Warmup, c.Total, i+1, got, want)
			}
		}
	}
}

// The numbers of Starling-RM-7B-alpha's own log.
func TestLogWarmupIsStarlings(t *testing.T) {
	t.Parallel()
	lr, err := Schedule(configs.Train{LRSchedulerType: "constant_with_log_warmup", LearningRate: 1e-5, WarmupSteps: 100}, 7835)
	check(t, err)
	for step, want := range map[int]float64{1: 0, 10: 5.0e-6, 20: 6.505e-6, 90: 9.771e-6, 100: 1e-5, 101: 1e-5, 7835: 1e-5} {
		if got := lr(step); math.Abs(got-want) > 0.5e-9 {
			t.Errorf("step %d has %g, want %g", step, got, want)
		}
	}
}

func TestWarmup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		steps int
		ratio float64
		total int
		want  int
	}{
		{0, 0, 100, 0}, {0, 0.03, 100, 3}, {0, 0.031, 100, 4}, {7, 0.5, 100, 7}, {0, 1, 3, 3},
	} {
		if got := warmupSteps(configs.Train{WarmupSteps: c.steps, WarmupRatio: c.ratio}, c.total); got != c.want {
			t.Errorf("warmup_steps %d, warmup_ratio %g of %d: %d, want %d", c.steps, c.ratio, c.total, got, c.want)
		}
	}
	flat, err := Schedule(configs.Train{LRSchedulerType: "constant_with_log_warmup", LearningRate: 2}, 9)
	check(t, err)
	if flat(1) != 2 {
		t.Errorf("without warm-up the first step has %g, want the peak", flat(1))
	}
	if _, err := Schedule(configs.Train{LRSchedulerType: "polynomial"}, 9); err == nil {
		t.Error("an unknown schedule is taken")
	}
}
