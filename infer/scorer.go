// Package infer scores conversations with a reward model. Scorer is the only path
// to a score: the command line, evaluation and servers all go through it.
package infer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"rmtrain/checkpoints"
	"rmtrain/data"
	"rmtrain/data/tokenizer"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

// headName is the value head, as checkpoints calls it.
const headName = "score.weight"

// Options say how a checkpoint is opened.
type Options struct {
	Backend kernels.Backend
	DType   kernels.DType // of weights and activations; it must be the backend's
	// MaxLength, if not 0, replaces the length that the checkpoint was trained with.
	MaxLength int
	// Fits, if not nil, tells whether there is memory for what is planned, in bytes by
	// purpose. If so, the backend keeps weights in the form that its products read.
	Fits func(planned map[string]int64) bool
	// BatchTokens is the most rows of one forward pass; 0 means 8192. It bounds
	// memory and has no influence on scores.
	BatchTokens int
	// EncodeOnly checks the checkpoint and leaves its weights where they are: the Scorer
	// encodes, and Score is an error. Backend and DType are not needed.
	EncodeOnly bool
}

// A Scorer is an open reward model. Its methods may be called by many goroutines;
// forward passes take turns.
type Scorer struct {
	Dir     *checkpoints.Dir // closed; for its Path, Config, Meta and Notes
	Config  llama.Config
	Encoder *tokenizer.Encoder

	batchTokens int
	maxTokens   int          // of the conversations of one request, which bounds memory
	mu          sync.Mutex   // the model has room for one batch
	model       *llama.Model // nil if it only encodes
}

// Open loads the reward model that path means; see checkpoints.Open.
func Open(path string, o Options) (*Scorer, error) {
	if o.MaxLength < 0 || o.BatchTokens < 0 {
		return nil, fmt.Errorf("infer: open %s: a negative max length %d or number of batch tokens %d", path, o.MaxLength, o.BatchTokens)
	}
	dir, err := checkpoints.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	c, err := llama.ParseConfig(dir.Config)
	if err != nil {
		return nil, fmt.Errorf("infer: open %s: %w", path, err)
	}
	if !dir.Has(headName) {
		return nil, fmt.Errorf("infer: open %s: the model has no value head, so it cannot score (train one with `rmtrain --config`, or attach one with `rmtrain export --value-head`)", path)
	}
	enc, err := newEncoder(dir, c, o.MaxLength)
	if err != nil {
		return nil, fmt.Errorf("infer: open %s: %w", path, err)
	}
	s := &Scorer{Dir: dir, Config: c, Encoder: enc, batchTokens: cmp.Or(o.BatchTokens, 8192), maxTokens: 64 << 20}
	if o.EncodeOnly {
		return s, nil
	}
	model := llama.Options{DType: o.DType, MaxRows: s.batchTokens, MaxAnswers: s.batchTokens}
	model.Keeper = o.keeper(c, model)
	if s.model, err = LoadModel(dir, o.Backend, c, model, nil); err != nil {
		return nil, errors.Join(err, enc.Tokenizer().Close())
	}
	return s, nil
}

// keeper returns the backend if it can keep weights and has memory for that.
func (o Options) keeper(c llama.Config, model llama.Options) kernels.Keeper {
	k, ok := o.Backend.(kernels.Keeper)
	if !ok || o.Fits == nil {
		return nil
	}
	model.Keeper = k
	model.Planner, _ = o.Backend.(kernels.Planner)
	if !o.Fits(llama.Plan(c, model)) {
		return nil
	}
	return k
}

// Close frees the model and the tokenizer.
func (s *Scorer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.model != nil {
		s.model.Close()
	}
	return s.Encoder.Tokenizer().Close()
}

// Score returns the reward of every conversation. Those of one group may share a
// beginning, which is then computed once; that, the order and the company of
// conversations have no influence on their rewards.
func (s *Scorer) Score(ctx context.Context, groups [][]tokenizer.Encoded) ([][]float64, error) {
	if s.model == nil {
		return nil, fmt.Errorf("infer: score with %s: it was opened without its weights", s.Dir.Path)
	}
	scores := make([][]float64, len(groups))
	var pieces []piece
	var sizes []int
	for i, g := range groups {
		for j, e := range g {
			if len(e.IDs) == 0 {
				return nil, fmt.Errorf("infer: score: conversation %d of group %d has no token", j, i)
			}
		}
		scores[i] = make([]float64, len(g))
		pieces = append(pieces, split(g, scores[i], s.batchTokens)...)
	}
	for _, p := range pieces {
		sizes = append(sizes, data.PackRows(p.group, true))
	}
	for _, bin := range data.Bins(sizes, s.batchTokens) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		batch := make([]piece, len(bin))
		for i, j := range bin {
			batch[i] = pieces[j]
		}
		if err := s.forward(batch); err != nil {
			return nil, err
		}
	}
	return scores, nil
}

func (s *Scorer) forward(batch []piece) error {
	groups := make([]data.Group, len(batch))
	for i, p := range batch {
		groups[i] = p.group
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	scores, err := s.model.Forward(data.Pack(groups, true))
	if err != nil {
		return fmt.Errorf("infer: forward pass: %w", err)
	}
	for _, p := range batch {
		n := copy(p.scores, scores)
		scores = scores[n:]
	}
	return nil
}
