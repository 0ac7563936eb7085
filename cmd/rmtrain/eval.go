package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rmtrain/infer/bench"
)

type evalOptions struct {
	checkpoint, compare, output, dtype, device string
	benches, data                              []string
	template, onBadRow                         string
	maxLength, batchTokens                     int
	overwrite                                  bool
	settings                                   bench.Settings
}

func evalCommand() *cobra.Command {
	o := evalOptions{settings: bench.Defaults()}
	c := &cobra.Command{
		Use:   "eval --checkpoint DIR --data BENCH=PATH",
		Short: "Measure a reward model on benchmarks of preferences",
		Long: `Measure a reward model on benchmarks, each with 95% intervals:

  human, truth, safety   the three of Starling-RM's model card, and their average
  rewardbench            RewardBench, with its prior sets as --data rewardbench-prior=PATH
  rewardbench2           RewardBench 2
  nectar, pairs          your own files of ranked answers, or of chosen and rejected ones

Files are local; a benchmark without its file says where to get it. Without --output only
the table is printed. With it the folder gets result.json, the scores of every row
(scores.jsonl, scores.parquet), report.html and card.md, and a run that was stopped goes
on when the same command is given again.`,
		Example: `  rmtrain eval --checkpoint out --data truth=TruthfulQA.csv
  rmtrain eval --checkpoint out --data rewardbench=filtered.parquet --output report
  rmtrain eval --checkpoint out --compare base --data pairs=held-out.jsonl`,
		Args: only("checkpoint"),
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("limit") && o.settings.Limit == 0 {
				return errors.New("eval: --limit 0 measures nothing (give the most prompts of each benchmark, or leave it out for the defaults)")
			}
			return o.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.checkpoint, "checkpoint", "", "reward model: a `folder` in either dialect, a run's output_dir, or an id on the hub")
	f.StringSliceVar(&o.benches, "bench", nil, "`names` of benchmarks, with commas between them (default: those of --data)")
	f.StringArrayVar(&o.data, "data", nil, "`bench=PATH`: a file of a benchmark or a folder of them (repeatable)")
	f.StringVar(&o.output, "output", "", "`folder` for the result")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace a result in --output")
	f.StringVar(&o.compare, "compare", "", "another reward model's `folder` or id, to measure the difference on the same rows")
	f.IntVar(&o.settings.Limit, "limit", 0, "most prompts of each benchmark (default: 1000 of human, truth and safety, all of the others)")
	f.Uint64Var(&o.settings.Seed, "seed", o.settings.Seed, "chooses the prompts where there are more, and the intervals' resamples")
	f.StringVar(&o.settings.ScoreTies, "score-ties", o.settings.ScoreTies, "what a pair of equal scores counts: half, wrong or right (RewardBench: always wrong)")
	f.StringVar(&o.settings.Average, "average", o.settings.Average, "accuracy is the mean over prompts or over pairs")
	f.BoolVar(&o.settings.SingleTurn, "single-turn", false, "leave conversations of several turns out of human")
	f.IntVar(&o.settings.Resamples, "resamples", o.settings.Resamples, "bootstrap samples that an interval is made of")
	f.StringVar(&o.template, "template", templateStored, "chat template: stored, transcript (Nectar's plain text), or a Jinja `file`")
	f.StringVar(&o.onBadRow, "on-bad-row", "error", "error or skip")
	f.StringVar(&o.dtype, "dtype", "", "float32 or bfloat16 (default: as trained)")
	f.StringVar(&o.device, "device", "auto", "auto, cpu, cuda or cuda:N")
	f.IntVar(&o.maxLength, "max-length", 0, "tokens that a conversation keeps (default: as trained)")
	f.IntVar(&o.batchTokens, "batch-tokens", 8192, "most tokens of a forward pass; bounds memory, never changes a score")
	_ = c.MarkFlagRequired("checkpoint") // it fails for unknown flags only
	complete(c, "bench", cobra.ShellCompDirectiveNoFileComp, bench.Names()...)
	return c
}

// check refuses mistakes before anything is read.
func (o *evalOptions) check() error {
	o.settings.SkipBad = o.onBadRow == "skip"
	switch {
	case o.onBadRow != "error" && o.onBadRow != "skip":
		return fmt.Errorf("eval: --on-bad-row %q is unknown (choose error or skip)", o.onBadRow)
	case o.batchTokens < 1 || o.batchTokens > maxBatchTokens:
		return fmt.Errorf("eval: --batch-tokens %d must be from 1 to %d", o.batchTokens, maxBatchTokens)
	case o.maxLength < 0:
		return fmt.Errorf("eval: --max-length %d must not be negative", o.maxLength)
	case o.output == "" && o.overwrite:
		return errors.New("eval: --overwrite needs --output DIR")
	case !knownDevice(o.device):
		return fmt.Errorf("eval: --device %q is unknown (choose one of %q)", o.device, devices)
	case o.dtype != "" && !slices.Contains(dtypeNames, o.dtype):
		return fmt.Errorf("eval: --dtype %q is unknown (choose one of %q)", o.dtype, dtypeNames)
	}
	if err := o.settings.Check(); err != nil {
		return err
	}
	return o.checkOutput()
}

