package loss

import (
	"fmt"
	"math"
	"testing"
)

func TestMetrics(t *testing.T) {
	nan := math.NaN()
	for _, test := range []struct {
		name    string
		group   Group
		correct float64
		pairs   int
		margin  float64
		byRank  string
	}{
		{"all right", Group{Scores: []float64{3, 1, 2}, Ranks: []float64{1, 3, 2}}, 3, 3, 4, "[2 2 2] [2 2 2]"},
		{"all wrong", Group{Scores: []float64{1, 3}, Ranks: []float64{1, 2}}, 0, 1, -2, "[0 0] [1 1]"},
		{"one swapped", Group{Scores: []float64{3, 1, 2}, Ranks: []float64{10, 20, 30}}, 2, 3, 2, "[2 1 1] [2 2 2]"},
		{"equal scores", Group{Scores: []float64{1, 1}, Ranks: []float64{1, 2}}, 0.5, 1, 0, "[0.5 0.5] [1 1]"},
		{"tied ranks", Group{Scores: []float64{2, 5, 1}, Ranks: []float64{1, 1, 2}}, 2, 2, 5, "[2 2] [2 2]"},
		{"all tied", Group{Scores: []float64{2, 5}, Ranks: []float64{1, 1}}, 0, 0, 0, "[0] [0]"},
		{"not a number", Group{Scores: []float64{nan, 0}, Ranks: []float64{1, 2}}, 0, 1, nan, "[0 0] [1 1]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			correct, pairs := PairwiseAccuracy(test.group)
			if correct != test.correct || pairs != test.pairs {
				t.Errorf("PairwiseAccuracy = %v of %d, want %v of %d", correct, pairs, test.correct, test.pairs)
			}
			margin, pairs := ScoreMargin(test.group)
			if fmt.Sprint(margin) != fmt.Sprint(test.margin) || pairs != test.pairs {
				t.Errorf("ScoreMargin = %v of %d, want %v of %d", margin, pairs, test.margin, test.pairs)
			}
			c, p := RankAccuracy(test.group)
			if got := fmt.Sprint(c, p); got != test.byRank {
				t.Errorf("RankAccuracy = %s, want %s", got, test.byRank)
			}
		})
	}
}
