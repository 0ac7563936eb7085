package loss

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// masked is added to the score of an answer that does not compete: its
// exponential is 0, and unlike an infinity it has no NaN in its gradient.
const masked = -1e30

const (
	// maxElements bounds the largest array of a graph, batch·terms·answers, unless
	// one group needs more.
	maxElements = 1 << 17
	// maxCached bounds the sum of these arrays over the graphs that are kept.
	maxCached = 1 << 20
)

// A term is one factor of a likelihood, log Σ_j exp(s_j + add_j) - s_chosen. Every
// loss of this package is a weighted sum of terms.
type term struct {
	add    []float64 // by answer: margin plus the logarithm of a tie's share, or masked
	chosen int       // answer
	weight float64
}

// Graph evaluates losses as expression graphs of gorgonia, which also derives
// the gradients. A new loss is a new list of terms.
type Graph struct {
	config Config

	mu       sync.Mutex
	machines map[shape]*machine // by shape, since building one takes longer than running it
	cached   int                // elements of the largest arrays of machines
}

// NewGraph returns the configured loss as expression graphs.
func NewGraph(c Config) (*Graph, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Graph{config: c, machines: map[shape]*machine{}}, nil
}

// Eval implements Loss.
func (l *Graph) Eval(groups []Group, grads [][]float64) ([]float64, error) {
	if err := checkGroups(groups, grads); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	losses := make([]float64, len(groups))
	for lo := 0; lo < len(groups); {
		hi := lo + l.chunk(groups[lo:])
		if err := l.evalChunk(groups[lo:hi], grads[lo:hi], losses[lo:hi]); err != nil {
			return nil, fmt.Errorf("loss: eval groups %d to %d: %w", lo, hi-1, err)
		}
		lo = hi
	}
	return losses, nil
}

// chunk is how many of groups fit into one graph.
func (l *Graph) chunk(groups []Group) int {
	k := 0
	for n, g := range groups {
		k = max(k, len(g.Scores))
		if n > 0 && (n+1)*k*l.config.maxTerms(k) > maxElements/2 { // the batch is rounded up to twice its size at most
			return n
		}
	}
	return len(groups)
}

func (l *Graph) evalChunk(groups []Group, grads [][]float64, losses []float64) error {
	k := 0
	for _, g := range groups {
		k = max(k, len(g.Scores))
	}
	m, err := l.machine(shape{1 << bits.Len(uint(len(groups)-1)), l.config.maxTerms(k), k})
	if err != nil {
		return err
	}
	m.clear()
	for b, g := range groups {
		if allFinite(g.Scores) {
			m.set(b, g.Scores, l.config.terms(g), l.config.Center)
		}
	}
	if err := m.run(); err != nil {
		return err
	}
	for b, g := range groups {
		if !allFinite(g.Scores) {
			losses[b] = math.NaN()
			fill(grads[b], math.NaN())
			continue
		}
		losses[b] = m.losses()[b]
		copy(grads[b], m.gradient()[b*k:])
	}
	return nil
}

func (l *Graph) machine(s shape) (*machine, error) {
	if m := l.machines[s]; m != nil {
		return m, nil
	}
	m, err := newMachine(s)
	if err != nil {
		return nil, err
	}
	if l.cached += s.elements(); l.cached > maxCached {
		l.drop()
		l.cached = s.elements()
	}
	l.machines[s] = m
	return m, nil
}

// drop forgets all machines.
func (l *Graph) drop() {
	for s, m := range l.machines {
		m.vm.Close() // of a tape machine, always nil
		delete(l.machines, s)
	}
}

// maxTerms bounds the number of terms of a group of k answers.
func (c Config) maxTerms(k int) int {
	n := k
	if c.Type == BradleyTerry {
		n = k * (k - 1) / 2
	}
	if c.LabelSmoothing > 0 {
		n *= 2
	}
	return n
}

// terms lists the likelihood's factors, with their weights normalized.
func (c Config) terms(g Group) []term {
	terms := c.directed(g, 1-c.LabelSmoothing, false)
	if c.LabelSmoothing > 0 {
		terms = append(terms, c.directed(g, c.LabelSmoothing, true)...)
	}
	return terms
}

