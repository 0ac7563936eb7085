package bench

import (
	"cmp"
	"math"
	"slices"
)

// kendall is Kendall's tau-b between scores and ranks: 1 if the scores order the
// completions as the ranks do, with ties of either taken into account; NaN if all
// scores or all ranks are equal.
func kendall(scores, ranks []float64) float64 {
	var agree, scoreTies, rankTies, pairs float64
	for i := range scores {
		for j := range i {
			pairs++
			s, r := cmp.Compare(scores[i], scores[j]), cmp.Compare(ranks[j], ranks[i])
			agree += float64(s * r)
			if s == 0 {
				scoreTies++
			}
			if r == 0 {
				rankTies++
			}
		}
	}
	d := math.Sqrt((pairs - scoreTies) * (pairs - rankTies))
	if d == 0 {
		return math.NaN()
	}
	return agree / d
}

// ndcg is the normalized discounted cumulative gain of the order that scores make. The
// gain of a completion is how many completions are of a worse rank, and completions of
// equal score share their places.
func ndcg(scores, ranks []float64) float64 {
	gains := make([]float64, len(ranks))
	for i := range ranks {
		for j := range ranks {
			if ranks[j] > ranks[i] {
				gains[i]++
			}
		}
	}
	return cumulative(scores, gains) / cumulative(gains, gains)
}

// cumulative is the discounted sum of gains, in the order of by, the largest first.
func cumulative(by, gains []float64) float64 {
	order := make([]int, len(by))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(by[b], by[a]) })
	sum := 0.0
	for lo := 0; lo < len(order); {
		hi := lo
		gain, discount := 0.0, 0.0
		for ; hi < len(order) && by[order[hi]] == by[order[lo]]; hi++ {
			gain += gains[order[hi]]
			discount += 1 / math.Log2(float64(hi+2))
		}
		sum += gain / float64(hi-lo) * discount
		lo = hi
	}
	return sum
}

// plackettLuce is the negative log-likelihood of the ranks, ties by Efron's rule,
// divided by the number of pairs: the loss with which rmtrain trains by default.
func plackettLuce(scores, ranks []float64) float64 {
	order := make([]int, len(ranks))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(ranks[a], ranks[b]) })
	worse, sum := math.Inf(-1), 0.0 // worse is the logarithm of a sum of exponentials
	for hi := len(order); hi > 0; {
		lo := hi
		tied := math.Inf(-1)
		for ; lo > 0 && ranks[order[lo-1]] == ranks[order[hi-1]]; lo-- {
			tied = logAdd(tied, scores[order[lo-1]])
			sum -= scores[order[lo-1]]
		}
		for l := range hi - lo {
			sum += logAdd(tied+math.Log1p(-float64(l)/float64(hi-lo)), worse)
		}
		worse = logAdd(worse, tied)
		hi = lo
	}
	k := float64(len(ranks))
	return sum / (k * (k - 1) / 2)
}

// logAdd is log(exp a + exp b).
func logAdd(a, b float64) float64 {
	a, b = max(a, b), min(a, b)
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
