package llama

import (
	"fmt"
	"slices"

	"rmtrain/kernels"
)

type tensor = kernels.Tensor

// A linear is a matrix product's weight (out, in) and its bias (out), if any.
type linear struct{ W, B tensor }

// A block holds the weights of one layer, or their gradients.
type block struct {
	AttnNorm tensor // (Hidden)
	QKV      linear // (QKV, Hidden): q, k and v stacked, so each is a range of rows
	Out      linear // (Hidden, Heads*HeadDim)
	MLPNorm  tensor // (Hidden)
	GateUp   linear // (2*FFN, Hidden): gate and up stacked
	Down     linear // (Hidden, FFN)
}

// weights holds all weights of the model, or their gradients.
type weights struct {
	Embed  tensor // (Vocab, Hidden)
	Blocks []block
	Norm   tensor // (Hidden)
	Score  tensor // (Hidden)
}

// resident reaches the layers of a model that holds all of them. A model whose
// layers lie elsewhere fetches one in Prefetch, waits for it in Get, and gives its
// memory back, or its gradients away, in Release.
type resident []block

func (r resident) Prefetch(int)     {}
func (r resident) Get(l int) *block { return &r[l] }
func (r resident) Release(int)      {}

// trainable tells whether any of a block of gradients is wanted.
func (b *block) trainable() bool {
	for _, t := range []tensor{b.AttnNorm, b.QKV.W, b.QKV.B, b.Out.W, b.Out.B, b.MLPNorm, b.GateUp.W, b.GateUp.B, b.Down.W, b.Down.B} {
		if exists(t) {
			return true
		}
	}
	return false
}

// A part is one Hugging Face tensor: a run of rows of a stack.
type part struct {
	name string
	rows int
}

// A stack is a tensor of the model and the Hugging Face tensors it is made of.
type stack struct {
	at    *tensor
	parts []part
	cols  int  // 0 if the parts are vectors
	decay bool // takes weight decay
}

func (s stack) shape() []int {
	n := 0
	for _, p := range s.parts {
		n += p.rows
	}
	if s.cols == 0 {
		return []int{n}
	}
	return []int{n, s.cols}
}

func (s stack) partShape(p part) []int {
	if s.cols == 0 {
		return []int{p.rows}
	}
	return []int{p.rows, s.cols}
}

// stacks is the one table of tensors, in checkpoint order. Allocation, loading,
// saving, initialization and the optimizer all walk it.
func (w *weights) stacks(c Config) []stack {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	vector := func(at *tensor, parts ...part) stack { return stack{at: at, parts: parts} }
	matrix := func(at *tensor, cols int, parts ...part) stack {
		return stack{at: at, parts: parts, cols: cols, decay: true}
	}
	out := []stack{matrix(&w.Embed, c.Hidden, part{"model.embed_tokens.weight", c.Vocab})}
	for l := range w.Blocks {
		b := &w.Blocks[l]
		attn, mlp := fmt.Sprintf("model.layers.%d.self_attn.", l), fmt.Sprintf("model.layers.%d.mlp.", l)
		out = append(out, vector(&b.AttnNorm, part{fmt.Sprintf("model.layers.%d.input_layernorm.weight", l), c.Hidden}),
			matrix(&b.QKV.W, c.Hidden, part{attn + "q_proj.weight", q}, part{attn + "k_proj.weight", kv}, part{attn + "v_proj.weight", kv}))
		if c.QKVBias {
			out = append(out, vector(&b.QKV.B, part{attn + "q_proj.bias", q}, part{attn + "k_proj.bias", kv}, part{attn + "v_proj.bias", kv}))
		}
		out = append(out, matrix(&b.Out.W, q, part{attn + "o_proj.weight", c.Hidden}))
		if c.OutBias {
			out = append(out, vector(&b.Out.B, part{attn + "o_proj.bias", c.Hidden}))
		}
		out = append(out, vector(&b.MLPNorm, part{fmt.Sprintf("model.layers.%d.post_attention_layernorm.weight", l), c.Hidden}),
			matrix(&b.GateUp.W, c.Hidden, part{mlp + "gate_proj.weight", c.FFN}, part{mlp + "up_proj.weight", c.FFN}))
		if c.MLPBias {
			out = append(out, vector(&b.GateUp.B, part{mlp + "gate_proj.bias", c.FFN}, part{mlp + "up_proj.bias", c.FFN}))
		}
		out = append(out, matrix(&b.Down.W, c.FFN, part{mlp + "down_proj.weight", c.Hidden}))
		if c.MLPBias {
			out = append(out, vector(&b.Down.B, part{mlp + "down_proj.bias", c.Hidden}))
		}
	}
	score := vector(&w.Score, part{"score.weight", c.Hidden})
	score.decay = true
	return append(out, vector(&w.Norm, part{"model.norm.weight", c.Hidden}), score)
}

