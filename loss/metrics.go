package loss

import "slices"

// PairwiseAccuracy counts the strictly ordered pairs of a group, and how many of
// them the scores order alike: equal scores count a half, NaN counts as wrong.
func PairwiseAccuracy(g Group) (correct float64, pairs int) {
	g.orderedPairs(func(better, worse int) {
		pairs++
		correct += agreement(g.Scores[better], g.Scores[worse])
	})
	return correct, pairs
}

// ScoreMargin sums the score of the better minus that of the worse answer over the
// strictly ordered pairs of a group.
func ScoreMargin(g Group) (sum float64, pairs int) {
	g.orderedPairs(func(better, worse int) {
		pairs++
		sum += g.Scores[better] - g.Scores[worse]
	})
	return sum, pairs
}

// RankAccuracy is PairwiseAccuracy by rank: element p counts the pairs in which one
// answer is of the p-th distinct rank, best first. A pair counts for both its ranks.
func RankAccuracy(g Group) (correct []float64, pairs []int) {
	ranks := slices.Compact(slices.Sorted(slices.Values(g.Ranks)))
	correct, pairs = make([]float64, len(ranks)), make([]int, len(ranks))
	g.orderedPairs(func(better, worse int) {
		for _, i := range []int{better, worse} {
			p, _ := slices.BinarySearch(ranks, g.Ranks[i])
			pairs[p]++
			correct[p] += agreement(g.Scores[better], g.Scores[worse])
		}
	})
	return correct, pairs
}

// orderedPairs visits the pairs of answers with different ranks.
func (g Group) orderedPairs(visit func(better, worse int)) {
	for i := range g.Ranks {
		for j := range g.Ranks {
			if g.Ranks[i] < g.Ranks[j] {
				visit(i, j)
			}
		}
	}
}

func agreement(better, worse float64) float64 {
	switch {
	case better > worse:
		return 1
	case better == worse:
		return 0.5
	}
	return 0
}
