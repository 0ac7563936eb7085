package configs

import (
	"fmt"
	"path/filepath"
	"slices"
)

// A rule forbids a combination of settings. It is checked if none of its keys has
// a mistake of its own; the problem is reported at the first key.
type rule struct {
	keys  []string
	check func(r *Run) string // what is wrong, or ""
}

// when returns the message if the condition holds.
func when(wrong bool, message string, args ...any) string {
	if wrong {
		return fmt.Sprintf(message, args...)
	}
	return ""
}

func (r *Run) evaluates() bool { return len(r.Data.Eval) > 0 || r.Data.EvalPrompts > 0 }

var rules = []rule{
	{[]string{"data.eval", "data.eval_prompts"}, func(r *Run) string {
		return when(len(r.Data.Eval) > 0 && r.Data.EvalPrompts > 0,
			"cannot be combined with data.eval_prompts: give a file of its own, or hold out prompts of data.train")
	}},
	{[]string{"data.eval", "data.train"}, func(r *Run) string {
		for _, path := range r.Data.Eval {
			if filepath.IsAbs(path) && slices.Contains(r.Data.Train, path) { // a dataset on the hub has its splits
				return fmt.Sprintf("holds %q, which data.train holds too: evaluate on other prompts, or hold some out with data.eval_prompts", path)
			}
		}
		return ""
	}},
	{[]string{"data.max_answers"}, func(r *Run) string {
		return when(r.Data.MaxAnswers == 1, "leaves nothing to rank: give 0 for all answers, or at least 2")
	}},
	{[]string{"loss.m", "loss.type"}, func(r *Run) string {
		topM := r.Loss.Type == "top_m_plackett_luce"
		return when(topM && r.Loss.M == 0, "is required by loss.type top_m_plackett_luce: give at least 1") +
			when(!topM && r.Loss.M > 0, "has no meaning for loss.type %s: leave it out, or choose top_m_plackett_luce", r.Loss.Type)
	}},
	{[]string{"loss.m", "data.max_answers"}, func(r *Run) string {
		return when(r.Data.MaxAnswers > 1 && r.Loss.M > r.Data.MaxAnswers,
			"is above data.max_answers = %d: no group has so many places", r.Data.MaxAnswers)
	}},
	{[]string{"train.max_steps"}, func(r *Run) string {
		return when(r.Train.MaxSteps == 0, "trains nothing: give at least 1, or -1 to train for train.num_train_epochs")
	}},
	{[]string{"train.num_train_epochs", "train.max_steps"}, func(r *Run) string {
		return when(r.Train.NumTrainEpochs == 0 && r.Train.MaxSteps == -1,
			"trains nothing while train.max_steps is -1: give a number above 0, or the number of steps")
	}},
	{[]string{"train.max_tokens_per_batch", "data.max_length"}, func(r *Run) string {
		return when(r.PassRows() < r.Data.MaxLength,
			"is below data.max_length = %d: a pass must hold the longest conversation", r.Data.MaxLength)
	}},
	{[]string{"train.warmup_steps", "train.warmup_ratio"}, func(r *Run) string {
		return when(r.Train.WarmupSteps > 0 && r.Train.WarmupRatio > 0,
			"cannot be combined with train.warmup_ratio: give one of them")
	}},
	{[]string{"train.stochastic_rounding", "model.dtype"}, func(r *Run) string {
		return when(r.Train.StochasticRounding && r.Model.DType != "bfloat16",
			"rounds to bfloat16, but model.dtype is %s: leave it out, or set model.dtype to bfloat16", r.Model.DType)
	}},
	{[]string{"train.eval_steps", "data.eval", "data.eval_prompts"}, func(r *Run) string {
		return when(r.Train.EvalSteps > 0 && !r.evaluates(), "needs something to evaluate on: set data.eval or data.eval_prompts")
	}},
	{[]string{"train.load_best_model_at_end", "train.eval_steps", "train.save_steps", "data.eval", "data.eval_prompts"}, loadBest},
	{[]string{"train.early_stopping_patience", "train.eval_steps"}, func(r *Run) string {
		return when(r.Train.EarlyStopping > 0 && r.Train.EvalSteps == 0, "needs evaluations on the way: set train.eval_steps")
	}},
	{[]string{"train.output_dir", "model.name_or_path"}, func(r *Run) string {
		return when(r.Train.OutputDir == r.Model.NameOrPath, "is model.name_or_path: the trained model would overwrite the one it is made of")
	}},
}

func loadBest(r *Run) string {
	t := r.Train
	switch {
	case !t.LoadBestModelAtEnd:
		return ""
	case !r.evaluates():
		return "needs something to evaluate on: set data.eval or data.eval_prompts"
	case t.EvalSteps == 0 || t.SaveSteps == 0:
		return "needs train.eval_steps and train.save_steps: there must be states to choose from"
	case t.SaveSteps%t.EvalSteps != 0:
		return fmt.Sprintf("needs a metric for each saved state: train.save_steps = %d is not a multiple of train.eval_steps = %d", t.SaveSteps, t.EvalSteps)
	}
	return ""
}

func (l *loader) checkRules(run *Run) {
	for _, rule := range rules {
		if slices.ContainsFunc(rule.keys, func(key string) bool { return l.failed[key] }) {
			continue
		}
		if message := rule.check(run); message != "" {
			l.add(l.problem(rule.keys[0], message))
		}
	}
}

// problem is a mistake in the merged value of a key.
func (l *loader) problem(key, message string) Problem {
	p := Problem{Key: key, Value: l.texts[key], Source: l.sources[key], Message: message}
	if f, _ := findField(key); p.Source == "" {
		p.Value, p.Source = f.def, "default"
	}
	return p
}
