package bench

import (
	"fmt"
	"slices"
)

// Settings are what the benchmarks leave open. They are written into every result.
type Settings struct {
	// Limit is the most prompts of a benchmark; 0 is its own rule: 1,000 for human,
	// truth and safety, as in Starling-RM's model card, and all for the others.
	Limit int `json:"limit"`
	// Seed chooses the prompts where there are more, and the resamples of intervals.
	Seed uint64 `json:"seed"`
	// ScoreTies is what a pair counts whose scores are equal though one should be
	// higher: half, wrong or right. RewardBench has a rule of its own.
	ScoreTies string `json:"score_ties"`
	// Average is how accuracy is averaged: over prompts, each of which counts as the
	// mean over its pairs, or over pairs.
	Average string `json:"average"`
	// SingleTurn leaves out conversations of more than one turn of human.
	SingleTurn bool `json:"single_turn"`
	// SkipBad leaves rows out that cannot be used, and counts them.
	SkipBad bool `json:"skip_bad_rows"`
	// Resamples is how many bootstrap samples an interval is made of.
	Resamples int `json:"resamples"`
}

// The values of Settings.ScoreTies and Settings.Average.
const (
	Half    = "half"
	Wrong   = "wrong"
	Right   = "right"
	Prompts = "prompts"
	Pairs   = "pairs"
)

// Defaults returns the settings of a plain run.
func Defaults() Settings {
	return Settings{Seed: 42, ScoreTies: Half, Average: Prompts, Resamples: 1000}
}

// Check names the first mistake.
func (s Settings) Check() error {
	switch {
	case s.Limit < 0:
		return fmt.Errorf("eval: --limit %d must not be negative", s.Limit)
	case !slices.Contains([]string{Half, Wrong, Right}, s.ScoreTies):
		return fmt.Errorf("eval: --score-ties %q is unknown (choose half, wrong or right)", s.ScoreTies)
	case !slices.Contains([]string{Prompts, Pairs}, s.Average):
		return fmt.Errorf("eval: --average %q is unknown (choose prompts or pairs)", s.Average)
	case s.Resamples < 1 || s.Resamples > 1_000_000:
		return fmt.Errorf("eval: --resamples %d must be from 1 to 1,000,000", s.Resamples)
	}
	return nil
}

// tie is what a pair of equal scores counts.
func (s Settings) tie() float64 {
	switch s.ScoreTies {
	case Wrong:
		return 0
	case Right:
		return 1
	}
	return 0.5
}