// A Param is one tensor of the model, by the name that Hugging Face's
// ...ForSequenceClassification checkpoint gives it ("model.embed_tokens.weight",
// ..., "score.weight").
type Param struct {
	Name   string
	Shape  []int
	Weight kernels.Tensor
	Grad   kernels.Tensor // Buf is nil if frozen, or if the model only scores
	Decay  bool           // takes weight decay: matrices and embeddings, as in transformers' Trainer
}

// Table returns the parameters that a model of configuration c has, without
// memory behind them.
func Table(c Config) []Param {
	w, g := weights{Blocks: make([]block, c.Layers)}, weights{Blocks: make([]block, c.Layers)}
	return params(c, &w, &g, nil)
}

// Params returns every parameter once, in checkpoint order.
func (m *Model) Params() []Param { return params(m.Config, &m.w, &m.g, m.o.Frozen) }

func params(c Config, w, g *weights, frozen func(string) bool) []Param {
	var out []Param
	grads := g.stacks(c)
	for i, s := range w.stacks(c) {
		lo := 0
		for _, p := range s.parts {
			grad := rowsOf(*grads[i].at, lo, p.rows)
			if frozen != nil && frozen(p.name) {
				grad = tensor{}
			}
			shape := s.partShape(p)
			if s.at == &w.Score {
				shape = []int{1, c.Hidden}
			}
			out = append(out, Param{Name: p.name, Shape: shape, Weight: rowsOf(*s.at, lo, p.rows), Grad: grad, Decay: s.decay})
			lo += p.rows
		}
	}
	return out
}

// exists tells whether t is a tensor of the model: an absent bias or the gradient
// of a frozen weight is not.
func exists(t tensor) bool { return t.Len() > 0 }

// rowsOf returns n rows of t from lo, or nothing of nothing.
func rowsOf(t tensor, lo, n int) tensor {
	if !exists(t) {
		return tensor{}
	}
	return t.Slice(lo, lo+n)
}

// Load fills every parameter from read, which writes the named tensor to dst
// converted to element type dt.
func (m *Model) Load(read func(name string, dt kernels.DType, shape []int, dst []byte) error) error {
	return m.load(nil, func(p Param) (Source, error) {
		return func(dst []byte, _ int64) error { return read(p.Name, p.Weight.DType, p.Shape, dst) }, nil
	})
}

// A Source reads the bytes of one tensor, in the element type of its parameter, from
// off on. It may be called from several goroutines at a time.
type Source func(dst []byte, off int64) error

// LoadFrom fills every parameter from its source, by parts where the backend is a
// kernels.Filler, and else as Load does.
func (m *Model) LoadFrom(open func(Param) (Source, error)) error {
	filler, _ := m.b.(kernels.Filler)
	return m.load(filler, open)
}

func (m *Model) load(filler kernels.Filler, open func(Param) (Source, error)) error {
	fill := m.fillWhole()
	if filler != nil {
		fill = func(w tensor, read Source) error { return filler.Fill(w, read) }
	}
	for _, p := range m.Params() {
		read, err := open(p)
		if err == nil {
			err = fill(p.Weight, read)
		}
		if err != nil {
			return fmt.Errorf("llama: load %s: %w", p.Name, err)
		}
	}
	if err := m.b.Sync(); err != nil {
		return fmt.Errorf("llama: load: %w", err)
	}
	return nil
}

// fillWhole returns what reads a weight at once, to where it stays if the CPU can address
// that, else to memory that all weights share.
func (m *Model) fillWhole() func(w tensor, read Source) error {
	var staging []byte
	return func(w tensor, read Source) error {
		dst := hostMemory(w)
		if dst == nil {
			staging = slices.Grow(staging[:0], w.Bytes())
			dst = staging[:w.Bytes()]
		}
		if err := read(dst, 0); err != nil {
			return err
		}
		m.b.Upload(w, dst) // copies nothing where dst is the tensor's own memory
		return nil
	}
}

// hostMemory returns the memory of t if the CPU can address it.
func hostMemory(t tensor) []byte {
	if t.Buf.Host == nil {
		return nil
	}
	return t.Buf.Host[t.Off:][:t.Bytes()]
}

// ZeroGrad clears all gradients.
func (m *Model) ZeroGrad() {
	for _, g := range m.grads {
		m.b.Zero(g)
	}
}
