package train

import (
	"fmt"
	"time"

	"rmtrain/data"
)

// maxNonFinite is how many steps in a row may be skipped before training stops.
const maxNonFinite = 3

// step takes one optimizer step and notes what it did. A step whose loss or
// gradient is not finite leaves parameters and optimizer untouched.
func (t *trainer) step() error {
	start := time.Now()
	next := t.state.Step + 1
	groups := read(t.in.Train, t.plan.indices(next))
	tally, culprits, err := t.accumulate(groups)
	if err != nil {
		return err
	}
	lr := t.lr(next)
	tally.LR = lr
	if len(culprits) == 0 {
		if culprits, err = t.update(groups, lr, tally); err != nil {
			return err
		}
	}
	t.state.Step = next
	tally.Seconds = time.Since(start).Seconds()
	t.state.Seconds += tally.Seconds
	if len(culprits) > 0 {
		return t.skip(next, culprits, tally)
	}
	t.state.NonFiniteInARow = 0
	t.state.LossSum += tally.Loss
	t.state.Groups += tally.Groups
	t.state.Window.add(tally)
	return nil
}

// accumulate runs forward and backward over the groups of a step. It returns the
// scores of the groups that are not finite, if any; gradients are then incomplete.
func (t *trainer) accumulate(groups []data.Group) (*tally, []culprit, error) {
	t.in.Model.ZeroGrad()
	sum := &tally{}
	var culprits []culprit
	for _, b := range pack(groups, t.cfg.MaxTokensPerBatch, t.cfg.SharePrefix) {
		finite, err := t.judge.run(b)
		if err != nil {
			return nil, nil, err
		}
		sum.count(b, t.in.Model.FLOPs(b.layout))
		if !finite {
			culprits = append(culprits, t.judge.culprits(b.groups)...)
			continue
		}
		sum.observe(t.judge.groups, t.judge.losses)
		if len(culprits) > 0 {
			continue // the step is lost: only look for more culprits
		}
		for i := range t.judge.dscore {
			t.judge.dscore[i] /= float64(len(groups))
		}
		if err := t.in.Model.Backward(t.judge.dscore); err != nil {
			return nil, nil, fmt.Errorf("train: backward pass: %w", err)
		}
	}
	return sum, culprits, nil
}

// update clips the gradients and changes the parameters. If the gradients are not
// finite although every loss is, it changes nothing, and all groups are suspects.
func (t *trainer) update(groups []data.Group, lr float64, sum *tally) ([]culprit, error) {
	norm, err := t.opt.gradNorm()
	if err != nil {
		return nil, err
	}
	if !finite(norm) {
		return suspects(groups), nil
	}
	sum.GradNorm = norm
	if err := t.opt.update(t.state.Updates+1, lr, clip(norm, t.cfg.MaxGradNorm)); err != nil {
		return nil, err
	}
	t.state.Updates++
	return nil, nil
}
