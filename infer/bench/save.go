package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The files of a result.
const (
	ResultFile   = "result.json"
	LinesFile    = "scores.jsonl"
	ParquetFile  = "scores.parquet"
	PageFile     = "report.html"
	MarkdownFile = "card.md"
)

// Files lists the files of a result.
func Files() []string {
	return []string{LinesFile, ParquetFile, PageFile, MarkdownFile, ResultFile}
}

// Save writes the report into a folder: result.json last, so that a folder that has it
// has everything.
func (r *Report) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("eval: save: %w", err)
	}
	result, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("eval: save %s: %w", ResultFile, err)
	}
	page, err := r.Page()
	if err != nil {
		return fmt.Errorf("eval: save %s: %w", PageFile, err)
	}
	for _, f := range []struct {
		name  string
		write func(w io.Writer) error
	}{
		{LinesFile, r.writeLines},
		{ParquetFile, r.writeParquet},
		{PageFile, whole(page)},
		{MarkdownFile, whole(r.Markdown())},
		{ResultFile, whole(append(result, '\n'))},
	} {
		if err := writeFile(filepath.Join(dir, f.name), f.write); err != nil {
			return fmt.Errorf("eval: save: %w", err)
		}
	}
	return nil
}

func whole(content []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(content))
		return err
	}
}

// writeFile writes a file that appears whole or not at all.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	w := bufio.NewWriter(f)
	if err := write(w); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), f.Chmod(0o644), f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return f.Close()
}

// A line is one row of a benchmark with its scores.
type line struct {
	Bench       string    `json:"bench"`
	ID          string    `json:"id"`
	Source      string    `json:"source,omitempty"`
	Subset      string    `json:"subset,omitempty"`
	Labels      []string  `json:"labels"` // of the completions
	Ranks       []float64 `json:"ranks"`  // the smallest is best
	Characters  []int64   `json:"characters"`
	Scores      []float64 `json:"scores,omitempty"`
	Tokens      []int64   `json:"tokens,omitempty"`
	Truncated   []bool    `json:"truncated,omitempty"`
	Correct     *float64  `json:"correct,omitempty"` // mean over its pairs
	Error       string    `json:"error,omitempty"`
	OtherScores []float64 `json:"other_scores,omitempty"`
	OtherError  string    `json:"other_error,omitempty"`
}

// lines calls f for every row of every benchmark.
func (r *Report) lines(f func(l line) error) error {
	for _, x := range r.Results {
		tie := r.Settings.tie()
		if x.Bench == RewardBench || x.Bench == RewardBench2 {
			tie = 0
		}
		for i, it := range x.set.Items {
			if err := f(x.line(i, it, tie)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Result) line(i int, it *Item, tie float64) line {
	row := r.rows[0][i]
	l := line{Bench: r.Bench, ID: it.ID, Source: it.Source, Subset: it.Subset, Scores: row.Scores, Truncated: row.Truncated, Error: row.Error}
	for _, c := range it.Completions {
		l.Labels, l.Ranks, l.Characters = append(l.Labels, c.Label), append(l.Ranks, c.Rank), append(l.Characters, int64(c.Characters))
	}
	for _, n := range row.Tokens {
		l.Tokens = append(l.Tokens, int64(n))
	}
	if row.Error == "" {
		sum := 0.0
		cs := compare(it, row, 0, tie)
		for _, c := range cs {
			sum += c.correct
		}
		sum /= float64(len(cs))
		l.Correct = &sum
	}
	if r.rows[1] != nil {
		l.OtherScores, l.OtherError = r.rows[1][i].Scores, r.rows[1][i].Error
	}
	return l
}

func (r *Report) writeLines(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return r.lines(func(l line) error { return e.Encode(l) })
}
