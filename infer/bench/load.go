package bench

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"rmtrain/data/rows"
)

// A Set is the items of one benchmark.
type Set struct {
	Bench    string
	Items    []*Item
	Files    []File
	Rows     int            // that were read
	LeftOut  map[string]int // rows that are no part of the benchmark, by why
	Bad      int            // rows that could not be used and were skipped
	FirstBad string         // the first of them and why
	Prompts  int            // before sampling
	Sampled  bool           // there were more prompts than the limit
}

// A File is what was read.
type File struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Load reads the files, or those of the folders, that paths name. ranked reads the rows
// of nectar and pairs.
func Load(ctx context.Context, name string, paths []string, s Settings, ranked Parser) (*Set, error) {
	b, ok := find(name)
	if !ok {
		return nil, Known(name, true)
	}
	if b.parse == nil {
		b.parse = rankedParser(name, ranked)
	}
	if len(paths) == 0 {
		return nil, NoData(name)
	}
	files, err := rows.Expand(paths, rows.All)
	if err != nil {
		return nil, err
	}
	if err := rows.Hash(ctx, files); err != nil {
		return nil, err
	}
	if err := twice(files); err != nil {
		return nil, fmt.Errorf("eval: %s: %w", name, err)
	}
	limit := b.limit
	if s.Limit > 0 {
		limit = s.Limit
	}
	set := &Set{Bench: name, LeftOut: map[string]int{}}
	l := &loader{set: set, bench: b, settings: s, sample: newSampler(s.Seed, limit)}
	for _, f := range files {
		if err := l.file(ctx, f); err != nil {
			return nil, err
		}
	}
	set.Items, set.Prompts = l.sample.items(), l.sample.seen()
	set.Sampled = len(l.sample.dropped) > 0
	if len(set.Items) == 0 {
		return nil, fmt.Errorf("eval: %s: no usable row among %d of %s%s", name, set.Rows, files[0].Path, set.why())
	}
	return set, nil
}

// twice names a file that is there again, since its rows would count twice.
func twice(files []rows.File) error {
	first := map[[32]byte]string{}
	for _, f := range files {
		if was, ok := first[f.SHA256]; ok && f.Bytes > 0 {
			return fmt.Errorf("%s has the same content as %s, and its rows would count twice (name one of them)", f.Path, was)
		}
		first[f.SHA256] = f.Path
	}
	return nil
}

// why says what became of rows that are not there.
func (s *Set) why() string {
	out := ""
	for reason, n := range s.LeftOut {
		out += fmt.Sprintf("; %d: %s", n, reason)
	}
	if s.Bad > 0 {
		out += fmt.Sprintf("; %d bad, the first: %s", s.Bad, s.FirstBad)
	}
	return out
}

// A loader reads the files of a set.
type loader struct {
	set      *Set
	bench    benchmark
	settings Settings
	sample   *sampler
}

func (l *loader) file(ctx context.Context, f rows.File) error {
	l.set.Files = append(l.set.Files, File{f.Path, f.Bytes, hex.EncodeToString(f.SHA256[:])})
	before := l.set.Rows
	err := rows.Read(ctx, f.Path, l.bench.columns, func(r rows.Row) error { return l.add(f.Path, r) })
	if err == nil && l.set.Rows == before {
		err = fmt.Errorf("eval: read %s: the file has no rows", f.Path)
	}
	return err
}

func (l *loader) add(path string, r rows.Row) error {
	l.set.Rows++
	it, err := l.item(path, r)
	var out leftOut
	switch {
	case errors.As(err, &out):
		l.set.LeftOut[string(out)]++
		return nil
	case err != nil && !l.settings.SkipBad:
		return fmt.Errorf("eval: read %s:%d: %w (mend the row, or leave such rows out with --on-bad-row skip)", path, r.Number, err)
	case err != nil:
		if l.set.Bad++; l.set.Bad == 1 {
			l.set.FirstBad = fmt.Sprintf("%s:%d: %v", path, r.Number, err)
		}
		return nil
	}
	l.sample.add(it)
	return nil
}

func (l *loader) item(path string, from rows.Row) (*Item, error) {
	if from.Err != nil {
		return nil, from.Err
	}
	r, err := parseRow(from.JSON)
	if err != nil {
		return nil, err
	}
	it, err := l.bench.parse(r, l.settings)
	if err != nil {
		return nil, err
	}
	it.ID = fmt.Sprintf("%s:%d", path, from.Number)
	if it.Prompt == "" { // a prompt by itself
		it.Prompt = it.ID
	}
	if l.bench.name == PriorSets && it.Subset == "" {
		if it.Subset = priorSet(path); it.Subset == "" {
			return nil, fmt.Errorf("neither subset nor the file's name says which of %q it is", priorSets)
		}
	}
	return it, nil
}

// rankedParser makes rows of nectar and pairs with a parser that is not this package's.
func rankedParser(name string, ranked Parser) func(row, Settings) (*Item, error) {
	return func(r row, _ Settings) (*Item, error) {
		if ranked == nil {
			return nil, fmt.Errorf("no parser of ranked rows for %s", name)
		}
		it, err := ranked(r.json())
		if err != nil && r["answers"] == nil && r["chosen"] == nil && r["texts"] == nil { // a file of another kind
			return nil, fmt.Errorf("%w (the row has %s)", err, r.columns())
		}
		if err != nil {
			return nil, err
		}
		it.Source = r.label("source", "subset", "dataset", "category")
		if it.Pairs = rankPairs(it.Completions); len(it.Pairs) == 0 {
			return nil, leftOut("all answers have the same rank")
		}
		it.Ranked = true
		return it, nil
	}
}

// Join adds the items of another set, as RewardBench has those of its prior sets.
func (s *Set) Join(other *Set) {
	for _, it := range other.Items {
		it.ID = other.Bench + "/" + it.ID
	}
	s.Items = append(s.Items, other.Items...)
	s.Files = append(s.Files, other.Files...)
	s.Rows += other.Rows
	s.Prompts += other.Prompts
	s.Sampled = s.Sampled || other.Sampled
	s.Bad += other.Bad
	if s.FirstBad == "" {
		s.FirstBad = other.FirstBad
	}
	for reason, n := range other.LeftOut {
		s.LeftOut[reason] += n
	}
}
