package loss

import (
	"math"
	"slices"
)

// Closed evaluates losses and their gradients by formula.
type Closed struct{ config Config }

// NewClosed returns the configured loss in closed form.
func NewClosed(c Config) (*Closed, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Closed{c}, nil
}

// Eval implements Loss.
func (l *Closed) Eval(groups []Group, grads [][]float64) ([]float64, error) {
	if err := checkGroups(groups, grads); err != nil {
		return nil, err
	}
	losses := make([]float64, len(groups))
	for i, g := range groups {
		if !allFinite(g.Scores) {
			losses[i] = math.NaN()
			fill(grads[i], math.NaN())
			continue
		}
		losses[i] = l.group(g, grads[i])
	}
	return losses, nil
}

// group returns the loss of one group and overwrites d with its gradient.
func (l *Closed) group(g Group, d []float64) float64 {
	clear(d)
	e := l.config.LabelSmoothing
	loss := (1 - e) * l.direction(g, d, 1-e, false)
	if e > 0 {
		loss += e * l.direction(g, d, e, true)
	}
	if c := l.config.Center; c > 0 {
		loss += c * meanSquare(g.Scores)
		for i, s := range g.Scores {
			d[i] += 2 * c * s / float64(len(d))
		}
	}
	return loss
}

// direction returns the normalized loss of the ranking or its reverse, and adds
// weight times its gradient to d.
func (l *Closed) direction(g Group, d []float64, weight float64, reversed bool) float64 {
	r := l.config.rank(g, reversed)
	byPlace := make([]float64, len(d))
	var loss float64
	if l.config.Type == BradleyTerry {
		loss = bradleyTerry(r, byPlace)
	} else {
		loss = plackettLuce(r, byPlace, l.config.places(len(d)), l.config.Ties)
	}
	scale := l.config.scale(len(d), r.ordered())
	for place, i := range r.index {
		d[i] += weight * scale * byPlace[place]
	}
	return loss * scale
}

// bradleyTerry returns the sum over strictly ordered pairs and adds its gradient
// to d, both by place.
func bradleyTerry(r ranking, d []float64) float64 {
	var loss float64
	for a := range len(r.levels) - 2 {
		lo, hi := r.levels[a], r.levels[a+1]
		z := r.handicapped(a)
		for i := lo; i < hi; i++ {
			for j := hi; j < len(d); j++ {
				x := z[j-lo] - r.scores[i]
				loss += softplus(x)
				p := sigmoid(x)
				d[i] -= p
				d[j] += p
			}
		}
	}
	return loss
}

// plackettLuce returns the negative log-likelihood of the levels that begin in
// the first places and adds its gradient to d, both by place.
func plackettLuce(r ranking, d []float64, places int, ties string) float64 {
	var loss float64
	for a := range len(r.levels) - 1 {
		lo, hi := r.levels[a], r.levels[a+1]
		if lo >= places {
			break
		}
		z := r.handicapped(a)
		if ties == Drop {
			loss += separateLevel(z, d[lo:], hi-lo)
		} else {
			loss += jointLevel(z, d[lo:], hi-lo, ties == Efron)
		}
	}
	return loss
}

// jointLevel is a level by Efron or Breslow: the first n of scores z are tied, the
// others are worse.
func jointLevel(z, d []float64, n int, efron bool) float64 {
	shift := slices.Max(z)
	exp := make([]float64, len(z))
	var tied, worse float64
	for j := range z {
		exp[j] = math.Exp(z[j] - shift)
		if j < n {
			tied += exp[j]
		} else {
			worse += exp[j]
		}
	}
	var loss, ofTied, ofWorse float64
	for l := range n {
		share := 1.0
		if efron {
			share -= float64(l) / float64(n)
		}
		sum := share*tied + worse
		loss += math.Log(sum) + (shift - z[l])
		ofTied += share / sum
		ofWorse += 1 / sum
	}
	for j := range z {
		if j < n {
			d[j] += exp[j]*ofTied - 1
		} else {
			d[j] += exp[j] * ofWorse
		}
	}
	return loss
}

// separateLevel is a level whose n tied answers each compete with the worse ones
// only.
func separateLevel(z, d []float64, n int) float64 {
	var loss float64
	for i := range n {
		shift := z[i]
		for _, x := range z[n:] {
			shift = max(shift, x)
		}
		sum := math.Exp(z[i] - shift)
		for _, x := range z[n:] {
			sum += math.Exp(x - shift)
		}
		loss += math.Log(sum) + (shift - z[i])
		d[i] += math.Exp(z[i]-shift)/sum - 1
		for j := n; j < len(z); j++ {
			d[j] += math.Exp(z[j]-shift) / sum
		}
	}
	return loss
}

func meanSquare(xs []float64) float64 {
	// Sorted, so that the sum does not depend on the order of answers.
	xs = slices.Sorted(slices.Values(xs))
	var sum float64
	for _, x := range xs {
		sum += x * x
	}
	return sum / float64(len(xs))
}
