package train

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rmtrain/kernels"
)

// skipped reads what was saved of a skipped step.
func skipped(t testing.TB, dir, step string) (groups []struct {
	Source string
	Scores []any
	Loss   any
}) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "nonfinite-step-"+step+".json"))
	check(t, err)
	var r struct {
		Groups []struct {
			Source string
			Scores []any
			Loss   any
		}
	}
	check(t, json.Unmarshal(text, &r))
	return r.Groups
}

func TestANonFiniteLossSkipsTheStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	w.eval = nil
	c := baseConfig(t.TempDir())
	c.Train.MaxTokensPerBatch = 1 // a group a batch, so that only one is hit
	passes, updates := 0, 0
	w.backend = func(b kernels.Backend) kernels.Backend {
		return &hooked{Backend: b,
			afterScores: func(score kernels.Tensor) {
				if passes++; passes == 5 { // the second of the second step
					poison(b, score)
				}
			},
			afterAdamW: func(a kernels.AdamW) { updates = a.Step },
		}
	}
	s, _ := w.run(c)
	if s.Step != 6 || s.NonFinite != 1 || updates != 5 {
		t.Errorf("%d updates, summary %+v", updates, s)
	}
	groups := skipped(t, c.Train.OutputDir, "2")
	if len(groups) != 1 || groups[0].Loss != "NaN" || groups[0].Scores[0] != "NaN" || groups[0].Scores[1] == "NaN" ||
		!strings.HasPrefix(groups[0].Source, "rows.jsonl:") {
		t.Errorf("saved %+v", groups)
	}
	if !strings.Contains(w.log.String(), "step 2 skipped") {
		t.Errorf("log %s", w.log.String())
	}
}

func TestANonFiniteGradientSkipsTheStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	w.eval = nil
	c := baseConfig(t.TempDir())
	c.Train.MaxSteps = 1
	before := weightsOf(t, w.inputs(c))
	w.backend = func(b kernels.Backend) kernels.Backend {
		return &hooked{Backend: b, afterSumSq: func(out kernels.Tensor) { poison(b, out) }}
	}
	s, after := w.run(c)
	sameBits(t, after, before)
	if groups := skipped(t, c.Train.OutputDir, "1"); s.NonFinite != 1 || len(groups) != 3 || groups[0].Loss == "NaN" {
		t.Errorf("summary %+v, saved %+v", s, groups)
	}
	if lines := metrics(t, c.Train.OutputDir); len(lines) != 1 || !strings.Contains(lines[0], `"loss":null`) {
		t.Errorf("metrics %v", lines)
	}
}

func TestThreeNonFiniteStepsInARowStopTheRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.SaveSteps = 1
	norms := 0
	perStep := len(tinyParams())
	w.backend = func(b kernels.Backend) kernels.Backend {
		return &hooked{Backend: b, afterSumSq: func(out kernels.Tensor) {
			step := norms/perStep + 1
			if norms++; step == 1 || step >= 3 { // a good step in between does not count
				poison(b, out)
			}
		}}
	}
	s, err := Run(context.Background(), w.inputs(c))
	if err == nil || !strings.Contains(err.Error(), "step 5") || !strings.Contains(err.Error(), "3 times in a row") || s.NonFinite != 4 {
		t.Errorf("error %v, summary %+v", err, s)
	}
	if _, err := os.Stat(statePath(c.Train.OutputDir, 4)); err != nil {
		t.Errorf("the last state is gone: %v", err)
	}
}
