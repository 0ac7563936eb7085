package llama

import (
	"fmt"
	"maps"

	"rmtrain/data"
	"rmtrain/kernels"
)

// Options say what a Model is for.
type Options struct {
	DType      kernels.DType // of weights and activations
	MaxRows    int           // rows of the largest batch
	MaxAnswers int           // scores of the largest batch
	Train      bool          // with gradients
	// Recompute keeps only block boundaries in the forward pass and recomputes the
	// rest in the backward pass; the results are the same to the bit.
	Recompute bool
	Frozen    func(param string) bool // parameters without gradients; nil for none
	// Keeper, if not nil, is the backend, which is to keep the matrices of the layers in
	// the forms that passes read, forward and, to train, backward: the same results
	// sooner, for more memory.
	Keeper kernels.Keeper
	// Planner, if not nil, is the backend, of which Plan asks the scratch memory of passes.
	Planner kernels.Planner
	// Fullest is a batch as large as they come, for the Planner; nil means a conversation
	// of MaxRows tokens.
	Fullest *data.Batch
}

// A Model is a trunk, a head and room for one batch. It is for one goroutine.
type Model struct {
	Config Config

	b      kernels.Backend
	o      Options
	h      kernels.Heads
	w, g   weights  // weights and their gradients
	grads  []tensor // all that g has
	lowest int      // the lowest layer that the backward pass reaches
	arena  arena    // memory of weights and gradients

	room room
	rope tensor // (positions, HeadDim): cosines, then sines

	batch *data.Batch // of the last Forward, nil if it failed
	view  room        // room cut to batch
	segs  []kernels.Segment
	last  []kernels.Segment // segs as the last layer needs them
	order []int32           // 0, 1, 2, ...: all scored rows in a row
	held  []int             // which layer's results each of view.acts has since Forward
	host  []byte            // staging of uploads and downloads
}

// New allocates a model; its weights are zero.
func New(b kernels.Backend, c Config, o Options) (*Model, error) {
	m, err := build(b, c, o)
	if err != nil {
		return nil, fmt.Errorf("llama: new model: %w", err)
	}
	if o.MaxRows <= 0 {
		return m, nil
	}
	if err := m.grow(o.MaxRows, o.MaxAnswers, firstPositions(c, o)); err != nil {
		m.Close()
		return nil, fmt.Errorf("llama: new model: %w", err)
	}
	return m, nil
}

// Plan returns the bytes by purpose that New would allocate, without allocating;
// nil if New would refuse c or o.
func Plan(c Config, o Options) map[string]int64 {
	m, err := build(nil, c, o)
	if err != nil {
		return nil
	}
	used := maps.Clone(m.arena.used)
	if o.MaxRows <= 0 {
		return used
	}
	r, _ := m.newRoom(nil, o.MaxRows, o.MaxAnswers)
	for tag, n := range r.arena.used {
		used[tag] += n
	}
	used["activations"] += int64(firstPositions(c, o)) * int64(c.HeadDim) * int64(o.DType.Stat().Size())
	if n := planScratch(c, o); n > 0 {
		used[kernels.ScratchTag] = n
	}
	return used
}

// planScratch returns the scratch memory of passes over o.Fullest, by having the Planner
// rehearse them. It is 0 if that cannot be known: without a Planner, and where tensors are
// too large even to reserve addresses for.
func planScratch(c Config, o Options) int64 {
	if o.Planner == nil {
		return 0
	}
	b, err := o.Planner.Plan(o.DType)
	if err != nil {
		return 0
	}
	defer b.Close()
	if err := rehearse(b, c, o); err != nil {
		return 0
	}
	return b.Used()[kernels.ScratchTag]
}

// rehearse issues the operations of a pass to b, forward and, to train, backward.
func rehearse(b kernels.Backend, c Config, o Options) error {
	batch := o.Fullest
	if batch == nil {
		conversation := data.Group{Answers: []data.Answer{{Tokens: make([]int32, o.MaxRows)}}}
		batch = data.Pack([]data.Group{conversation}, true)
	}
	o.Keeper = nil // what is kept takes no scratch memory
	m, err := New(b, c, o)
	if err != nil {
		return err
	}
	defer m.Close()
	scores, err := m.Forward(batch)
	if err != nil || !o.Train {
		return err
	}
	return m.Backward(scores)
}

