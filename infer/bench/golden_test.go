package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"testing"
)

// golden is what the public scorers said; see testdata/golden.py.
type golden struct {
	RewardBench struct {
		Counts    map[string]int
		Mapping   map[string][]string
		Rows      []goldenRow
		Subsets   map[string]float64
		Sections  map[string]float64
		Score     float64
		Prior     float64
		WithPrior float64 `json:"with_prior"`
	}
	RewardBench2 struct {
		Rows    []goldenRow
		Subsets map[string]float64
	}
	Rankings []struct {
		Scores, Ranks []float64
		Tau           *float64
		NDCG          float64
	}
}

type goldenRow struct {
	ID, Subset string
	Correct    int `json:"num_correct"`
	Scores     []float64
}

func readGolden(t *testing.T) golden {
	t.Helper()
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// goldenSet makes items as if they had been read, with the golden's scores.
func goldenSet(t *testing.T, name string, rows []goldenRow) (*Set, []Row) {
	t.Helper()
	set := &Set{Bench: name}
	var scored []Row
	for i, g := range rows {
		it := &Item{ID: fmt.Sprint(i), Prompt: fmt.Sprint(i), Subset: g.Subset, Correct: max(g.Correct, 1)}
		for c := range g.Scores {
			rank := 1.0
			if c >= it.Correct {
				rank = 2
			}
			it.Completions = append(it.Completions, Completion{Rank: rank})
		}
		it.Pairs = rankPairs(it.Completions)
		if name == RewardBench2 && isTies(g.Subset) {
			var err error
			if _, it.Prompt, err = tiesID(g.ID); err != nil {
				t.Fatal(err)
			}
			it.Source = g.ID
		}
		set.Items = append(set.Items, it)
		scored = append(scored, Row{Scores: g.Scores})
	}
	return set, scored
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-12) {
		t.Errorf("%s is %v, the public scorer's is %v", what, got, want)
	}
}

func TestRewardBenchTablesAreThePublicScorers(t *testing.T) {
	g := readGolden(t).RewardBench
	if !maps.Equal(exampleCounts, g.Counts) {
		t.Errorf("counts %v, want %v", exampleCounts, g.Counts)
	}
	for _, s := range sections {
		if !slices.Equal(s.subsets, g.Mapping[s.name]) {
			t.Errorf("%s is %v, want %v", s.name, s.subsets, g.Mapping[s.name])
		}
	}
	rows := 0
	for name := range exampleCounts {
		rows += rowsOf(name)
	}
	if len(sections) != len(g.Mapping) || rows != 2985 {
		t.Errorf("%d sections, %d rows", len(sections), rows)
	}
}

func TestRewardBenchIsScoredLikeThePublicScorer(t *testing.T) {
	g := readGolden(t).RewardBench
	set, rows := goldenSet(t, RewardBench, g.Rows)
	r := measured(t, set, rows, nil, quick())
	for name, want := range g.Subsets {
		near(t, name, metric(t, r, name).Value, want)
	}
	for name, want := range g.Sections {
		near(t, name, metric(t, r, name).Value, want)
	}
	near(t, "score", r.Metrics[0].Value, g.Score)
	near(t, "prior sets", metric(t, r, "Prior sets").Value, g.Prior)
	near(t, "score with prior sets", metric(t, r, "score with prior sets").Value, g.WithPrior)
}

func TestRewardBench2IsScoredLikeThePublicScorer(t *testing.T) {
	g := readGolden(t).RewardBench2
	set, rows := goldenSet(t, RewardBench2, g.Rows)
	r := measured(t, set, rows, nil, quick())
	sum := 0.0
	for name, want := range g.Subsets {
		near(t, name, metric(t, r, name).Value, want)
		sum += want
	}
	near(t, "score", r.Metrics[0].Value, sum/6)
}

func TestRankCorrelationsAreScipysAndScikitLearns(t *testing.T) {
	for i, g := range readGolden(t).Rankings {
		tau := kendall(g.Scores, g.Ranks)
		if g.Tau == nil {
			if !math.IsNaN(tau) {
				t.Errorf("tau %d is %v, not undefined", i, tau)
			}
		} else {
			near(t, fmt.Sprintf("tau %d", i), tau, *g.Tau)
		}
		near(t, fmt.Sprintf("NDCG %d", i), ndcg(g.Scores, g.Ranks), g.NDCG)
	}
}
