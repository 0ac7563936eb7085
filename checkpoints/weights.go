package checkpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rmtrain/checkpoints/safetensors"
)

// Files that hold weights, in the order of preference of transformers.
const (
	safeName        = "model.safetensors"
	safeIndexName   = "model.safetensors.index.json"
	torchName       = "pytorch_model.bin"
	torchIndexName  = "pytorch_model.bin.index.json"
	valueHeadName   = "value_head.safetensors"
	formatSafe      = "safetensors"
	formatTorch     = "pytorch"
	shardPattern    = "model-*-of-*.safetensors"
	tensorsInErrors = 20 // names of a group that an error lists
)

// A tensor is where the elements of a tensor lie.
type tensor struct {
	file    string // name of the file that holds it
	dtype   string // as safetensors calls it
	shape   []int
	strides []int             // in elements; nil if contiguous and row-major
	bytes   *io.SectionReader // of the tensor, from its first element
}

// rawWeights are the tensors of all weight files, by the names in the files.
type rawWeights struct {
	tensors map[string]tensor
	format  string
	shards  []string
	notes   []string
	files   []*os.File
}

// Close closes the files.
func (w *rawWeights) Close() error {
	var errs []error
	for _, f := range w.files {
		errs = append(errs, f.Close())
	}
	w.files = nil
	return errors.Join(errs...)
}

