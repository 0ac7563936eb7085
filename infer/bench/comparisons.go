package bench

import (
	"math"
)

// A comparison is one pair of one item, scored.
type comparison struct {
	prompt     int // number of the item's prompt
	item       *Item
	difference float64 // score of what should be better minus the other
	weak       bool
	correct    float64 // 1, 0, or between them for equal scores
	better     int     // characters of the answer that should be better
	worse      int
}

// compare scores every pair of an item.
func compare(it *Item, r Row, prompt int, tie float64) []comparison {
	var out []comparison
	for _, p := range it.Pairs {
		c := comparison{prompt: prompt, item: it, weak: p.Weak, difference: r.Scores[p.Better] - r.Scores[p.Worse], better: it.Completions[p.Better].Characters, worse: it.Completions[p.Worse].Characters}
		switch {
		case c.difference > 0 || c.difference == 0 && c.weak:
			c.correct = 1
		case c.difference == 0:
			c.correct = tie
		}
		out = append(out, c)
	}
	return out
}

// filter keeps the comparisons that keep says.
func filter(cs []comparison, keep func(comparison) bool) []comparison {
	var out []comparison
	for _, c := range cs {
		if keep(c) {
			out = append(out, c)
		}
	}
	return out
}

// accuracy is the share of pairs that were ordered right, averaged over prompts or over
// pairs.
func accuracy(cs []comparison, average string) statistic {
	return ratio(accuracyShares(cs, average))
}

func accuracyShares(cs []comparison, average string) []share {
	var shares []share
	at := map[int]int{}
	for _, c := range cs {
		i, ok := at[c.prompt]
		if !ok {
			i = len(shares)
			at[c.prompt] = i
			shares = append(shares, share{prompt: c.prompt})
		}
		shares[i].num += c.correct
		shares[i].den++
	}
	if average == Prompts {
		for i := range shares {
			shares[i].num /= shares[i].den
			shares[i].den = 1
		}
	}
	return shares
}

// prompts counts the prompts of comparisons.
func prompts(cs []comparison) int {
	seen := map[int]bool{}
	for _, c := range cs {
		seen[c.prompt] = true
	}
	return len(seen)
}

// reliabilityBins is how many bins there are of what a model is sure of, which begins
// at a half.
const reliabilityBins = 10

// confidence is the probability that the model gives to the answer that it prefers, by
// the sigmoid of the difference of scores; correct says whether that answer is better.
func (c comparison) confidence() (p, correct float64) {
	p = 1 / (1 + math.Exp(-math.Abs(c.difference)))
	switch {
	case c.difference > 0:
		return p, 1
	case c.difference < 0:
		return p, 0
	}
	return p, 0.5
}

func reliabilityBin(p float64) int {
	return min(int((p-0.5)*2*reliabilityBins), reliabilityBins-1)
}

// A ReliabilityBin is the pairs of which a model is about equally sure.
type ReliabilityBin struct {
	Confidence float64 `json:"confidence"` // their mean
	Accuracy   float64 `json:"accuracy"`
	Pairs      int     `json:"pairs"`
}

// reliability returns the bins that are not empty. Pairs that may be equal say nothing
// about confidence and are left out.
func reliability(cs []comparison) []ReliabilityBin {
	var bins [reliabilityBins]ReliabilityBin
	for _, c := range cs {
		if c.weak {
			continue
		}
		p, correct := c.confidence()
		b := &bins[reliabilityBin(p)]
		b.Confidence += p
		b.Accuracy += correct
		b.Pairs++
	}
	var out []ReliabilityBin
	for _, b := range bins {
		if b.Pairs > 0 {
			b.Confidence /= float64(b.Pairs)
			b.Accuracy /= float64(b.Pairs)
			out = append(out, b)
		}
	}
	return out
}

// calibrationError is the expected calibration error of pairs that are not weak: the
// mean over them of how far accuracy and confidence are apart in the pair's bin.
func calibrationError(cs []comparison) statistic {
	type part struct {
		prompt, bin                int
		pairs, confidence, correct float64
	}
	sums := map[[2]int]*part{}
	var parts []*part
	for _, c := range cs {
		p, correct := c.confidence()
		key := [2]int{c.prompt, reliabilityBin(p)}
		if sums[key] == nil {
			sums[key] = &part{prompt: c.prompt, bin: key[1]}
			parts = append(parts, sums[key])
		}
		sums[key].pairs++
		sums[key].confidence += p
		sums[key].correct += correct
	}
	return func(w []float64) float64 {
		var gap [reliabilityBins]float64
		pairs := 0.0
		for _, p := range parts {
			weight := w[p.prompt]
			gap[p.bin] += weight * (p.confidence - p.correct)
			pairs += weight * p.pairs
		}
		sum := 0.0
		for _, g := range gap {
			sum += math.Abs(g)
		}
		return sum / pairs
	}
}
