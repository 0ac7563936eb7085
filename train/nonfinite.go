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

// A culprit is a group whose loss or gradient is not finite, or, if only the sum of
// the gradients is not, one that took part in it.
type culprit struct {
	Source string   `json:"source"`
	Tokens []int    `json:"tokens"` // of each answer's conversation
	Ranks  []number `json:"ranks"`
	Scores []number `json:"scores"`
	Loss   *number  `json:"loss,omitempty"`
}

// culprits returns the groups of the last micro-batch that are not finite.
func (j *judge) culprits(groups []data.Group) []culprit {
	var out []culprit
	for i, g := range groups {
		if finite(j.losses[i]) && allFinite(j.grads[i]) {
			continue
		}
		c := describe(g)
		loss := number(j.losses[i])
		c.Loss = &loss
		for _, s := range j.groups[i].Scores {
			c.Scores = append(c.Scores, number(s))
		}
		out = append(out, c)
	}
	return out
}

func describe(g data.Group) culprit {
	c := culprit{Source: g.Source}
	for _, a := range g.Answers {
		c.Tokens = append(c.Tokens, len(a.Tokens))
		c.Ranks = append(c.Ranks, number(a.Rank))
	}
	return c
}

// skip counts a step that was not taken, saves what is known of it, and stops the
// run after the third in a row.
func (t *trainer) skip(step int, culprits []culprit, sum *tally) error {
	t.state.NonFinite++
	t.state.NonFiniteInARow++
	t.state.Window.addSkipped(sum)
	path := filepath.Join(t.cfg.OutputDir, fmt.Sprintf("nonfinite-step-%d.json", step))
	report, err := json.MarshalIndent(struct {
		Step         int       `json:"step"`
		LearningRate float64   `json:"learning_rate"`
		Groups       []culprit `json:"groups"`
	}{step, sum.LR, culprits}, "", "  ")
	if err != nil {
		return fmt.Errorf("train: report step %d: %w", step, err)
	}
	if err := writeFile(path, report); err != nil {
		return err
	}
	t.say("step %d skipped: loss or gradient is not finite, first in %s (see %s)", step, culprits[0].Source, path)
	if t.state.NonFiniteInARow < maxNonFinite {
		return nil
	}
	return fmt.Errorf("train: step %d: loss or gradient was not finite %d times in a row; the parameters are those of step %d "+
		"(see %s; try a lower learning_rate, a longer warm-up, a smaller max_grad_norm or dtype float32, and check the base model with infer)",
		step, maxNonFinite, step-maxNonFinite, path)
}

// suspects describes the groups of a step whose losses are finite, but not the sum of
// their gradients.
func suspects(groups []data.Group) []culprit {
	out := make([]culprit, len(groups))
	for i, g := range groups {
		out[i] = describe(g)
	}
	return out
}