// openWeights opens the weight files of a model folder.
func openWeights(dir string) (*rawWeights, error) {
	w := &rawWeights{tensors: map[string]tensor{}}
	err := w.open(dir)
	if err == nil {
		err = w.openValueHead(dir)
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *rawWeights) open(dir string) error {
	for _, c := range []struct{ name, format string }{
		{safeIndexName, formatSafe}, {safeName, formatSafe},
		{torchIndexName, formatTorch}, {torchName, formatTorch},
	} {
		if !exists(filepath.Join(dir, c.name)) {
			continue
		}
		w.format = c.format
		if strings.HasSuffix(c.name, ".json") {
			return w.openIndex(dir, c.name)
		}
		return w.openFile(dir, c.name)
	}
	return w.openLoose(dir)
}

// openLoose opens the only *.pt or *.bin file of a folder that has no weights under
// a usual name.
func (w *rawWeights) openLoose(dir string) error {
	if shards, _ := filepath.Glob(filepath.Join(dir, shardPattern)); len(shards) > 0 {
		return fmt.Errorf("%d shards are here but no %s (copy it too)", len(shards), safeIndexName)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var found []string
	for _, e := range entries {
		if isTorchModel(e.Name()) {
			found = append(found, e.Name())
		}
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("no weights are here (%s, %s, or %s)", safeName, safeIndexName, torchName)
	case 1:
		w.format = formatTorch
		return w.openFile(dir, found[0])
	}
	return fmt.Errorf("several files could be the weights: %s (keep one, or name it %s)", listNames(found), torchName)
}

// isTorchModel leaves out what Hugging Face's Trainer writes beside a model.
func isTorchModel(name string) bool {
	switch name {
	case "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin", "scaler.pt", "training_args.bin":
		return false
	}
	return filepath.Ext(name) == ".pt" || filepath.Ext(name) == ".bin"
}

// index is model.safetensors.index.json or pytorch_model.bin.index.json.
type index struct {
	Metadata  json.RawMessage   `json:"metadata,omitempty"`
	WeightMap map[string]string `json:"weight_map"`
}

func (w *rawWeights) openIndex(dir, name string) error {
	b, err := readSmall(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	var x index
	if err := json.Unmarshal(b, &x); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(x.WeightMap) == 0 {
		return fmt.Errorf("%s: weight_map is empty or missing", name)
	}
	if x.dropHead(dir) {
		w.notes = append(w.notes, "lm_head.weight, alone in a shard, was not downloaded; a reward model has none")
	}
	shards, err := x.shards(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, s := range shards {
		if err := w.openFile(dir, s); err != nil {
			return err
		}
	}
	w.noteStrays(dir)
	if err := w.checkIndex(x.WeightMap); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// dropHead forgets lm_head.weight if it lies alone in a shard that is not here, as
// after a download for a reward model, unless it stands for tied embeddings.
func (x index) dropHead(dir string) bool {
	const head = "lm_head.weight"
	file, ok := x.WeightMap[head]
	if !ok || exists(filepath.Join(dir, file)) {
		return false
	}
	embeds := false
	for name, f := range x.WeightMap {
		if name != head && f == file {
			return false
		}
		embeds = embeds || strings.HasSuffix(name, "embed_tokens.weight")
	}
	if embeds {
		delete(x.WeightMap, head)
	}
	return embeds
}

// shards lists the files of the index, and all that are missing in one error.
func (x index) shards(dir string) ([]string, error) {
	seen := map[string]bool{}
	var shards, missing []string
	for _, file := range x.WeightMap {
		if seen[file] {
			continue
		}
		seen[file] = true
		if !plainName(file) {
			return nil, fmt.Errorf("%q is not the name of a file in this folder", file)
		}
		shards = append(shards, file)
		if !exists(filepath.Join(dir, file)) {
			missing = append(missing, file)
		}
	}
	slices.Sort(shards)
	slices.Sort(missing)
	if len(missing) > 0 {
		return nil, fmt.Errorf("%d of %d shards are missing: %s (download the rest)", len(missing), len(shards), listNames(missing))
	}
	return shards, nil
}

// checkIndex compares where the index says that tensors lie with where they are.
func (w *rawWeights) checkIndex(want map[string]string) error {
	var wrong, missing []string
	for name, file := range want {
		t, ok := w.tensors[name]
		switch {
		case !ok:
			missing = append(missing, fmt.Sprintf("%s (of %s)", name, file))
		case t.file != file:
			wrong = append(wrong, fmt.Sprintf("%s (in %s, not in %s)", name, t.file, file))
		}
	}
	var unlisted []string
	for name := range w.tensors {
		if _, ok := want[name]; !ok {
			unlisted = append(unlisted, name)
		}
	}
	if len(unlisted) > 0 {
		slices.Sort(unlisted)
		w.notes = append(w.notes, fmt.Sprintf("tensors in shards that the index does not list: %s", listNames(unlisted)))
	}
	slices.Sort(wrong)
	slices.Sort(missing)
	var errs []string
	if len(missing) > 0 {
		errs = append(errs, "tensors that no shard holds: "+listNames(missing))
	}
	if len(wrong) > 0 {
		errs = append(errs, "tensors in another shard: "+listNames(wrong))
	}
	if len(errs) > 0 {
		return errors.New(strings.Join(errs, "; "))
	}
	return nil
}

// noteStrays mentions shards that the index does not name.
func (w *rawWeights) noteStrays(dir string) {
	found, _ := filepath.Glob(filepath.Join(dir, shardPattern)) // the pattern is well-formed
	var strays []string
	for _, path := range found {
		if name := filepath.Base(path); w.format == formatSafe && !slices.Contains(w.shards, name) {
			strays = append(strays, name)
		}
	}
	if len(strays) > 0 {
		w.notes = append(w.notes, "shards that the index does not name are not read: "+listNames(strays))
	}
}

// openFile adds the tensors of one weight file.
func (w *rawWeights) openFile(dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	w.files = append(w.files, f)
	w.shards = append(w.shards, name)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	read := readSafetensors
	if w.format == formatTorch {
		read = readTorch
	}
	found, err := read(name, f, info.Size())
	if err != nil {
		return err
	}
	for key, t := range found {
		if other, twice := w.tensors[key]; twice {
			return fmt.Errorf("tensor %s is in both %s and %s", key, other.file, name)
		}
		w.tensors[key] = t
	}
	return nil
}

func readSafetensors(name string, r io.ReaderAt, size int64) (map[string]tensor, error) {
	f, err := safetensors.Open(name, r, size)
	if err != nil {
		return nil, err
	}
	found := make(map[string]tensor, len(f.Names))
	for _, key := range f.Names {
		section, err := f.Section(key)
		if err != nil {
			return nil, err
		}
		h := f.Tensors[key]
		found[key] = tensor{file: name, dtype: h.DType, shape: h.Shape, bytes: section}
	}
	return found, nil
}

// openValueHead adds LLaMA-Factory's head, which lies beside its base model.
func (w *rawWeights) openValueHead(dir string) error {
	if !exists(filepath.Join(dir, valueHeadName)) || slices.Contains(w.shards, valueHeadName) {
		return nil
	}
	format := w.format
	w.format = formatSafe
	defer func() { w.format = format }()
	return w.openFile(dir, valueHeadName)
}

// listNames joins names for an error, and counts those that are too many to list.
func listNames(names []string) string {
	if len(names) <= tensorsInErrors {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:tensorsInErrors], ", "), len(names)-tensorsInErrors)
}
