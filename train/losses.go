package train

import (
	"fmt"
	"math"

	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels/llama"
	"rmtrain/loss"
)

func newLoss(c configs.Loss) (loss.Loss, error) {
	return loss.New(loss.Config{
		Type: c.Type, M: c.M, Ties: c.Ties, Normalization: c.Normalization,
		Margin: c.Margin, Center: c.CenterRewards, LabelSmoothing: c.LabelSmoothing,
	})
}

// A judge scores micro-batches and measures the loss of their groups. Its slices
// are those of the last micro-batch and are reused.
type judge struct {
	model  *llama.Model
	loss   loss.Loss
	groups []loss.Group
	losses []float64
	ranks  []float64   // of each answer, all groups in a row
	dscore []float64   // gradient of each score, all groups in a row
	grads  [][]float64 // the same by group
}

// run scores a micro-batch. finite is false if a loss or a gradient is NaN or
// infinite, as it is for every group with such a score.
func (j *judge) run(b microBatch) (finite bool, err error) {
	scores, err := j.model.Forward(b.layout)
	if err != nil {
		return false, fmt.Errorf("train: forward pass: %w", err)
	}
	j.arrange(b.groups, scores)
	j.losses, err = j.loss.Eval(j.groups, j.grads)
	if err != nil {
		return false, fmt.Errorf("train: loss of the groups from %s: %w", b.groups[0].Source, err)
	}
	return allFinite(j.losses) && allFinite(j.dscore), nil
}

// arrange cuts scores into the groups that the loss reads.
func (j *judge) arrange(groups []data.Group, scores []float64) {
	j.groups, j.grads, j.ranks = j.groups[:0], j.grads[:0], j.ranks[:0]
	j.dscore = resize(j.dscore, len(scores))
	for _, g := range groups {
		for _, a := range g.Answers {
			j.ranks = append(j.ranks, a.Rank)
		}
	}
	at := 0
	for _, g := range groups {
		end := at + len(g.Answers)
		j.groups = append(j.groups, loss.Group{Scores: scores[at:end], Ranks: j.ranks[at:end], Margin: g.Margin})
		j.grads = append(j.grads, j.dscore[at:end])
		at = end
	}
}

func resize(s []float64, n int) []float64 {
	if cap(s) < n {
		return make([]float64, n)
	}
	return s[:n]
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func allFinite(xs []float64) bool {
	for _, x := range xs {
		if !finite(x) {
			return false
		}
	}
	return true
}
