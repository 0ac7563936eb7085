package checkpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Kinds of folders that Inspect tells apart.
const (
	KindBase   = "base model"
	KindReward = "reward model"
	KindState  = "training state"
	KindRun    = "run without a final model"
)

// What Inspect found out about the integrity of the weights.
const (
	Verified   = "verified" // every weight file has the digest that was recorded
	Damaged    = "damaged"  // some have not; Notes name them
	Unrecorded = "no digests recorded"
)

// A Summary says what a model folder, a training state or a run's folder holds.
type Summary struct {
	Path         string           `json:"path"`
	Kind         string           `json:"kind"`
	Dialect      string           `json:"dialect,omitempty"`
	Architecture string           `json:"architecture,omitempty"`
	ModelType    string           `json:"model_type,omitempty"`
	Parameters   int64            `json:"parameters"` // of the tensors that count, see Notes for the rest
	Bytes        int64            `json:"bytes"`
	DTypes       map[string]int64 `json:"dtypes"` // elements by type
	Tensors      int              `json:"tensors"`
	FileFormat   string           `json:"file_format,omitempty"` // safetensors or pytorch
	Files        []string         `json:"files,omitempty"`       // of weights
	Head         bool             `json:"value_head"`
	Step         int              `json:"step,omitempty"`
	States       []int            `json:"states,omitempty"` // steps of the training states beside the model
	Version      string           `json:"rmtrain_version,omitempty"`
	BaseModel    string           `json:"base_model,omitempty"`
	Format       json.RawMessage  `json:"format,omitempty"`  // how texts are rendered and scored
	Metrics      json.RawMessage  `json:"metrics,omitempty"` // last and best evaluation
	Integrity    string           `json:"integrity"`
	Notes        []string         `json:"notes,omitempty"`
}

// Inspect describes what path holds: a model folder, a hub id or hub cache folder, a
// run's output_dir or a training state. It reads all weights whose digests were
// recorded, to verify them.
func Inspect(path string) (*Summary, error) {
	if exists(filepath.Join(path, completeName)) {
		return inspectState(path)
	}
	d, err := Open(path)
	if err != nil {
		return inspectRun(path, err)
	}
	defer d.Close()
	s := &Summary{Path: d.Path, Kind: KindBase, Dialect: d.Dialect, FileFormat: d.format, Files: d.shards}
	if d.Has(headName) {
		s.Kind, s.Head = KindReward, true
	}
	s.count(d.tensors)
	s.readConfig(d.Config)
	digests := map[string]string{}
	if d.Meta != nil {
		s.Step, s.Version, s.BaseModel = d.Meta.Step, d.Meta.Version, d.Meta.Base
		s.Format, s.Metrics = d.Meta.Format, d.Meta.Metrics
		digests = d.Meta.Digests
	}
	if s.States, err = stepsIn(d.Path); err != nil {
		return nil, err
	}
	s.Notes = d.Notes
	if err := s.verify(d, digests); err != nil {
		return nil, fmt.Errorf("checkpoints: inspect %s: %w", path, err)
	}
	return s, nil
}

// inspectRun describes a folder with training states but no model, for which Open
// failed with err.
func inspectRun(path string, err error) (*Summary, error) {
	if exists(filepath.Join(path, configName)) {
		return nil, err
	}
	steps, listErr := stepsIn(path)
	if listErr != nil || len(steps) == 0 {
		return nil, err
	}
	return &Summary{Path: path, Kind: KindRun, States: steps, Step: steps[len(steps)-1],
		DTypes: map[string]int64{}, Integrity: Unrecorded,
		Notes: []string{"training has not ended here: resume it to get the model, or inspect a checkpoint-N folder"}}, nil
}

func inspectState(path string) (*Summary, error) {
	state, err := OpenState(path)
	if err != nil {
		return nil, err
	}
	defer state.Close()
	s := &Summary{Path: state.Path, Kind: KindState, Step: state.Step, FileFormat: formatSafe,
		Files: state.weights.shards, Integrity: Verified}
	s.count(state.weights.tensors)
	s.Notes = append(s.Notes, "parameters counts all tensors of the state, optimizer moments among them")
	return s, nil
}

func stepsIn(dir string) ([]int, error) {
	states, err := States(dir)
	if err != nil {
		return nil, err
	}
	var steps []int
	for _, s := range states {
		steps = append(steps, s.Step)
	}
	return steps, nil
}

func (s *Summary) count(tensors map[string]tensor) {
	s.DTypes = map[string]int64{}
	for _, t := range tensors {
		n := int64(1)
		for _, d := range t.shape {
			n *= int64(d)
		}
		s.Tensors++
		s.Parameters += n
		s.DTypes[t.dtype] += n
		s.Bytes += t.bytes.Size()
	}
}

func (s *Summary) readConfig(config []byte) {
	var c struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		s.Notes = append(s.Notes, "config.json: "+err.Error())
		return
	}
	s.ModelType, s.Architecture = c.ModelType, strings.Join(c.Architectures, ", ")
}

// verify compares the digests of weight files with those in rmtrain.json.
func (s *Summary) verify(d *Dir, digests map[string]string) error {
	s.Integrity = Unrecorded
	var mu sync.Mutex
	var wrong []string
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range d.shards {
		want, ok := digests[name]
		if !ok {
			continue
		}
		s.Integrity = Verified
		g.Go(func() error {
			got, err := fileDigest(filepath.Join(d.Path, name))
			if err == nil && got != want {
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, name)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		s.Integrity = Damaged
		s.Notes = append(s.Notes, "the digest in rmtrain.json is not that of "+listNames(wrong)+": changed since it was written")
	}
	return nil
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// WriteTable writes the summary for people: a line for each fact that is known.
func (s *Summary) WriteTable(w io.Writer) error {
	var b strings.Builder
	row := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-14s %s\n", key, value)
		}
	}
	row("path", s.Path)
	row("kind", s.Kind)
	row("dialect", s.Dialect)
	row("architecture", s.Architecture)
	if s.Tensors > 0 {
		row("parameters", fmt.Sprintf("%d in %d tensors, %s", s.Parameters, s.Tensors, readableBytes(s.Bytes)))
	}
	row("dtype", s.dtypes())
	row("weights", s.files())
	if s.Kind == KindBase || s.Kind == KindReward {
		row("value head", map[bool]string{true: "yes", false: "no"}[s.Head])
	}
	if s.Step > 0 {
		row("step", fmt.Sprint(s.Step))
	}
	if len(s.States) > 0 {
		row("states", strings.Trim(fmt.Sprint(s.States), "[]"))
	}
	row("base model", s.BaseModel)
	row("rmtrain", s.Version)
	row("scored as", compact(s.Format))
	row("metrics", compact(s.Metrics))
	row("integrity", s.Integrity)
	for _, n := range s.Notes {
		row("note", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Summary) dtypes() string {
	var parts []string
	for _, t := range slices.Sorted(maps.Keys(s.DTypes)) {
		parts = append(parts, fmt.Sprintf("%s (%d)", t, s.DTypes[t]))
	}
	return strings.Join(parts, ", ")
}

func (s *Summary) files() string {
	switch len(s.Files) {
	case 0:
		return ""
	case 1:
		return s.Files[0]
	}
	return fmt.Sprintf("%d files, %s to %s", len(s.Files), s.Files[0], s.Files[len(s.Files)-1])
}

// compact shortens JSON to what fits a line of a table.
func compact(raw json.RawMessage) string {
	const limit = 200
	text := strings.Join(strings.Fields(string(raw)), " ")
	if text == "null" {
		return ""
	}
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit]) + "..."
	}
	return text
}

func readableBytes(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}
