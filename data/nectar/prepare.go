// Package nectar makes groups of ranked answers from the rows of package rows.
//
// Rows are read one after another, parsed and tokenized by all cores, and written
// in their order to a cache file, so that memory does not grow with the data.
package nectar

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"rmtrain/data"
	"rmtrain/data/rows"
	"rmtrain/data/tokenizer"
)

// Options say what to read and how.
type Options struct {
	Paths      []string // files or folders: .parquet, .jsonl, .json, .jsonl.gz
	MaxAnswers int      // keep this many of a group, best and worst included; 0 keeps all
	SkipBad    bool     // report bad rows and go on; otherwise the first is an error
	Encoder    *tokenizer.Encoder
	CacheDir   string                      // where prepared data lies; "" keeps none
	Progress   func(done, total int64)     // bytes of input; may be nil
	Exclude    func(promptKey string) bool // leave out rows of these prompts; may be nil
}

// Prepare reads, checks and tokenizes the rows, or finds that done in the cache.
// The Report is of all rows; those that Exclude leaves out are only counted.
func Prepare(ctx context.Context, o Options) (*data.Dataset, *Report, error) {
	if o.Encoder == nil {
		return nil, nil, errors.New("nectar: prepare data: no tokenizer")
	}
	if o.MaxAnswers == 1 || o.MaxAnswers < 0 {
		return nil, nil, fmt.Errorf("nectar: prepare data: max_answers is %d (it must be 0, for all, or at least 2)", o.MaxAnswers)
	}
	inputs, err := rows.Expand(o.Paths, rows.Typed)
	if err != nil {
		return nil, nil, err
	}
	if err := rows.Hash(ctx, inputs); err != nil {
		return nil, nil, err
	}
	ds, report, err := cached(ctx, o, inputs)
	if err != nil {
		return nil, nil, err
	}
	if o.Exclude == nil {
		return ds, report, nil
	}
	kept, excluded := data.Divide(ds, func(k data.PromptKey) bool { return o.Exclude(k.String()) })
	report.Excluded = excluded.Len()
	excluded.Close()
	ds.Close()
	if kept.Len() == 0 {
		kept.Close()
		return nil, nil, fmt.Errorf("nectar: prepare %s: every prompt is also in the evaluation data", inputs[0].Path)
	}
	return kept, report, nil
}

// cached returns what the cache has, or makes it.
func cached(ctx context.Context, o Options, inputs []rows.File) (*data.Dataset, *Report, error) {
	dir := o.CacheDir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "rmtrain-data-"); err != nil {
			return nil, nil, fmt.Errorf("nectar: prepare data: %w", err)
		}
		defer os.RemoveAll(dir) // the mapping outlives its name
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("nectar: create the cache: %w", err)
	}
	key, err := cacheKey(o, inputs)
	if err != nil {
		return nil, nil, err
	}
	groups, report := filepath.Join(dir, key+".groups"), filepath.Join(dir, key+".json")
	if ds, r, err := load(groups, report); err == nil {
		return ds, r, nil // otherwise absent, or damaged: make it again
	}
	r, err := build(ctx, o, inputs, groups)
	if err != nil {
		return nil, nil, err
	}
	if err := r.Save(report); err != nil {
		return nil, nil, err
	}
	ds, err := data.OpenDataset(groups)
	return ds, r, err
}

// cacheVersion changes whenever the same input would give other groups or another report.
const cacheVersion = 1

// cacheKey identifies everything that decides what is in the cache.
func cacheKey(o Options, inputs []rows.File) (string, error) {
	type file struct{ Path, Digest string }
	key := struct {
		Version    int
		Tokenizer  string
		Format     tokenizer.Format
		MaxAnswers int
		SkipBad    bool
		Files      []file
	}{cacheVersion, o.Encoder.Tokenizer().Digest(), o.Encoder.Format(), o.MaxAnswers, o.SkipBad, nil}
	for _, in := range inputs {
		key.Files = append(key.Files, file{in.Path, hex.EncodeToString(in.SHA256[:])})
	}
	text, err := json.Marshal(key)
	if err != nil {
		return "", fmt.Errorf("nectar: prepare data: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12]), nil
}

func load(groups, report string) (*data.Dataset, *Report, error) {
	text, err := os.ReadFile(report)
	if err != nil {
		return nil, nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, nil, err
	}
	ds, err := data.OpenDataset(groups)
	if err != nil {
		return nil, nil, err
	}
	if ds.Len() != r.Groups {
		ds.Close()
		return nil, nil, errors.New("the report is of other data")
	}
	return ds, r, nil
}

// build reads and tokenizes the inputs into the cache file at path.
func build(ctx context.Context, o Options, inputs []rows.File, path string) (*Report, error) {
	w, err := data.Create(path, o.Encoder.Tokenizer().VocabSize())
	if err != nil {
		return nil, err
	}
	defer w.Close()
	r, err := scan(ctx, o, inputs, maxFindings, w.Add)
	if err != nil {
		return nil, err
	}
	return r, w.Commit()
}

// A Split is training data and, if there is any, evaluation data; no prompt is in both.
type Split struct {
	Train, Eval             *data.Dataset // Eval may be nil
	TrainReport, EvalReport *Report
}

// Close closes both Datasets.
func (s *Split) Close() error {
	err := s.Train.Close()
	if s.Eval != nil {
		err = errors.Join(err, s.Eval.Close())
	}
	return err
}

// PrepareSplit prepares the data of o for training. Evaluation data is that of the
// eval files, and rows of their prompts are left out of training; without eval
// files it is evalPrompts prompts of o, chosen by seed, with all of their rows.
func PrepareSplit(ctx context.Context, o Options, eval []string, evalPrompts int, seed uint64) (*Split, error) {
	s := &Split{}
	var err error
	if len(eval) > 0 {
		evalOptions := o
		evalOptions.Paths, evalOptions.Exclude = eval, nil
		if s.Eval, s.EvalReport, err = Prepare(ctx, evalOptions); err != nil {
			return nil, err
		}
		held := make(map[string]bool)
		for k := range s.Eval.Prompts() {
			held[k.String()] = true
		}
		o.Exclude = func(key string) bool { return held[key] }
		if s.Train, s.TrainReport, err = Prepare(ctx, o); err != nil {
			s.Eval.Close()
			return nil, err
		}
		return s, nil
	}
	all, report, err := Prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	s.Train, s.TrainReport = all, report
	if evalPrompts == 0 {
		return s, nil
	}
	defer all.Close()
	if s.Train, s.Eval, err = data.HoldOut(all, evalPrompts, seed); err != nil {
		return nil, err
	}
	s.TrainReport.HeldOut = s.Eval.Len()
	return s, nil
}

// Lint reads and checks the rows of files and folders without keeping them. With an
// encoder it also counts tokens. Bad rows are findings; an error is a file that
// cannot be read, or that nothing usable was found.
func Lint(ctx context.Context, paths []string, encoder *tokenizer.Encoder) (*Report, error) {
	inputs, err := rows.Expand(paths, rows.Typed)
	if err != nil {
		return nil, err
	}
	return scan(ctx, Options{Encoder: encoder, SkipBad: true}, inputs, math.MaxInt, nil)
}
