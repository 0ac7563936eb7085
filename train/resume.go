package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rmtrain/checkpoints"
)

// begin decides where the run starts: anew, from a state, or not at all because
// output_dir holds it, finished; then it returns that run's summary. It changes
// nothing in output_dir unless the run may start there.
func (t *trainer) begin() (*Summary, error) {
	dir := t.cfg.OutputDir
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("train: create output_dir: %w (choose a folder that can be written)", err)
	}
	states, err := checkpoints.States(dir)
	if err != nil {
		return nil, fmt.Errorf("train: look for states: %w", err)
	}
	finished, err := t.readSummary(dir)
	if err != nil {
		return nil, err
	}
	switch from := t.cfg.ResumeFrom; from {
	case "never":
		err = t.beginAnew(states)
	case "auto", "":
		if finished != nil && (finished.Step >= t.plan.total || finished.StoppedEarly) {
			finished.AlreadyFinished = true
			t.say("%s already holds this run, finished after step %d: nothing to do (choose another output_dir to train again)", dir, finished.Step)
			return finished, nil
		}
		if len(states) == 0 {
			err = t.beginAnew(nil)
		} else {
			err = t.resume(states[len(states)-1].Path)
		}
	default:
		err = t.resumeFrom(from, states)
	}
	if err != nil {
		return nil, err
	}
	if t.log, err = openLogger(t.in, dir, t.plan.total, t.state.MetricsLines); err != nil {
		return nil, err
	}
	t.announce()
	if t.state.Step > 0 {
		t.say("resuming after step %d of %d", t.state.Step, t.plan.total)
	}
	return nil, nil
}

// beginAnew refuses a folder that holds a run.
func (t *trainer) beginAnew(states []checkpoints.State) error {
	dir := t.cfg.OutputDir
	if len(states) > 0 {
		return fmt.Errorf("train: start anew: %s holds states, the newest of step %d (choose another output_dir, remove them, or set resume_from_checkpoint to auto)",
			dir, states[len(states)-1].Step)
	}
	for _, name := range []string{summaryFile, "config.json", "rmtrain.json", "rmtrain.incomplete", "model.safetensors", "model.safetensors.index.json"} {
		_, err := os.Lstat(filepath.Join(dir, name))
		if err == nil {
			return fmt.Errorf("train: start anew: %s holds a model or what is left of another run (%s), which would be overwritten (choose another output_dir)", dir, name)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("train: look into output_dir: %w", err)
		}
	}
	return nil
}

// resume takes over the state in path, which lies in output_dir.
func (t *trainer) resume(path string) error {
	s, p, err := t.openState(path)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := t.checkBest(p); err != nil {
		return err
	}
	t.saved, t.clean = p.Step, true
	return t.restore(s, p)
}

// resumeFrom takes over the state in path, which the user named. output_dir may
// hold that state and earlier ones of the same run, and nothing else.
func (t *trainer) resumeFrom(path string, states []checkpoints.State) error {
	s, p, err := t.openState(path)
	if err != nil {
		return err
	}
	defer s.Close()
	dir := t.cfg.OutputDir
	for _, other := range states {
		if _, err := t.parseState(other.Path, other.JSON); err != nil {
			return err
		}
		if other.Step > p.Step {
			return fmt.Errorf("train: resume from %s: %s holds a later state, of step %d, which would be overwritten (choose another output_dir, remove that state, or resume from it)",
				path, dir, other.Step)
		}
		if other.Step == p.Step {
			t.saved, t.clean = p.Step, true
		}
	}
	if len(states) == 0 {
		if err := t.beginAnew(nil); err != nil {
			return err
		}
		p.MetricsLines = 0 // they are in the other folder
	}
	if err := t.checkBest(p); err != nil {
		return err
	}
	return t.restore(s, p)
}

// checkBest refuses to go on in a folder without the best weights so far, if they
// are wanted at the end.
func (t *trainer) checkBest(p progress) error {
	if !t.cfg.LoadBestModelAtEnd || p.Best == nil || p.Best.Step == p.Step {
		return nil
	}
	path := statePath(t.cfg.OutputDir, p.Best.Step)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("train: resume: the best model so far, of step %d, is wanted at the end: %w (copy its state there, or set load_best_model_at_end to false)", p.Best.Step, err)
	}
	return nil
}

// openState opens and checks a state of this run.
func (t *trainer) openState(path string) (*checkpoints.State, progress, error) {
	s, err := checkpoints.OpenState(path)
	if err != nil {
		return nil, progress{}, fmt.Errorf("train: resume: %w (remove that folder to go on from the state before it)", err)
	}
	p, err := t.parseState(path, s.JSON)
	if err != nil {
		s.Close()
		return nil, progress{}, err
	}
	return s, p, nil
}

// parseState reads the JSON of a state and checks that it is of this run.
func (t *trainer) parseState(path string, text []byte) (progress, error) {
	var p progress
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("train: resume from %s: state: %w (remove that folder to go on from the state before it)", path, err)
	}
	if p.Version != stateVersion {
		return p, fmt.Errorf("train: resume from %s: its state has version %d and this program reads %d (go on with the program that wrote it)", path, p.Version, stateVersion)
	}
	if d := differences(p.Identity, t.identity); d != "" {
		return p, fmt.Errorf("train: resume from %s: it is of another run: %s (choose another output_dir, or restore the settings)", path, d)
	}
	if p.Step < 1 || p.MetricsLines < 0 || len(p.Window.ByRank) != len(p.Window.RankUses) {
		return p, fmt.Errorf("train: resume from %s: its state is damaged (remove that folder to go on from the state before it)", path)
	}
	return p, nil
}

// summaryFile marks a finished run: it is written after the final model.
const summaryFile = "summary.json"

type summaryJSON struct {
	Summary
	Identity map[string]string `json:"identity"`
}

func writeSummary(dir string, id map[string]string, s Summary) error {
	text, err := json.MarshalIndent(summaryJSON{s, id}, "", "  ")
	if err != nil {
		return fmt.Errorf("train: summary: %w", err)
	}
	return writeFile(filepath.Join(dir, summaryFile), append(text, '\n'))
}

// readSummary returns the summary of this run if dir holds it finished, and an
// error if dir holds another run.
func (t *trainer) readSummary(dir string) (*Summary, error) {
	text, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("train: look into output_dir: %w", err)
	}
	var s summaryJSON
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("train: read %s in output_dir: %w (choose another output_dir)", summaryFile, err)
	}
	if d := differences(s.Identity, t.identity); d != "" {
		return nil, fmt.Errorf("train: %s holds another run, finished after step %d: %s (choose another output_dir)", dir, s.Step, d)
	}
	return &s.Summary, nil
}
