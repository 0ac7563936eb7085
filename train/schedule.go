package train

import (
	"fmt"
	"math"

	"rmtrain/configs"
)

// Schedule returns the learning rate of every optimizer step, counted from 1, of
// a run of total steps.
//
// constant_with_log_warmup is DeepSpeed's WarmupLR with its default, logarithmic
// warm-up: lr(s) = peak*ln(s)/ln(w) up to step w, then the peak, where w is at least
// 2. Step 1 has learning rate 0: it only fills the moments. These are the numbers
// of Starling's log, step by step; its trainer logged the rate after DeepSpeed's
// scheduler had moved on, so that the rate of step s here was in use there in step
// s+1. Without warm-up the rate is constant.
//
// The others are those of transformers: the value of its get_*_schedule function
// at s-1, which is what its optimizer uses in step s.
func Schedule(c configs.Train, total int) (func(step int) float64, error) {
	warmup := warmupSteps(c, total)
	var factor func(step int) float64
	switch c.LRSchedulerType {
	case "constant_with_log_warmup":
		return logWarmup(c.LearningRate, warmup), nil
	case "constant":
		factor = func(int) float64 { return 1 }
	case "linear":
		factor = func(s int) float64 {
			return math.Max(0, float64(total-s)/float64(max(1, total-warmup)))
		}
	case "cosine":
		factor = func(s int) float64 { return cosine(s, warmup, total) }
	case "cosine_with_min_lr":
		factor = func(s int) float64 {
			return math.Max(0, cosine(s, warmup, total)*(1-c.MinLRRate)+c.MinLRRate)
		}
	default:
		return nil, fmt.Errorf("train: schedule %q: unknown lr_scheduler_type", c.LRSchedulerType)
	}
	return func(step int) float64 {
		s := step - 1
		if s < warmup {
			return c.LearningRate * (float64(s) / float64(max(1, warmup)))
		}
		return c.LearningRate * factor(s)
	}, nil
}

// warmupSteps is transformers' rule: warmup_steps, or else the share of all steps
// rounded up.
func warmupSteps(c configs.Train, total int) int {
	if c.WarmupSteps > 0 {
		return c.WarmupSteps
	}
	return int(math.Ceil(float64(total) * c.WarmupRatio))
}

func logWarmup(peak float64, warmup int) func(int) float64 {
	if warmup == 0 {
		return func(int) float64 { return peak }
	}
	warmup = max(2, warmup)
	inverse := 1 / math.Log(float64(warmup))
	return func(step int) float64 {
		if step >= warmup {
			return peak
		}
		return peak * (inverse * math.Log(float64(step)))
	}
}

// cosine falls from 1 at the end of the warm-up to 0 at the last step.
func cosine(s, warmup, total int) float64 {
	progress := float64(s-warmup) / float64(max(1, total-warmup))
	return math.Max(0, 0.5*(1+math.Cos(math.Pi*progress)))
}