func (c Config) directed(g Group, weight float64, reversed bool) []term {
	r := c.rank(g, reversed)
	weight *= c.scale(len(g.Scores), r.ordered())
	var terms []term
	for a := range len(r.levels) - 1 {
		if r.levels[a] >= c.places(len(g.Scores)) {
			break
		}
		for place := r.levels[a]; place < r.levels[a+1]; place++ {
			if c.Type == BradleyTerry {
				terms = append(terms, r.pairTerms(a, place, weight)...)
			} else {
				terms = append(terms, r.choiceTerm(a, place, weight, c.Ties))
			}
		}
	}
	return terms
}

// pairTerms are the comparisons of the answer at a place of level a with each
// worse one.
func (r ranking) pairTerms(a, place int, weight float64) []term {
	var terms []term
	for b := a + 1; b < len(r.levels)-1; b++ {
		for j := r.levels[b]; j < r.levels[b+1]; j++ {
			t := r.newTerm(place, weight)
			t.add[r.index[j]] = r.margin(a, b)
			terms = append(terms, t)
		}
	}
	return terms
}

// choiceTerm is the choice of the answer at a place of level a from those that are
// not better.
func (r ranking) choiceTerm(a, place int, weight float64, ties string) term {
	t := r.newTerm(place, weight)
	lo, hi := r.levels[a], r.levels[a+1]
	for b := a + 1; b < len(r.levels)-1; b++ {
		for j := r.levels[b]; j < r.levels[b+1]; j++ {
			t.add[r.index[j]] = r.margin(a, b)
		}
	}
	if ties == Drop {
		return t
	}
	share := 0.0
	if ties == Efron {
		share = math.Log1p(-float64(place-lo) / float64(hi-lo))
	}
	for j := lo; j < hi; j++ {
		t.add[r.index[j]] = share
	}
	return t
}

// newTerm chooses the answer at a place, without competitors.
func (r ranking) newTerm(place int, weight float64) term {
	t := term{add: make([]float64, len(r.index)), chosen: r.index[place], weight: weight}
	fill(t.add, masked)
	t.add[t.chosen] = 0
	return t
}

// A shape is the size of a graph's inputs.
type shape struct{ batch, terms, answers int }

func (s shape) elements() int { return s.batch * s.terms * s.answers }

// A machine is a graph for one shape with its inputs and outputs:
//
//	x      [B,K]    scores less the group's largest
//	origin [B,K]    that largest score
//	add    [B,T,K]  terms
//	shift  [B,T]    largest x + add of each term: a constant to the gradient
//	weight [B,T]    of terms
//	linear [B,K]    weight with which each answer is chosen
//	center [B,K]    Config.Center / answers
//	loss   [B]      Σ_T weight·(log Σ_K exp(x + add - shift) + shift) - Σ_K linear·x + Σ_K center·(x + origin)²
type machine struct {
	shape                                         shape
	x, origin, add, shift, weight, linear, center input
	lossNode, gradientNode                        *G.Node
	lossValue, gradientValue                      G.Value
	vm                                            G.VM
}

// An input is a node with the memory that it reads.
type input struct {
	node  *G.Node
	value *tensor.Dense
	data  []float64
}

func newInput(g *G.ExprGraph, name string, dims ...int) input {
	n := 1
	for _, d := range dims {
		n *= d
	}
	data := make([]float64, n)
	return input{
		node:  G.NewTensor(g, G.Float64, len(dims), G.WithShape(dims...), G.WithName(name)),
		value: tensor.New(tensor.WithShape(dims...), tensor.WithBacking(data)),
		data:  data,
	}
}

