package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/data"
)

// preflight finds what would fail after minutes of reading: it opens the backend
// and looks at every path of the configuration. All mistakes are one error.
func (r *trainRun) preflight(context.Context) error {
	var errs []error
	var err error
	if r.dt, err = parseDType(r.cfg.Model.DType); err != nil {
		return err
	}
	if r.backend, err = openBackend(r.cfg.Device, r.dt); err != nil {
		errs = append(errs, err)
	} else {
		r.onClose(r.backend.Close)
	}
	if name := r.cfg.Model.NameOrPath; !onHub(name) { // else it is downloaded once all else is right
		if _, err := checkpoints.Resolve(name); err != nil {
			errs = append(errs, fmt.Errorf("model.name_or_path: %w", err))
		}
	}
	for _, p := range r.cfg.Data.Train {
		if !onHub(p) {
			errs = append(errs, readable("data.train", p))
		}
	}
	for _, p := range r.cfg.Data.Eval {
		if !onHub(p) {
			errs = append(errs, readable("data.eval", p))
		}
	}
	if t := r.cfg.Data.ChatTemplate; !slices.Contains([]string{"auto", "transcript", "none"}, t) {
		errs = append(errs, readable("data.chat_template", t))
	}
	if r.begun, err = begunRun(r.cfg); err == nil && r.begun != nil {
		err = sameRun(r.cfg.Train.OutputDir, r.begun, settings(r.cfg))
	}
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("nothing was started:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return nil
}

// readable tells why the file or folder that a setting names cannot be read.
func readable(key, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return f.Close()
}

// modelFiles are the marks of a model, whole or half written, in a folder.
var modelFiles = []string{"config.json", "rmtrain.json", "rmtrain.incomplete", "model.safetensors", "model.safetensors.index.json"}

// summaryFile is where a finished run says what it was.
const summaryFile = "summary.json"

// begunRun returns what the run that lies in output_dir says of itself, nil if there
// is none. It refuses a folder that cannot be written, or that holds something else.
func begunRun(c configs.Run) ([]byte, error) {
	dir := c.Train.OutputDir
	if err := writable(dir); err != nil {
		return nil, fmt.Errorf("train.output_dir: %w", err)
	}
	states, err := checkpoints.States(dir)
	if err != nil {
		return nil, fmt.Errorf("train.output_dir: %w", err)
	}
	begun, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("train.output_dir: %w", err)
	}
	if begun == nil && len(states) > 0 {
		begun = states[len(states)-1].JSON
	}
	if from := c.Train.ResumeFrom; from != "auto" && from != "never" {
		return namedState(from)
	}
	if begun != nil {
		if c.Train.ResumeFrom == "never" {
			return nil, fmt.Errorf("train.output_dir: %s holds a run (choose another folder, or set train.resume_from_checkpoint to auto to go on with it)", dir)
		}
		return begun, nil
	}
	for _, name := range modelFiles {
		if exists(filepath.Join(dir, name)) {
			return nil, fmt.Errorf("train.output_dir: %s holds a model that this run did not make (%s), which would be overwritten (choose another folder)", dir, name)
		}
	}
	return nil, nil
}

// writable tells why dir, or the nearest folder above it that exists, cannot be
// written.
func writable(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		st, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue
		}
		if err != nil {
			return err
		}
		if !st.IsDir() {
			return fmt.Errorf("%s is a file, not a folder", at)
		}
		if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
			return fmt.Errorf("%s: %w (choose a folder that can be written)", at, err)
		}
		return nil
	}
}

// namedState returns the JSON of the state in path.
func namedState(path string) ([]byte, error) {
	states, err := checkpoints.States(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("train.resume_from_checkpoint: %w", err)
	}
	for _, s := range states {
		if filepath.Base(s.Path) == filepath.Base(path) {
			return s.JSON, nil
		}
	}
	return nil, fmt.Errorf("train.resume_from_checkpoint: %s is no complete training state (choose a folder named checkpoint-N in a run's output_dir)", path)
}

// lock keeps other processes from training into dir until the returned function is
// called. Where a file system cannot lock folders there is no protection.
func lock(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("train.output_dir: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("train.output_dir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("train.output_dir: another process is training into %s (wait for it, or choose another folder)", dir)
	}
	return f.Close, nil
}

// sameRun compares what a run in dir has stored of itself with what is known here, as
// far as both name the same. Package train compares all of it, but only once the
// data is read; here is what saves the user from waiting for that.
func sameRun(dir string, stored []byte, here map[string]string) error {
	var s struct {
		Identity map[string]string `json:"identity"`
	}
	if err := json.Unmarshal(stored, &s); err != nil {
		return fmt.Errorf("train.output_dir: what the run in %s says of itself cannot be read: %w (choose another folder)", dir, err)
	}
	var differ []string
	for key, there := range s.Identity {
		if now, ok := here[key]; ok && now != there {
			differ = append(differ, fmt.Sprintf("%s is %.40s there and %.40s here", key, there, now))
		}
	}
	if len(differ) == 0 {
		return nil
	}
	slices.Sort(differ)
	return fmt.Errorf("train.output_dir: %s holds another run: %s (choose another folder, or restore the settings)", dir, strings.Join(differ, "; "))
}

// settings returns every setting by its key, in the spelling of a run's identity.
func settings(c configs.Run) map[string]string {
	out := map[string]string{}
	sections := reflect.ValueOf(c)
	for i := range sections.NumField() {
		section := sections.Field(i)
		if section.Kind() != reflect.Struct {
			continue
		}
		for j := range section.NumField() {
			key := sections.Type().Field(i).Tag.Get("mapstructure") + "." + section.Type().Field(j).Tag.Get("mapstructure")
			out[key] = fmt.Sprint(section.Field(j).Interface())
		}
	}
	return out
}

// checkVocabulary refuses data with a token that the model has no embedding of. Only
// a tokenizer with more tokens than the model makes any, and often never does.
func (r *trainRun) checkVocabulary() error {
	if r.enc.Tokenizer().VocabSize() <= r.model.Vocab {
		return nil
	}
	for _, d := range []*data.Dataset{r.data.Train, r.data.Eval} {
		for i := range groupsOf(d) {
			g := d.Group(i)
			for _, a := range g.Answers {
				if id := slices.Max(a.Tokens); int(id) >= r.model.Vocab {
					return fmt.Errorf("%s: token %d is beyond the model's vocab_size %d (give the model the tokenizer that it was trained with)", g.Source, id, r.model.Vocab)
				}
			}
		}
	}
	return nil
}
