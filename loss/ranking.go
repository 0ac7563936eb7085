package loss

import (
	"cmp"
	"math"
	"slices"
)

// A ranking is a group in order: best rank first, and ties by score, so that
// every sum is the same to the bit in whichever order the answers came.
type ranking struct {
	index  []int     // answer of the group at each place
	scores []float64 // by place, less the group's largest score: only differences count
	levels []int     // first place of each level, and K at the end
	step   float64   // demanded difference per level
	extra  float64   // demanded difference besides
}

// rank puts a group in order; reversed puts the worst first.
func (c Config) rank(g Group, reversed bool) ranking {
	k := len(g.Scores)
	sign := 1.0
	if reversed {
		sign = -1
	}
	r := ranking{index: make([]int, k), scores: make([]float64, k), step: c.Margin, extra: g.Margin}
	for i := range r.index {
		r.index[i] = i
	}
	slices.SortFunc(r.index, func(a, b int) int {
		if d := cmp.Compare(sign*g.Ranks[a], sign*g.Ranks[b]); d != 0 {
			return d
		}
		return cmp.Compare(g.Scores[a], g.Scores[b])
	})
	top := slices.Max(g.Scores)
	for place, i := range r.index {
		r.scores[place] = g.Scores[i] - top
		if place == 0 || g.Ranks[i] != g.Ranks[r.index[place-1]] {
			r.levels = append(r.levels, place)
		}
	}
	r.levels = append(r.levels, k)
	return r
}

// margin is what level a is to be ahead of level b by.
func (r ranking) margin(a, b int) float64 {
	if a == b {
		return 0
	}
	return r.step*float64(b-a) + r.extra
}

// handicapped is the scores of places lo and up, each with the margin that level
// a, which begins at lo, is to be ahead of it by.
func (r ranking) handicapped(a int) []float64 {
	lo := r.levels[a]
	z := slices.Clone(r.scores[lo:])
	for b := a + 1; b < len(r.levels)-1; b++ {
		for j := r.levels[b]; j < r.levels[b+1]; j++ {
			z[j-lo] += r.margin(a, b)
		}
	}
	return z
}

// ordered is the number of strictly ordered pairs.
func (r ranking) ordered() int {
	k, n := len(r.index), 0
	for a := range len(r.levels) - 1 {
		n += (r.levels[a+1] - r.levels[a]) * (k - r.levels[a+1])
	}
	return n
}

// softplus is log(1 + exp(x)).
func softplus(x float64) float64 {
	return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x)))
}

func sigmoid(x float64) float64 {
	if x < 0 {
		e := math.Exp(x)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-x))
}
