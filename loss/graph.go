package loss

import (
	"fmt"
	"math"
	"math/bits"
	"sync"
)

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
