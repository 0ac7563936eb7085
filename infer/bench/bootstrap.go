package bench

import (
	"math"
	"math/rand/v2"
	"slices"
)

// A statistic is a number as a function of how often every prompt counts: once each
// gives what was measured, and a resample gives a number for an interval. NaN means
// that it is not defined.
type statistic func(weights []float64) float64

// share is the part of a prompt in a ratio.
type share struct {
	prompt   int
	num, den float64
}

// ratio is Σ num / Σ den.
func ratio(shares []share) statistic {
	return func(w []float64) float64 {
		num, den := 0.0, 0.0
		for _, s := range shares {
			num += w[s.prompt] * s.num
			den += w[s.prompt] * s.den
		}
		return num / den
	}
}

// weighted is the mean of statistics, each with its weight.
func weighted(parts []statistic, weights []float64) statistic {
	return func(w []float64) float64 {
		sum, total := 0.0, 0.0
		for i, p := range parts {
			sum += weights[i] * p(w)
			total += weights[i]
		}
		return sum / total
	}
}

// mean is the plain mean of statistics.
func mean(parts []statistic) statistic {
	weights := make([]float64, len(parts))
	for i := range weights {
		weights[i] = 1
	}
	return weighted(parts, weights)
}

// orZero replaces what is not defined.
func orZero(s statistic) statistic {
	return func(w []float64) float64 {
		if x := s(w); !math.IsNaN(x) {
			return x
		}
		return 0
	}
}

// once is every prompt counted once.
func once(prompts int) []float64 {
	w := make([]float64, prompts)
	for i := range w {
		w[i] = 1
	}
	return w
}

// bootstrap evaluates statistics on resamples of the prompts, drawn with replacement
// within each stratum; strata[p] is the stratum of prompt p. All statistics see the same
// resamples, so differences between them are paired. The result is [statistic][resample].
func bootstrap(stats []statistic, strata []int, resamples int, seed uint64) [][]float64 {
	members := map[int][]int{}
	order := []int{}
	for p, s := range strata {
		if members[s] == nil {
			order = append(order, s)
		}
		members[s] = append(members[s], p)
	}
	out := make([][]float64, len(stats))
	for i := range out {
		out[i] = make([]float64, resamples)
	}
	random := rand.New(rand.NewPCG(seed, 0x626f6f74)) // any second half
	w := make([]float64, len(strata))
	for b := range resamples {
		clear(w)
		for _, s := range order {
			for range members[s] {
				w[members[s][random.IntN(len(members[s]))]]++
			}
		}
		for i, stat := range stats {
			out[i][b] = stat(w)
		}
	}
	return out
}

// interval returns the middle 95% of samples, those that are defined.
func interval(samples []float64) (low, high float64) {
	var defined []float64
	for _, x := range samples {
		if !math.IsNaN(x) {
			defined = append(defined, x)
		}
	}
	slices.Sort(defined)
	return quantile(defined, 0.025), quantile(defined, 0.975)
}

// quantile interpolates between the values of a sorted list.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