// newMachine builds the graph. gorgonia panics on shapes that do not match, which
// would be a mistake in build.
func newMachine(s shape) (*machine, error) {
	g := G.NewGraph()
	m := &machine{
		shape:  s,
		x:      newInput(g, "x", s.batch, s.answers),
		origin: newInput(g, "origin", s.batch, s.answers),
		add:    newInput(g, "add", s.batch, s.terms, s.answers),
		shift:  newInput(g, "shift", s.batch, s.terms),
		weight: newInput(g, "weight", s.batch, s.terms),
		linear: newInput(g, "linear", s.batch, s.answers),
		center: newInput(g, "center", s.batch, s.answers),
	}
	if err := m.build(); err != nil {
		return nil, fmt.Errorf("build graph for %d groups of %d answers: %w", s.batch, s.answers, err)
	}
	G.Read(m.lossNode, &m.lossValue)
	G.Read(m.gradientNode, &m.gradientValue)
	m.vm = G.NewTapeMachine(g)
	return m, nil
}

func (m *machine) build() error {
	s := m.shape
	var b builder
	z := b.do(G.BroadcastAdd(b.reshape(m.x.node, s.batch, 1, s.answers), m.add.node, []byte{1}, nil))
	z = b.do(G.BroadcastSub(z, b.reshape(m.shift.node, s.batch, s.terms, 1), nil, []byte{2}))
	sum := b.do(G.Sum(b.do(G.Exp(z)), 2))
	logs := b.do(G.Add(b.do(G.Log(sum)), m.shift.node))
	raw := b.do(G.Add(m.x.node, m.origin.node))
	likelihood := b.do(G.Sum(b.do(G.HadamardProd(logs, m.weight.node)), 1))
	chosen := b.do(G.Sum(b.do(G.HadamardProd(m.x.node, m.linear.node)), 1))
	penalty := b.do(G.Sum(b.do(G.HadamardProd(b.do(G.Square(raw)), m.center.node)), 1))
	m.lossNode = b.do(G.Add(b.do(G.Sub(likelihood, chosen)), penalty))
	total := b.do(G.Sum(m.lossNode))
	if b.err != nil {
		return b.err
	}
	gradients, err := G.Grad(total, m.x.node)
	if err != nil {
		return err
	}
	m.gradientNode = gradients[0]
	return nil
}

// clear makes every group of the batch one of equal scores and no weight.
func (m *machine) clear() {
	for _, in := range m.inputs() {
		clear(in.data)
	}
}

func (m *machine) inputs() []input {
	return []input{m.x, m.origin, m.add, m.shift, m.weight, m.linear, m.center}
}

// set makes scores and terms those of group b. A term or an answer that the group
// lacks has no weight.
func (m *machine) set(b int, scores []float64, terms []term, center float64) {
	k := m.shape.answers
	top := slices.Max(scores)
	for j, s := range scores {
		m.x.data[b*k+j] = s - top
		m.origin.data[b*k+j] = top
		m.center.data[b*k+j] = center / float64(len(scores))
	}
	x := m.x.data[b*k:][:len(scores)]
	for t, term := range terms {
		row := b*m.shape.terms + t
		add := m.add.data[row*k:][:k]
		fill(add, masked)
		copy(add, term.add)
		shift := math.Inf(-1)
		for j := range x {
			shift = max(shift, x[j]+add[j])
		}
		m.shift.data[row] = shift
		m.weight.data[row] = term.weight
		m.linear.data[b*k+term.chosen] += term.weight
	}
}

// run evaluates loss and gradient. The machine is reset before it starts, since
// without that a second run would silently return the first one's values.
func (m *machine) run() error {
	m.vm.Reset()
	for _, in := range m.inputs() {
		if err := G.Let(in.node, in.value); err != nil {
			return fmt.Errorf("set %s: %w", in.node.Name(), err)
		}
	}
	return m.vm.RunAll()
}

// losses is the loss of each group of the batch, until the next run.
func (m *machine) losses() []float64 { return m.lossValue.Data().([]float64) }

// gradient is [batch, answers], until the next run.
func (m *machine) gradient() []float64 { return m.gradientValue.Data().([]float64) }

// A builder keeps the first error of a chain of graph operations.
type builder struct{ err error }

func (b *builder) do(n *G.Node, err error) *G.Node {
	if b.err == nil {
		b.err = err
	}
	return n
}

func (b *builder) reshape(n *G.Node, dims ...int) *G.Node {
	return b.do(G.Reshape(n, tensor.Shape(dims)))
}
