package loss

import (
	"fmt"
	"math"
	"slices"
	"sync"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// masked is added to the score of an answer that does not compete: its
// exponential is 0, and unlike an infinity it has no NaN in its gradient.
const masked = -1e30

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

// building makes graphs one at a time: gorgonia.Grad puts the same constant node into
// all of them, and writes to it.
var building sync.Mutex

// newMachine builds the graph. gorgonia panics on shapes that do not match, which
// would be a mistake in build.
func newMachine(s shape) (*machine, error) {
	building.Lock()
	defer building.Unlock()
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
