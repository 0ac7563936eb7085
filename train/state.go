package train

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"rmtrain/checkpoints"
)

// stateVersion changes when a state cannot be read as before.
const stateVersion = 1

// A progress is the part of a training state that is not tensors. Its JSON gives
// back every float64 to the bit. There is no state of a random generator: the order
// of prompts follows from the seed and the epoch.
type progress struct {
	Version  int               `json:"version"`
	Identity map[string]string `json:"identity"`
	Step     int               `json:"step"`
	Updates  int               `json:"updates"` // steps that were not skipped: AdamW's own count
	Epoch    float64           `json:"epoch"`
	Position int               `json:"position"` // groups of the current epoch that were read

	Window       tally   `json:"window"`        // since the last log line
	MetricsLines int     `json:"metrics_lines"` // of metrics.jsonl that belong to this state
	LossSum      float64 `json:"loss_sum"`      // over all Groups of the run
	Groups       int     `json:"groups"`
	Seconds      float64 `json:"seconds"`

	NonFinite       int `json:"nonfinite_steps"`
	NonFiniteInARow int `json:"nonfinite_in_a_row"`

	Last               *Evaluation `json:"last_evaluation,omitempty"`
	Best               *Evaluation `json:"best_evaluation,omitempty"`
	WithoutImprovement int         `json:"evaluations_without_improvement"`
	StoppedEarly       bool        `json:"stopped_early"`
}

// statePath is where package checkpoints puts the state of a step.
func statePath(dir string, step int) string {
	return filepath.Join(dir, fmt.Sprintf("checkpoint-%d", step))
}

// saveIfDue saves every save_steps, after the last step, and after the best
// evaluation if its weights are wanted at the end.
func (t *trainer) saveIfDue() error {
	s := &t.state
	best := t.cfg.LoadBestModelAtEnd && s.Best != nil && s.Best.Step == s.Step
	if t.complete() || best || (t.cfg.SaveSteps > 0 && s.Step%t.cfg.SaveSteps == 0) {
		return t.save()
	}
	return nil
}

// save writes a state, unless the newest one is the same, and removes old ones. A
// state that cannot be written leaves the earlier ones as they are.
func (t *trainer) save() error {
	s := &t.state
	if t.clean || s.Step == 0 {
		return nil
	}
	s.Version, s.Identity = stateVersion, t.identity
	s.Epoch = t.plan.epochs(s.Step)
	s.Position = min(s.Step%t.plan.perEpoch*t.plan.perStep, t.plan.groups)
	s.MetricsLines = t.log.lines
	if err := t.log.sync(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("train: save state of step %d: %w", s.Step, err)
	}
	var tensors []checkpoints.Tensor
	for _, n := range t.opt.stateTensors() {
		tensors = append(tensors, stored(t.in.Backend, n.name, n.shape, n.tensor))
	}
	if _, err := checkpoints.SaveState(t.cfg.OutputDir, s.Step, text, tensors); err != nil {
		return fmt.Errorf("train: save state of step %d: %w (then start again: %s)", s.Step, err, t.restart())
	}
	t.saved, t.clean = s.Step, true
	return t.rotate()
}

// restart says where the same command would go on.
func (t *trainer) restart() string {
	if t.saved == 0 {
		return "training begins anew, as there is no earlier state"
	}
	return fmt.Sprintf("training goes on from the state of step %d", t.saved)
}

// rotate keeps the newest states and that of the best evaluation.
func (t *trainer) rotate() error {
	var keep []string
	if t.state.Best != nil {
		keep = append(keep, statePath(t.cfg.OutputDir, t.state.Best.Step))
	}
	if err := checkpoints.Rotate(t.cfg.OutputDir, t.cfg.SaveTotalLimit, keep...); err != nil {
		return fmt.Errorf("train: remove old states: %w", err)
	}
	return nil
}

// restore takes over the tensors of s and its progress p.
func (t *trainer) restore(s *checkpoints.State, p progress) error {
	if err := t.readTensors(s, t.opt.stateTensors()); err != nil {
		return fmt.Errorf("train: resume from %s: %w", s.Path, err)
	}
	t.state = p
	return nil
}

func (t *trainer) readTensors(s *checkpoints.State, tensors []named) error {
	var buf []byte
	for _, n := range tensors {
		buf = resizeBytes(buf, n.tensor.Bytes())
		if err := s.Read(n.name, buf); err != nil {
			return err
		}
		t.in.Backend.Upload(n.tensor, buf)
	}
	return t.in.Backend.Sync()
}

// loadBest puts the weights of the best evaluation into the model, if that is wanted
// and they are not those of the last step.
func (t *trainer) loadBest() error {
	best := t.state.Best
	if !t.cfg.LoadBestModelAtEnd || best == nil || best.Step == t.state.Step {
		return nil
	}
	path := statePath(t.cfg.OutputDir, best.Step)
	s, err := checkpoints.OpenState(path)
	if err != nil {
		return fmt.Errorf("train: load best model of step %d: %w (without it, set load_best_model_at_end to false)", best.Step, err)
	}
	defer s.Close()
	var weights []named
	for _, slot := range t.opt.slots {
		weights = append(weights, named{slot.Name, slot.Shape, slot.Weight})
	}
	if err := t.readTensors(s, weights); err != nil {
		return fmt.Errorf("train: load best model of step %d: %w", best.Step, err)
	}
	t.exported = best.Step
	t.say("exporting the best model, of step %d", best.Step)
	return nil
}
