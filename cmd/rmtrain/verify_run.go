package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rmtrain/data/tokenizer"
	"rmtrain/infer"
	"rmtrain/kernels"
)

// A verification takes every path to a score and compares.
type verification struct {
	o     verifyOptions
	key   string // for --against
	b     kernels.Backend
	dt    kernels.DType
	table io.Writer

	scorer    *infer.Scorer // open until the paths that need it are taken
	format    tokenizer.Format
	layers    int
	cases     []verifyCase
	names     []string  // of every conversation
	ids       [][]int32 // of every conversation
	reference []float64 // its score
	scale     float64   // the largest score in size
	report    verifyReport
}

// A found score is that of one conversation on some path.
type found struct {
	at    int // number of the conversation
	score float64
}

// begin encodes the cases and scores them with one call, which is the reference.
func (v *verification) begin(ctx context.Context, given []verifyCase) (err error) {
	loaded := exitWhenStopped(ctx)
	v.scorer, err = v.open(ctx, v.o.checkpoint, v.o.batchTokens)
	loaded()
	if err != nil {
		return err
	}
	v.format, v.layers = v.scorer.Encoder.Format(), v.scorer.Config.Layers
	limits := verifyLimits{tok: v.scorer.Encoder.Tokenizer(), vocab: min(v.scorer.Config.Vocab, v.scorer.Encoder.Tokenizer().VocabSize()), maxLength: v.format.MaxLength}
	err = v.encode(append(builtInCases(limits), given...))
	if err == nil {
		v.describe(limits, len(given))
		v.reference, err = v.scoreCases(ctx, v.scorer, v.cases)
	}
	if err != nil {
		return errors.Join(err, v.closeScorer())
	}
	for i, x := range v.reference {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return errors.Join(fmt.Errorf("verify: the score of %s is %v (look at the model's weights, or verify in float32)", v.names[i], x), v.closeScorer())
		}
		v.scale = max(v.scale, math.Abs(x))
	}
	v.report.Scale = v.scale
	return nil
}

func (v *verification) closeScorer() error {
	if v.scorer == nil {
		return nil
	}
	s := v.scorer
	v.scorer = nil
	return s.Close()
}

// encode keeps the cases that the model has a form for. The user's own must be among
// them.
func (v *verification) encode(cases []verifyCase) error {
	for _, c := range cases {
		var err error
		c.encoded, err = v.scorer.Encode(c.request)
		if err != nil && !c.given {
			c.request = withSystem(c.request) // without which some templates refuse everything
			if c.encoded, err = v.scorer.Encode(c.request); err != nil {
				v.report.LeftOut = append(v.report.LeftOut, leftOut{c.name, err.Error()})
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("verify: %s: %w", c.name, err)
		}
		c.first = len(v.ids)
		for i, e := range c.encoded {
			name := c.name
			if len(c.encoded) > 1 {
				name = fmt.Sprintf("%s, answer %d", c.name, i+1)
			}
			v.names, v.ids = append(v.names, name), append(v.ids, e.IDs)
		}
		v.cases = append(v.cases, c)
	}
	return nil
}

// scoreCases scores with one call and returns the scores in the order of conversations.
func (v *verification) scoreCases(ctx context.Context, s *infer.Scorer, cases []verifyCase) ([]float64, error) {
	groups := make([][]tokenizer.Encoded, len(cases))
	for i, c := range cases {
		groups[i] = c.encoded
	}
	scores, err := s.Score(ctx, groups)
	return slices.Concat(scores...), err
}

// A path is a way to scores, and how far they may be from the reference.
type path struct {
	name      string
	tolerance float64
	take      func(context.Context) ([]found, error)
}

// takePaths takes one after the other, so that one model is in memory at a time. Only
// the end of ctx is an error; that of a path is in the report.
func (v *verification) takePaths(ctx context.Context) error {
	exact := v.exactTolerance()
	remote := v.remoteTolerance()
	open := []path{
		{"one by one", exact, v.oneByOne},
		{fmt.Sprintf("random batches of %d tokens", v.o.batchTokens), exact, v.random},
		{"served: /infer", exact, v.servedInfer},
		{"served: /classify", exact, v.servedClassify},
	}
	if v.o.against != "" {
		open = append(open, path{"against: token ids", remote, v.againstIDs}, path{"against: texts, messages", remote, v.againstTexts})
	}
	closed := []path{
		{fmt.Sprintf("random batches of %d tokens", smallBatch), exact, v.randomSmall},
		{"trainer: shared prompts", exact, func(ctx context.Context) ([]found, error) { return v.trainer(ctx, true) }},
		{"trainer: nothing shared", exact, func(ctx context.Context) ([]found, error) { return v.trainer(ctx, false) }},
	}
	for _, p := range open {
		if err := v.take(ctx, p); err != nil {
			return errors.Join(err, v.closeScorer())
		}
	}
	if err := v.closeScorer(); err != nil {
		return err
	}
	for _, p := range closed {
		if err := v.take(ctx, p); err != nil {
			return err
		}
	}
	return v.takeExports(ctx, exact)
}

// take takes one path and reports it.
func (v *verification) take(ctx context.Context, p path) error {
	scores, err := p.take(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	v.record(p.name, p.tolerance, scores, err)
	return nil
}

// takeExports writes the model in both dialects, one at a time, and scores with each;
// transformers reads one of them.
func (v *verification) takeExports(ctx context.Context, tolerance float64) error {
	for _, dialect := range dialects {
		dir, err := temporaryFolder()
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		err = v.takeExport(ctx, dialect, filepath.Join(dir, dialect), tolerance)
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) takeExport(ctx context.Context, dialect, to string, tolerance float64) error {
	written := false
	err := v.take(ctx, path{"export: " + dialect, tolerance, func(ctx context.Context) ([]found, error) {
		if err := (exportOptions{model: v.o.checkpoint, to: dialect, output: to}).run(ctx, io.Discard); err != nil {
			return nil, err
		}
		written = true
		return v.export(ctx, to)
	}})
	if err != nil || dialect != "huggingface" || v.o.python == "" {
		return err
	}
	if !written {
		v.record("transformers", 0, nil, errors.New("there is no export to read"))
		return nil
	}
	return v.transformers(ctx, to)
}

// exactTolerance is 0 where the backend computes a conversation with the same
// operations in any company. Elsewhere libraries choose their sums by the batch's size.
func (v *verification) exactTolerance() float64 {
	if strings.HasPrefix(v.b.Name(), "cpu") {
		return 0
	}
	return v.scale * relativeTolerance(v.dt, v.layers)
}

// remoteTolerance is that of other programs.
func (v *verification) remoteTolerance() float64 {
	if v.o.tolerance > 0 {
		return v.scale * v.o.tolerance
	}
	return v.scale * relativeTolerance(v.dt, v.layers)
}

// relativeTolerance is how far two right computations may be apart, relative to the
// largest score. In float32 it is 1e-5, some hundred roundings. In bfloat16 a rounding
// is up to 2^-9 of a number; ten of them in a layer, on each side, add up like a random
// walk.
func relativeTolerance(dt kernels.DType, layers int) float64 {
	if dt == kernels.BF16 {
		return math.Ldexp(math.Sqrt(20*float64(layers)), -9)
	}
	return 1e-5
}
