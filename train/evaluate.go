package train

import (
	"context"
	"fmt"
)

// evalWindow is how many groups are packed together in an evaluation.
const evalWindow = 256

// evaluateIfDue evaluates every eval_steps and after the last step, unless this
// step was evaluated before.
func (t *trainer) evaluateIfDue(ctx context.Context) error {
	s := &t.state
	due := t.complete() || (t.cfg.EvalSteps > 0 && s.Step%t.cfg.EvalSteps == 0)
	if t.in.Eval == nil || !due || s.Step == 0 || (s.Last != nil && s.Last.Step == s.Step) {
		return nil
	}
	e, err := t.evaluate(ctx)
	if err != nil {
		return err
	}
	s.Last, t.clean = &e, false
	t.judgeProgress(e)
	if err := t.logEvaluation(e); err != nil {
		return err
	}
	if !t.complete() { // else they are drawn at the end
		t.drawCurves()
	}
	return nil
}

// evaluate returns loss and accuracy over all groups of the evaluation data.
func (t *trainer) evaluate(ctx context.Context) (Evaluation, error) {
	var sum tally
	n := t.in.Eval.Len()
	for lo := 0; lo < n; lo += evalWindow {
		var indices []int
		for i := lo; i < min(lo+evalWindow, n); i++ {
			indices = append(indices, i)
		}
		for _, b := range pack(read(t.in.Eval, indices), t.cfg.MaxTokensPerBatch, t.cfg.SharePrefix) {
			if err := ctx.Err(); err != nil {
				return Evaluation{}, err
			}
			finite, err := t.judge.run(b)
			if err != nil {
				return Evaluation{}, fmt.Errorf("%w (in an evaluation)", err)
			}
			if !finite {
				bad := culprits(t.judge.appendVerdicts(nil, b.groups))[0]
				return Evaluation{}, fmt.Errorf("train: evaluation at step %d: the loss of %s is not finite (try a lower learning_rate, or dtype float32)", t.state.Step, bad.Source)
			}
			sum.observe(t.judge.groups, t.judge.losses)
		}
	}
	return Evaluation{Step: t.state.Step, Loss: sum.loss(), PairwiseAccuracy: sum.accuracy(), Groups: sum.Groups}, nil
}

// judgeProgress keeps the best evaluation and stops the run after
// early_stopping_patience evaluations without a better one.
func (t *trainer) judgeProgress(e Evaluation) {
	s := &t.state
	if s.Best == nil || t.better(e, *s.Best) {
		s.Best, s.WithoutImprovement = &e, 0
		return
	}
	s.WithoutImprovement++
	if t.cfg.EarlyStopping > 0 && s.WithoutImprovement >= t.cfg.EarlyStopping && s.Step < t.plan.total {
		s.StoppedEarly = true
		t.say("stopping early: %s has not improved for %d evaluations; the best is that of step %d",
			t.cfg.MetricForBestModel, s.WithoutImprovement, s.Best.Step)
	}
}

func (t *trainer) better(a, b Evaluation) bool {
	if t.cfg.MetricForBestModel == "eval_pairwise_accuracy" {
		return a.PairwiseAccuracy > b.PairwiseAccuracy
	}
	return a.Loss < b.Loss
}
