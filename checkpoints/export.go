package checkpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// incompleteName marks a folder whose model is being replaced file by file.
const incompleteName = "rmtrain.incomplete"

// tempModel begins the names of folders in which a model grows inside of an
// existing folder.
const tempModel = "tmp-model-"

// A File is a small file to write beside the weights.
type File struct {
	Name string
	Data []byte
}

// Export describes a model folder to write.
type Export struct {
	Dialect  string // huggingface or starling; base keeps all names and the architecture
	Config   []byte // config.json of the base model; it is adapted to the dialect
	PadID    int32  // pad_token_id to set; -1 leaves the base model's
	DType    string // torch_dtype of the weights
	Meta     Meta   // not written in dialect base
	Files    []File // tokenizer files, README.md, ...
	Tensors  []Tensor
	MaxShard int64 // bytes; 0 means 5 GB
	// Into, if set, adds the model to an existing folder (a run's output_dir) instead
	// of creating one.
	Into bool
	// Overwrite lets Into replace the model that is in the folder.
	Overwrite bool
}

// Write writes the folder at path: it is complete or it is absent. It refuses to
// touch a folder that exists, unless e.Into; then it adds the model's files to the
// folder, and refuses one that holds a model already, unless e.Overwrite.
func Write(path string, e Export) error {
	if err := write(filepath.Clean(path), e); err != nil {
		return fmt.Errorf("checkpoints: write %s: %w", path, explain(err))
	}
	return nil
}

func write(path string, e Export) error {
	plan, err := e.plan()
	if err != nil {
		return err
	}
	config, err := adaptConfig(e)
	if err != nil {
		return err
	}
	if e.Into {
		return e.writeInto(path, plan, config)
	}
	if _, err := os.Lstat(path); err == nil {
		return errors.New("it exists, and nothing is overwritten (choose another folder, or remove it first)")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return err
	}
	temp, err := tempDir(parent, filepath.Base(path)+".tmp-")
	if err != nil {
		return err
	}
	err = e.fill(temp, plan, config)
	if err == nil {
		err = rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	return nil
}

// plan names the tensors in the dialect and deals them to files.
func (e Export) plan() ([]shard, error) {
	if e.Dialect != HuggingFace && e.Dialect != Starling && e.Dialect != Base {
		return nil, fmt.Errorf("dialect %q is not one of huggingface, starling and base", e.Dialect)
	}
	named := make([]Tensor, len(e.Tensors))
	hasHead := false
	for i, t := range e.Tensors {
		hasHead = hasHead || t.Name == headName
		var err error
		if named[i], err = e.rename(t); err != nil {
			return nil, err
		}
	}
	if e.Dialect != Base && !hasHead {
		return nil, fmt.Errorf("there is no %s to write", headName)
	}
	if err := e.checkFiles(); err != nil {
		return nil, err
	}
	return planShards("model", named, e.MaxShard)
}

// rename gives a tensor its name, and the value head its shape, in the dialect.
func (e Export) rename(t Tensor) (Tensor, error) {
	if e.Dialect == Base {
		return t, nil
	}
	if t.Name == headName {
		if len(t.Shape) == 1 {
			t.Shape = []int{1, t.Shape[0]}
		}
		if e.Dialect == Starling {
			t.Name = "v_head.weight"
		}
		return t, nil
	}
	bare, ok := strings.CutPrefix(t.Name, trunk)
	if !ok {
		return t, fmt.Errorf("tensor %s is neither of the trunk (model.*) nor the head (%s)", t.Name, headName)
	}
	if e.Dialect == Starling {
		t.Name = "transformer." + bare
	}
	return t, nil
}

// checkFiles keeps the small files inside of the folder and away from the model's.
func (e Export) checkFiles() error {
	seen := map[string]bool{}
	for _, f := range e.Files {
		if !plainName(f.Name) {
			return fmt.Errorf("%q is not the name of a file", f.Name)
		}
		if seen[f.Name] || isModelFile(f.Name) {
			return fmt.Errorf("file %s: the name is taken", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// fill writes all files of the model into an empty folder.
func (e Export) fill(dir string, plan []shard, config []byte) error {
	digests := map[string]string{}
	for k, v := range e.Meta.Digests {
		if !isModelFile(k) { // those of the folder that this model comes from
			digests[k] = v
		}
	}
	for _, s := range plan {
		sum := sha256.New()
		if err := s.write(filepath.Join(dir, s.name), map[string]string{"format": "pt"}, sum); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		digests[s.name] = hex.EncodeToString(sum.Sum(nil))
	}
	for _, f := range e.Files {
		if err := writeSynced(filepath.Join(dir, f.Name), f.Data); err != nil {
			return err
		}
	}
	if e.Dialect != Base {
		e.Meta.Digests = digests
		meta, err := json.MarshalIndent(e.Meta, "", "  ")
		if err != nil {
			return fmt.Errorf("%s: %w", metaName, err)
		}
		if err := writeSynced(filepath.Join(dir, metaName), append(meta, '\n')); err != nil {
			return err
		}
	}
	if len(plan) > 1 {
		if err := writeIndex(filepath.Join(dir, safeIndexName), plan); err != nil {
			return err
		}
	}
	if err := writeSynced(filepath.Join(dir, configName), config); err != nil {
		return err
	}
	return syncDir(dir)
}

// writeInto writes the model in a folder of its own inside of dir and moves its
// files when all are on disk. While they move, a mark says so and config.json,
// without which nothing loads the folder, is away.
func (e Export) writeInto(dir string, plan []shard, config []byte) error {
	if err := isFolder(dir); err != nil {
		return err
	}
	old, err := modelFiles(dir)
	if err != nil {
		return err
	}
	interrupted := exists(filepath.Join(dir, incompleteName))
	if len(old) > 0 && !e.Overwrite && !interrupted {
		return fmt.Errorf("a model is here already: %s (choose another folder, or move it away)", listNames(old))
	}
	if err := removeMatches(dir, tempModel+"*"); err != nil {
		return err
	}
	temp, err := tempDir(dir, tempModel)
	if err != nil {
		return err
	}
	err = e.fill(temp, plan, config)
	if err == nil {
		err = moveModel(temp, dir, old)
	}
	return errors.Join(err, os.RemoveAll(temp))
}

func moveModel(temp, dir string, old []string) error {
	mark := filepath.Join(dir, incompleteName)
	if !exists(mark) {
		if err := writeSynced(mark, nil); err != nil {
			return err
		}
	}
	if slices.Contains(old, configName) {
		if err := os.Remove(filepath.Join(dir, configName)); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	names, err := moveOrder(temp)
	if err != nil {
		return err
	}
	for _, name := range old {
		if slices.Contains(names, name) || name == configName {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := rename(filepath.Join(temp, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := os.Remove(mark); err != nil {
		return err
	}
	return syncDir(dir)
}

// moveOrder lists the files of a folder, those that make the others a model last.
func moveOrder(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	last := []string{safeIndexName, configName}
	slices.SortStableFunc(names, func(a, b string) int {
		return slices.Index(last, a) - slices.Index(last, b)
	})
	return names, nil
}

// modelFiles lists the files in dir that make up a model, without the mark of an
// interrupted export.
func modelFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if isModelFile(e.Name()) && e.Name() != incompleteName {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func isModelFile(name string) bool {
	shard, _ := filepath.Match(shardPattern, name) // the pattern is well-formed
	return shard || slices.Contains([]string{configName, metaName, safeName, safeIndexName, incompleteName}, name)
}

// removeMatches removes what an interrupted write left behind.
func removeMatches(dir, pattern string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); ok {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
