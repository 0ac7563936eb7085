// Package checkpoints reads and writes model folders: Hugging Face's, in two
// dialects, which other programs load, and training states, which only rmtrain
// resumes. Tensors go by the names of Hugging Face's
// ...ForSequenceClassification ("model.norm.weight", "score.weight") whatever
// the folder calls them.
package checkpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of files in a model folder.
const (
	configName = "config.json"
	metaName   = "rmtrain.json"
	// maxJSON bounds configurations and indexes: the index of a model of a hundred
	// thousand tensors has some ten megabytes.
	maxJSON = 64 << 20
)

// Dialects: what the tensors of a folder are called.
const (
	Base        = "base"        // no value head
	HuggingFace = "huggingface" // model.*, score.weight
	Starling    = "starling"    // transformer.*, v_head.weight
)

// A Dir is an open model folder.
type Dir struct {
	Path    string // of the model's files
	Config  []byte // config.json
	Meta    *Meta  // rmtrain.json; nil if there is none
	Dialect string // base (with an LM head or none), huggingface or starling
	Notes   []string

	tensors map[string]tensor // by canonical name
	format  string            // of the files: safetensors or pytorch
	shards  []string          // file names
	weights io.Closer
}

// Open finds the model that path means: a model folder, a hub cache folder
// (models--org--name), a hub id in the local cache, or a run's output_dir. It reads
// headers, not weights.
func Open(path string) (*Dir, error) {
	resolved, err := Resolve(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: resolved}
	if err := d.open(); err != nil {
		d.Close()
		return nil, fmt.Errorf("checkpoints: open %s: %w", resolved, err)
	}
	return d, nil
}

func (d *Dir) open() error {
	if err := d.findModel(); err != nil {
		return err
	}
	config, err := readSmall(filepath.Join(d.Path, configName))
	if err != nil {
		return err
	}
	if !json.Valid(config) {
		return errors.New("config.json is not valid JSON")
	}
	d.Config = config
	if d.Meta, err = readMeta(d.Path); err != nil {
		return err
	}
	raw, err := openWeights(d.Path)
	if err != nil {
		return err
	}
	d.weights, d.format, d.shards = raw, raw.format, raw.shards
	d.Notes = append(d.Notes, raw.notes...)
	return d.adopt(raw.tensors)
}

// findModel explains what is wrong with a folder that holds no finished model.
func (d *Dir) findModel() error {
	if err := isFolder(d.Path); err != nil {
		return err
	}
	if exists(filepath.Join(d.Path, incompleteName)) {
		return errors.New("an export into this folder was interrupted (start it again; resuming a run writes the model again)")
	}
	if exists(filepath.Join(d.Path, completeName)) {
		return errors.New("this is a training state, not a model (give the run's output_dir, or resume training from it)")
	}
	if exists(filepath.Join(d.Path, configName)) {
		return nil
	}
	states, err := States(d.Path)
	if err != nil {
		return err
	}
	if len(states) > 0 {
		last := filepath.Base(states[len(states)-1].Path)
		return fmt.Errorf("no final model is here yet, but %d training states, the newest %s (resume training; it writes the model at its end)", len(states), last)
	}
	if exists(filepath.Join(d.Path, "adapter_config.json")) {
		return errors.New("this is a LoRA adapter, not a model (merge it into its base model first)")
	}
	return errors.New("no config.json is here (a Hugging Face model folder has config.json and model.safetensors)")
}

// Has tells whether the folder holds the tensor.
func (d *Dir) Has(name string) bool {
	_, ok := d.tensors[name]
	return ok
}

// Close closes the files.
func (d *Dir) Close() error {
	if d.weights == nil {
		return nil
	}
	w := d.weights
	d.weights = nil
	return w.Close()
}

func (d *Dir) note(format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
}

// readSmall reads a configuration file whole, if it is not too large to be one.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxJSON {
		return nil, fmt.Errorf("%s has more than %d bytes", filepath.Base(path), maxJSON)
	}
	return b, nil
}

func isFolder(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("no such folder")
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("this is a file, not a folder (give the folder that contains config.json)")
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
