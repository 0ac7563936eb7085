// Package infer scores conversations with a reward model. Scorer is the only path
// to a score: the command line, evaluation and servers all go through it.
package infer

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
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
	// BatchTokens is the most rows of one forward pass; 0 means 8192. It bounds
	// memory and has no influence on scores.
	BatchTokens int
}

// A Scorer is an open reward model. Its methods may be called by many goroutines;
// forward passes take turns.
type Scorer struct {
	Dir     *checkpoints.Dir // closed; for its Path, Config, Meta and Notes
	Config  llama.Config
	Encoder *tokenizer.Encoder

	batchTokens int
	mu          sync.Mutex // the model has room for one batch
	model       *llama.Model
}

// Open loads the reward model that path means; see checkpoints.Open.
func Open(path string, o Options) (*Scorer, error) {
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
	enc, err := encoder(dir, c, o.MaxLength)
	if err != nil {
		return nil, fmt.Errorf("infer: open %s: %w", path, err)
	}
	s := &Scorer{Dir: dir, Config: c, Encoder: enc, batchTokens: cmp.Or(o.BatchTokens, 8192)}
	if s.model, err = LoadModel(dir, o.Backend, c, llama.Options{DType: o.DType, MaxRows: s.batchTokens, MaxAnswers: 64}, nil); err != nil {
		return nil, errors.Join(err, enc.Tokenizer().Close())
	}
	return s, nil
}

// LoadModel checks that dir holds all that the network needs, and loads it. A model
// without a value head takes head, in float32; one that has a head keeps it.
func LoadModel(dir *checkpoints.Dir, b kernels.Backend, c llama.Config, o llama.Options, head []float32) (*llama.Model, error) {
	m, err := llama.New(b, c, o)
	if err != nil {
		return nil, fmt.Errorf("infer: allocate the model of %s: %w", dir.Path, err)
	}
	var want []checkpoints.Want
	for _, p := range m.Params() {
		want = append(want, checkpoints.Want{Name: p.Name, Shape: p.Shape, Optional: p.Name == headName && head != nil})
	}
	if err := dir.Check(want); err != nil {
		m.Close()
		return nil, err
	}
	err = m.Load(func(name string, dt kernels.DType, _ []int, dst []byte) error {
		if name == headName && !dir.Has(name) {
			return putFloats(dst, dt, head)
		}
		return dir.Read(name, dt.String(), dst)
	})
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// putFloats writes x to dst as dt, little endian, rounding to nearest even.
func putFloats(dst []byte, dt kernels.DType, x []float32) error {
	if len(dst) != len(x)*dt.Size() {
		return fmt.Errorf("infer: a value head of %d numbers does not fit a model of %d channels", len(x), len(dst)/dt.Size())
	}
	for i, v := range x {
		bits := math.Float32bits(v)
		switch dt {
		case kernels.BF16:
			bits += 0x7fff + bits>>16&1
			binary.LittleEndian.PutUint16(dst[2*i:], uint16(bits>>16))
		default:
			binary.LittleEndian.PutUint32(dst[4*i:], bits)
		}
	}
	return nil
}

// FormatOf returns how dir's conversations become ids: as rmtrain.json says, or,
// without one, as the programs do for which such a folder is made.
func FormatOf(dir *checkpoints.Dir, c llama.Config, t *tokenizer.Tokenizer) (tokenizer.Format, error) {
	if dir.Meta != nil && len(dir.Meta.Format) > 0 {
		var f tokenizer.Format
		if err := json.Unmarshal(dir.Meta.Format, &f); err != nil {
			return f, fmt.Errorf("read rmtrain.json: field format: %w", err)
		}
		return f, nil
	}
	f := tokenizer.Format{Template: t.ChatTemplate(), MaxLength: c.MaxPositions, TruncationSide: "left", ScorePosition: "last_non_pad", PadID: c.PadTokenID}
	if dir.Dialect == "starling" { // the model card's class: id 0, 2048 tokens
		f.MaxLength, f.ScorePosition, f.PadID = min(2048, c.MaxPositions), "before_first_pad", max(0, c.PadTokenID)
	}
	if f.PadID < 0 {
		f.ScorePosition = "last_token" // what transformers does without a pad_token_id
	}
	return f, nil
}

func encoder(dir *checkpoints.Dir, c llama.Config, maxLength int) (*tokenizer.Encoder, error) {
	t, err := tokenizer.Open(dir.Path)
	if err != nil {
		return nil, err
	}
	f, err := FormatOf(dir, c, t)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if maxLength > c.MaxPositions {
		return nil, errors.Join(fmt.Errorf("max length %d is above the model's max_position_embeddings %d", maxLength, c.MaxPositions), t.Close())
	}
	if maxLength > 0 {
		f.MaxLength = maxLength
	}
	e, err := tokenizer.NewEncoder(t, f)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return e, nil
}

// Close frees the model and the tokenizer.
func (s *Scorer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model.Close()
	return s.Encoder.Tokenizer().Close()
}

// Score returns the reward of every conversation. Those of one group may share a
// beginning, which is then computed once; that, the order and the company of
// conversations have no influence on their rewards.
func (s *Scorer) Score(ctx context.Context, groups [][]tokenizer.Encoded) ([][]float64, error) {
	scores := make([][]float64, len(groups))
	var pieces []piece
	for i, g := range groups {
		scores[i] = make([]float64, len(g))
		pieces = s.split(pieces, scores[i], g)
	}
	sizes := make([]int, len(pieces))
	for i, p := range pieces {
		sizes[i] = data.PackRows(p.group, true)
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

// A piece is as many conversations of a group as go into one forward pass, and
// where their scores belong.
type piece struct {
	group data.Group
	out   []float64
}

// split appends the pieces of g, each within s.batchTokens if a single conversation is.
func (s *Scorer) split(pieces []piece, out []float64, g []tokenizer.Encoded) []piece {
	var p piece
	lo, rows := 0, 0
	for i, e := range g {
		if len(p.group.Answers) > 0 && rows+len(e.IDs) > s.batchTokens {
			// Only now is it worth to see what sharing saves.
			with := data.Group{Answers: append(slices.Clip(p.group.Answers), data.Answer{Tokens: e.IDs})}
			if rows = data.PackRows(with, true); rows > s.batchTokens {
				p.out = out[lo:i]
				pieces = append(pieces, p)
				p, lo, rows = piece{}, i, 0
			} else {
				rows -= len(e.IDs)
			}
		}
		p.group.Answers = append(p.group.Answers, data.Answer{Tokens: e.IDs})
		rows += len(e.IDs)
	}
	if len(p.group.Answers) == 0 {
		return pieces
	}
	p.out = out[lo:]
	return append(pieces, p)
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
		n := copy(p.out, scores)
		scores = scores[n:]
	}
	return nil
}
