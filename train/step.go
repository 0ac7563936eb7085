package train

import (
	"fmt"
	"time"

	"rmtrain/data"
)

// step takes one optimizer step and notes what it did. A step whose loss or
// gradient is not finite leaves parameters and optimizer untouched.
func (t *trainer) step() error {
	start := time.Now()
	next := t.state.Step + 1
	groups := read(t.in.Train, t.plan.indices(next))
	lr := t.lr(next)
	sum := &tally{LR: lr}
	verdicts, finite, err := t.accumulate(groups, sum)
	if err == nil && finite {
		finite, err = t.update(lr, sum)
	}
	if err != nil {
		return err
	}
	t.state.Step, t.clean = next, false
	sum.Seconds = time.Since(start).Seconds()
	t.state.Seconds += sum.Seconds
	if !finite {
		return t.skip(next, verdicts, sum)
	}
	t.state.NonFiniteInARow = 0
	t.state.LossSum += sum.Loss
	t.state.Groups += sum.Groups
	t.state.Window.add(sum)
	return nil
}

// accumulate runs forward and backward over the groups of a step. If a loss or the
// gradient of a score is not finite, the gradients of the parameters are incomplete.
func (t *trainer) accumulate(groups []data.Group, sum *tally) (verdicts []verdict, finite bool, err error) {
	t.in.Model.ZeroGrad()
	finite = true
	for _, b := range pack(groups, t.cfg.MaxTokensPerBatch, t.cfg.SharePrefix) {
		ok, err := t.judge.run(b)
		if err != nil {
			return nil, false, err
		}
		verdicts = t.judge.appendVerdicts(verdicts, b.groups)
		sum.count(b, t.in.Model.FLOPs(b.layout))
		if finite = finite && ok; !finite {
			continue // the step is lost: only look for more culprits
		}
		sum.observe(t.judge.groups, t.judge.losses)
		for i := range t.judge.dscore {
			t.judge.dscore[i] /= float64(len(groups))
		}
		if err := t.in.Model.Backward(t.judge.dscore); err != nil {
			return nil, false, fmt.Errorf("train: backward pass: %w", err)
		}
	}
	return verdicts, finite, nil
}

// update clips the gradients and changes the parameters, unless a gradient is not
// finite.
func (t *trainer) update(lr float64, sum *tally) (ok bool, err error) {
	norm, err := t.opt.gradNorm()
	if err != nil || !finite(norm) {
		return false, err
	}
	sum.GradNorm = norm
	if err := t.opt.update(t.state.Updates+1, lr, clip(norm, t.cfg.MaxGradNorm)); err != nil {
		return false, err
	}
	t.state.Updates++
	return true, nil
}
