package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"rmtrain/checkpoints"
	"rmtrain/data"
	"rmtrain/data/tokenizer"
	"rmtrain/infer"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

const (
	verifySeed   = 20231127
	smallBatch   = 97 // tokens of a forward pass; it is no multiple of anything
	mostTogether = 9  // conversations of a random group
)

// oneByOne scores every conversation in a call of its own.
func (v *verification) oneByOne(ctx context.Context) ([]found, error) {
	var out []found
	for i, ids := range v.ids {
		scores, err := v.scorer.Score(ctx, [][]tokenizer.Encoded{{{IDs: ids}}})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.names[i], err)
		}
		out = append(out, found{i, scores[0][0]})
	}
	return out, nil
}

// random scores every conversation twice, in another company each time.
func (v *verification) random(ctx context.Context) ([]found, error) {
	return v.randomly(ctx, v.scorer, rand.New(rand.NewPCG(verifySeed, 1)), 2)
}

// randomSmall does it once with a scorer whose batches are small.
func (v *verification) randomSmall(ctx context.Context) ([]found, error) {
	s, err := v.open(ctx, v.o.checkpoint, smallBatch)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return v.randomly(ctx, s, rand.New(rand.NewPCG(verifySeed, 2)), 1)
}

// randomly divides the conversations, in random order, into groups of random sizes, and
// these into calls of random sizes.
func (v *verification) randomly(ctx context.Context, s *infer.Scorer, rng *rand.Rand, times int) ([]found, error) {
	var out []found
	for range times {
		order := rng.Perm(len(v.ids))
		for len(order) > 0 {
			var call [][]tokenizer.Encoded
			var asked []int
			for range 1 + rng.IntN(mostTogether) {
				n := min(len(order), 1+rng.IntN(mostTogether))
				group := make([]tokenizer.Encoded, n)
				for i, at := range order[:n] {
					group[i].IDs = v.ids[at]
				}
				call, asked, order = append(call, group), append(asked, order[:n]...), order[n:]
			}
			scores, err := s.Score(ctx, call)
			if err != nil {
				return nil, err
			}
			for i, x := range slices.Concat(scores...) {
				out = append(out, found{asked[i], x})
			}
		}
	}
	return out, nil
}

// trainer scores as training does: the groups go through a file of tokenized data, and
// bins of groups through a model that has gradients.
func (v *verification) trainer(ctx context.Context, share bool) ([]found, error) {
	groups, err := v.storedGroups()
	if err != nil {
		return nil, err
	}
	m, err := v.trainedModel(ctx)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	sizes := make([]int, len(groups))
	for i, g := range groups {
		sizes[i] = data.PackRows(g, share)
	}
	var out []found
	for _, bin := range data.Bins(sizes, v.o.batchTokens) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var batch []data.Group
		var asked []int
		for _, i := range bin {
			batch = append(batch, groups[i])
			for j := range groups[i].Answers {
				asked = append(asked, v.cases[i].first+j)
			}
		}
		scores, err := m.Forward(data.Pack(batch, share))
		if err != nil {
			return nil, err
		}
		for i, x := range scores {
			out = append(out, found{asked[i], x})
		}
	}
	return out, nil
}

// storedGroups writes the cases as tokenized data and reads them again.
func (v *verification) storedGroups() ([]data.Group, error) {
	dir, err := temporaryFolder()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "groups")
	if err := v.storeGroups(file); err != nil {
		return nil, err
	}
	d, err := data.OpenDataset(file)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	groups := make([]data.Group, d.Len())
	for i := range groups {
		groups[i] = d.Group(i)
	}
	return groups, nil
}

func (v *verification) storeGroups(file string) error {
	largest := int32(0)
	for _, ids := range v.ids {
		largest = max(largest, slices.Max(ids))
	}
	w, err := data.Create(file, int(largest)+1)
	if err != nil {
		return err
	}
	defer w.Close()
	for i, c := range v.cases {
		var g data.Group
		for j, e := range c.encoded {
			g.Answers = append(g.Answers, data.Answer{Tokens: e.IDs, Rank: float64(j + 1)})
		}
		if err := w.Add(g, "cases", i+1); err != nil {
			return err
		}
	}
	return w.Commit()
}

// trainedModel loads the model as for training. Where memory is short it recomputes
// activations, as training does then, and does without gradients of the trunk, which no
// forward pass reads.
func (v *verification) trainedModel(ctx context.Context) (*llama.Model, error) {
	defer exitWhenStopped(ctx)()
	dir, err := checkpoints.Open(v.o.checkpoint)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	c, err := llama.ParseConfig(dir.Config)
	if err != nil {
		return nil, err
	}
	o := llama.Options{DType: v.dt, MaxRows: v.o.batchTokens, MaxAnswers: len(v.ids), Train: true}
	o.Planner, _ = v.b.(kernels.Planner)
	if !fits(llama.Plan(c, o), availableMemory()) {
		o.Recompute = true
		o.Frozen = func(param string) bool { return param != headName }
	}
	return infer.LoadModel(dir, v.b, c, o, nil)
}

// export reads an export, tokenizer included, and scores with it.
func (v *verification) export(ctx context.Context, dir string) ([]found, error) {
	s, err := v.open(ctx, dir, v.o.batchTokens)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	cases := slices.Clone(v.cases)
	for i, c := range cases {
		if cases[i].encoded, err = s.Encode(c.request); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	scores, err := v.scoreCases(ctx, s, cases)
	if err != nil {
		return nil, err
	}
	out := make([]found, len(scores))
	for i, x := range scores {
		out[i] = found{i, x}
	}
	return out, nil
}
