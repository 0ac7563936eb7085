package train

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"

	"rmtrain/data"
)

// A number is a float64 whose JSON form has NaN and infinities, as strings.
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	if finite(float64(n)) {
		return json.Marshal(float64(n))
	}
	return json.Marshal(strconv.FormatFloat(float64(n), 'g', -1, 64))
}

// maxNonFinite is how many steps in a row may be skipped before training stops.
const maxNonFinite = 3

// A verdict is what a step found for one group.
type verdict struct {
	Source string   `json:"source"`
	Tokens []int    `json:"tokens"` // of each answer's conversation
	Ranks  []number `json:"ranks"`
	Scores []number `json:"scores"`
	Loss   number   `json:"loss"`
	finite bool     // loss and gradients of scores
}

// appendVerdicts describes the groups of the last micro-batch.
func (j *judge) appendVerdicts(to []verdict, groups []data.Group) []verdict {
	for i, g := range groups {
		v := verdict{Source: g.Source, Loss: number(j.losses[i]), finite: finite(j.losses[i]) && allFinite(j.grads[i])}
		for k, a := range g.Answers {
			v.Tokens = append(v.Tokens, len(a.Tokens))
			v.Ranks = append(v.Ranks, number(a.Rank))
			v.Scores = append(v.Scores, number(j.groups[i].Scores[k]))
		}
		to = append(to, v)
	}
	return to
}

// culprits returns the groups that are not finite, or all if every one is: then the
// overflow is in a gradient of the parameters, to which all contribute.
func culprits(all []verdict) []verdict {
	var out []verdict
	for _, v := range all {
		if !v.finite {
			out = append(out, v)
		}
	}
	if out == nil {
		return all
	}
	return out
}

// skip counts a step that was not taken, saves what is known of it, and stops the
// run after the third in a row.
func (t *trainer) skip(step int, verdicts []verdict, sum *tally) error {
	t.state.NonFinite++
	t.state.NonFiniteInARow++
	t.state.Window.addSkipped(sum)
	groups := culprits(verdicts)
	path := filepath.Join(t.cfg.OutputDir, fmt.Sprintf("nonfinite-step-%d.json", step))
	report, err := json.MarshalIndent(struct {
		Step         int       `json:"step"`
		LearningRate float64   `json:"learning_rate"`
		Groups       []verdict `json:"groups"`
	}{step, sum.LR, groups}, "", "  ")
	if err != nil {
		return fmt.Errorf("train: report step %d: %w", step, err)
	}
	if err := writeFile(path, append(report, '\n')); err != nil {
		return err
	}
	t.say("step %d skipped: loss or gradient is not finite, first in %s (see %s)", step, groups[0].Source, path)
	if t.state.NonFiniteInARow < maxNonFinite {
		return nil
	}
	return fmt.Errorf("train: step %d: loss or gradient was not finite %d times in a row; the parameters are those of step %d "+
		"(see %s; try a lower learning_rate, a longer warm-up, a smaller max_grad_norm or dtype float32, and check the base model with infer)",
		step, maxNonFinite, step-maxNonFinite, path)
}