// firstPositions is how many positions the first RoPE table has.
func firstPositions(c Config, o Options) int {
	if c.MaxPositions <= 0 {
		return o.MaxRows
	}
	return min(o.MaxRows, c.MaxPositions)
}

// build makes a model without room for a batch. Without a backend it only counts.
func build(b kernels.Backend, c Config, o Options) (*Model, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	switch o.DType {
	case kernels.F32, kernels.BF16, kernels.F64:
	default:
		return nil, fmt.Errorf("compute type %v is none of F32, BF16, F64", o.DType)
	}
	m := &Model{Config: c, b: b, o: o, h: c.heads(), arena: newArena(b)}
	m.w.Blocks, m.g.Blocks = make([]block, c.Layers), make([]block, c.Layers)
	for _, s := range m.w.stacks(c) {
		*s.at = m.arena.alloc("weights", o.DType, s.shape()...)
	}
	for _, s := range m.g.stacks(c) {
		if o.Train && !frozen(o, s) {
			*s.at = m.arena.alloc("gradients", o.DType.Stat(), s.shape()...)
			m.grads = append(m.grads, *s.at)
		}
	}
	m.lowest = m.lowestTrainable()
	m.keep()
	if m.arena.err != nil {
		m.arena.free()
		return nil, m.arena.err
	}
	return m, nil
}

// keep has the Keeper, if there is one, keep what products read: every matrix in forward
// passes, and in backward passes those of the layers that these reach.
func (m *Model) keep() {
	if m.o.Keeper == nil {
		return
	}
	for l := range m.w.Blocks {
		ws := m.matrices(l)
		m.arena.keep(m.o.Keeper, kernels.NT, ws...)
		if m.o.Train && l >= m.lowest {
			m.arena.keep(m.o.Keeper, kernels.NN, ws...)
		}
	}
}

// frozen tells whether all of a stack is frozen; one that is not has a gradient
// as a whole.
func frozen(o Options, s stack) bool {
	for _, p := range s.parts {
		if o.Frozen == nil || !o.Frozen(p.name) {
			return false
		}
	}
	return true
}

// lowestTrainable returns the lowest layer whose input or weights need gradients,
// the number of layers if none does.
func (m *Model) lowestTrainable() int {
	if exists(m.g.Embed) {
		return 0
	}
	for l := range m.g.Blocks {
		if m.g.Blocks[l].trainable() {
			return l
		}
	}
	return m.Config.Layers
}

// grow makes room for batches of so many rows, answers and positions.
func (m *Model) grow(rows, answers, positions int) error {
	if rows > m.room.rows || answers > m.room.answers {
		rows, answers = max(rows, m.room.rows), max(answers, m.room.answers)
		m.room.arena.free()
		m.room = room{}
		r, err := m.newRoom(m.b, rows, answers)
		if err != nil {
			r.arena.free()
			return err
		}
		m.room, m.held = r, make([]int, len(r.kept))
	}
	if positions <= m.rope.Rows() {
		return nil
	}
	if exists(m.rope) {
		m.b.Free(m.rope)
		m.rope = tensor{}
	}
	t, err := m.b.Alloc("activations", m.o.DType.Stat(), positions, m.Config.HeadDim)
	if err != nil {
		return fmt.Errorf("allocate %d positions of RoPE: %w", positions, err)
	}
	m.rope = t
	m.uploadFloats(t, ropeTable(positions, m.Config.InvFreq))
	return nil
}

// Close frees the model's memory.
func (m *Model) Close() {
	m.room.arena.free()
	m.arena.free()
	if exists(m.rope) {
		m.b.Free(m.rope)
	}
	m.room, m.view, m.rope, m.batch = room{}, room{}, tensor{}, nil
}
