package train

import (
	"fmt"

	"rmtrain/configs"
	"rmtrain/loss"
)

// A trainer is a run in progress.
type trainer struct {
	in       Inputs
	cfg      configs.Train
	plan     *plan
	lr       func(step int) float64
	identity map[string]string
	judge    judge
	opt      *optimizer
	log      *logger
	state    progress
	saved    int  // the step of the newest state in output_dir, 0 if there is none
	clean    bool // that state holds all of the trainer's
	exported int  // the step of the model's weights, 0 for the last
}

func newTrainer(in Inputs) (*trainer, error) {
	t := &trainer{in: in, cfg: in.Config.Train}
	t.cfg.MaxTokensPerBatch = in.Config.PassRows()
	if in.Eval != nil && in.Eval.Len() == 0 {
		t.in.Eval = nil
	}
	if t.in.Eval == nil && (t.cfg.LoadBestModelAtEnd || t.cfg.EarlyStopping > 0) {
		return nil, fmt.Errorf("train: load_best_model_at_end and early_stopping_patience need evaluation data (set data.eval or data.eval_prompts)")
	}
	var err error
	if t.plan, err = newPlan(in.Config, in.Train.Len()); err != nil {
		return nil, err
	}
	if t.lr, err = Schedule(t.cfg, t.plan.total); err != nil {
		return nil, err
	}
	var l loss.Loss
	if l, err = newLoss(in.Config.Loss); err != nil {
		return nil, err
	}
	t.judge = judge{model: in.Model, loss: l}
	t.identity = identity(t.in, t.plan.total)
	if t.opt, err = newOptimizer(in.Backend, t.cfg, in.Model.Params()); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *trainer) close() {
	t.opt.close()
	if t.log != nil {
		t.log.close()
	}
}

func (t *trainer) summary() Summary {
	s := &t.state
	exported := t.exported
	if exported == 0 {
		exported = s.Step
	}
	return Summary{
		Step: s.Step, TotalSteps: t.plan.total, Epoch: t.plan.epochs(s.Step), Exported: exported,
		TrainLoss: ratio(s.LossSum, float64(s.Groups)), Last: s.Last, Best: s.Best,
		NonFinite: s.NonFinite, StoppedEarly: s.StoppedEarly, Seconds: s.Seconds,
	}
}