// checkOutput refuses a folder whose files the result would replace. An evaluation that
// was stopped while it wrote its result has its journal still, and may write it again.
func (o *evalOptions) checkOutput() error {
	if o.output == "" {
		return nil
	}
	if st, err := os.Stat(o.output); err == nil && !st.IsDir() {
		return fmt.Errorf("eval: --output %s is a file (name a folder)", o.output)
	}
	if o.overwrite || exists(filepath.Join(o.output, journalFile)) {
		return nil
	}
	if exists(filepath.Join(o.output, bench.ResultFile)) {
		return fmt.Errorf("eval: --output %s holds a result (--overwrite replaces it)", o.output)
	}
	for _, name := range bench.Files() {
		if exists(filepath.Join(o.output, name)) {
			return fmt.Errorf("eval: --output %s has a %s that is no evaluation's (name another folder; --overwrite would replace it)", o.output, name)
		}
	}
	return nil
}

// files returns the paths of every benchmark that was asked for, and checks that the
// two flags agree.
func (o *evalOptions) files() (map[string][]string, error) {
	paths := map[string][]string{}
	var named []string
	for _, d := range o.data {
		name, path, ok := strings.Cut(d, "=")
		if !ok || path == "" {
			return nil, fmt.Errorf("eval: --data %s is not bench=PATH", d)
		}
		if err := bench.Known(name, true); err != nil {
			return nil, err
		}
		paths[name] = append(paths[name], path)
		if name != bench.PriorSets {
			named = append(named, name)
		}
	}
	if o.benches == nil {
		o.benches = named
	}
	if len(o.benches) == 0 && paths[bench.PriorSets] != nil {
		return nil, fmt.Errorf("eval: --data %s=... is a part of %s, which has no file (give --data %[2]s=PATH, too)", bench.PriorSets, bench.RewardBench)
	}
	if len(o.benches) == 0 {
		return nil, fmt.Errorf("eval: nothing to measure (--data BENCH=PATH, of %s)", strings.Join(bench.Names(), ", "))
	}
	for _, name := range o.benches {
		if err := bench.Known(name, false); err != nil {
			return nil, err
		}
		if paths[name] == nil {
			return nil, bench.NoData(name)
		}
	}
	for name := range paths {
		needs := name
		if name == bench.PriorSets {
			needs = bench.RewardBench
		}
		if !slices.Contains(o.benches, needs) {
			return nil, fmt.Errorf("eval: there is --data for %s, but %s is not measured (name it in --bench)", name, needs)
		}
	}
	return paths, nil
}

// load reads the benchmarks, in the order of a report.
func (o *evalOptions) load(ctx context.Context, paths map[string][]string) ([]*bench.Set, error) {
	var sets []*bench.Set
	for _, name := range bench.Names() {
		if !slices.Contains(o.benches, name) {
			continue
		}
		set, err := bench.Load(ctx, name, paths[name], o.settings, rankedItem)
		if err != nil {
			return nil, err
		}
		if prior := paths[bench.PriorSets]; name == bench.RewardBench && prior != nil {
			more, err := bench.Load(ctx, bench.PriorSets, prior, o.settings, nil)
			if err != nil {
				return nil, err
			}
			set.Join(more)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

func (o *evalOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	paths, err := o.files()
	if err != nil {
		return err
	}
	template, err := readTemplate(o.template)
	if err != nil {
		return err
	}
	sets, err := o.load(ctx, paths)
	if err != nil {
		return interrupted(ctx, err)
	}
	e := &evaluation{evalOptions: o, sets: sets, chat: template, stderr: stderr}
	if err := e.check(ctx); err != nil {
		return err
	}
	report := &bench.Report{Version: version, Checkpoint: o.checkpoint, Compared: o.compare, Settings: o.settings}
	mine, err := e.score(ctx, o.checkpoint, journalFile)
	if err != nil {
		return err
	}
	report.Model = mine.about
	other := &scored{rows: make([][]bench.Row, len(sets))}
	if o.compare != "" {
		if other, err = e.score(ctx, o.compare, "compare.partial.jsonl"); err != nil {
			return err
		}
		report.Other = &other.about
	}
	for i, set := range sets {
		result, err := bench.Measure(set, mine.rows[i], other.rows[i], o.settings)
		if err != nil {
			return err
		}
		report.Results = append(report.Results, result)
	}
	report.Average()
	if err := e.save(report); err != nil {
		return err
	}
	return report.WriteTable(stdout)
}

// journalFile holds the rows of the model until the result is written.
const journalFile = "scores.partial.jsonl"

// save writes the result, after which the journals are not needed.
func (e *evaluation) save(r *bench.Report) error {
	if e.output == "" {
		return nil
	}
	if err := r.Save(e.output); err != nil {
		return err
	}
	for _, j := range e.journals {
		if err := j.Remove(); err != nil {
			return err
		}
	}
	fmt.Fprintf(e.stderr, "the report is %s\n", filepath.Join(e.output, bench.PageFile))
	return nil
}
