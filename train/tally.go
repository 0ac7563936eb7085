package train

import (
	"math"

	"rmtrain/loss"
)

// A tally sums what groups of a step, of all steps since the last log line, or of
// the evaluation data showed. It is part of a state, so that a log line after a
// resume is that of a run without a stop.
type tally struct {
	Groups   int       `json:"groups"` // whose loss is finite
	Loss     float64   `json:"loss"`
	Correct  float64   `json:"correct"` // of Pairs, a tie of scores counting a half
	Pairs    int       `json:"pairs"`
	Margin   float64   `json:"margin"`
	ByRank   []float64 `json:"by_rank"` // correct, by rank from the best
	RankUses []int     `json:"rank_uses"`
	Scores   int       `json:"scores"`
	Mean     float64   `json:"mean"`   // of the scores
	Spread   float64   `json:"spread"` // sum of squared differences from Mean

	// Work, skipped steps included.
	Prompts int     `json:"prompts"`
	Tokens  int     `json:"tokens"` // of all conversations
	Rows    int     `json:"rows"`   // computed: tokens after sharing
	FLOPs   float64 `json:"flops"`  // of one forward pass
	Seconds float64 `json:"seconds"`

	// Of the last step.
	GradNorm float64 `json:"grad_norm"`
	LR       float64 `json:"lr"`
}

// count adds a micro-batch's work.
func (t *tally) count(b microBatch, flops float64) {
	t.Prompts += len(b.groups)
	t.Tokens += b.layout.Real
	t.Rows += len(b.layout.Tokens)
	t.FLOPs += flops
}

// observe adds groups whose losses are finite.
func (t *tally) observe(groups []loss.Group, losses []float64) {
	for i, g := range groups {
		t.Groups++
		t.Loss += losses[i]
		correct, pairs := loss.PairwiseAccuracy(g)
		margin, _ := loss.ScoreMargin(g)
		t.Correct += correct
		t.Pairs += pairs
		t.Margin += margin
		t.addRanks(loss.RankAccuracy(g))
		for _, s := range g.Scores {
			t.mergeScores(1, s, 0)
		}
	}
}

func (t *tally) addRanks(correct []float64, pairs []int) {
	for len(t.ByRank) < len(correct) {
		t.ByRank = append(t.ByRank, 0)
		t.RankUses = append(t.RankUses, 0)
	}
	for p := range correct {
		t.ByRank[p] += correct[p]
		t.RankUses[p] += pairs[p]
	}
}

// mergeScores joins n scores with the given mean and sum of squared differences
// to those seen (Chan, Golub and LeVeque 1979), which does not cancel as a sum of
// squares would for scores far from 0.
func (t *tally) mergeScores(n int, mean, spread float64) {
	if n == 0 {
		return
	}
	total := float64(t.Scores + n)
	delta := mean - t.Mean
	t.Mean += delta * float64(n) / total
	t.Spread += spread + delta*delta*float64(t.Scores)*float64(n)/total
	t.Scores += n
}

// add joins the tally of a step that was taken.
func (t *tally) add(s *tally) {
	t.Groups += s.Groups
	t.Loss += s.Loss
	t.Correct += s.Correct
	t.Pairs += s.Pairs
	t.Margin += s.Margin
	t.addRanks(s.ByRank, s.RankUses)
	t.mergeScores(s.Scores, s.Mean, s.Spread)
	t.GradNorm = s.GradNorm
	t.addSkipped(s)
}

// addSkipped joins only the work of a step.
func (t *tally) addSkipped(s *tally) {
	t.Prompts += s.Prompts
	t.Tokens += s.Tokens
	t.Rows += s.Rows
	t.FLOPs += s.FLOPs
	t.Seconds += s.Seconds
	t.LR = s.LR
}

func (t *tally) loss() float64     { return ratio(t.Loss, float64(t.Groups)) }
func (t *tally) accuracy() float64 { return ratio(t.Correct, float64(t.Pairs)) }
func (t *tally) margin() float64   { return ratio(t.Margin, float64(t.Pairs)) }
func (t *tally) std() float64      { return math.Sqrt(ratio(t.Spread, float64(t.Scores))) }

// rankAccuracy returns the share of correct pairs by rank of one of the two, best
// rank first.
func (t *tally) rankAccuracy() []float64 {
	out := make([]float64, len(t.ByRank))
	for p := range out {
		out[p] = ratio(t.ByRank[p], float64(t.RankUses[p]))
	}
	return out
}

// perSecond returns n by the seconds that the steps took.
func (t *tally) perSecond(n int) float64 { return ratio(float64(n), t.Seconds) }

// utilization returns the floating point operations per second as a share of peak:
// those of the model, three forward passes for a forward and a backward one, without
// what recomputing activations adds. It is 0 if peak is unknown.
func (t *tally) utilization(peak float64) float64 { return ratio(3*t.FLOPs, t.Seconds*peak) }

// ratio is a/b, or 0 if b is.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
