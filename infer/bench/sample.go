package bench

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// A sampler keeps the items of at most limit prompts, chosen by a hash of the seed and
// the prompt: the choice depends neither on the order of the rows nor on what else the
// file holds but prompts of a smaller hash. It holds no more than it keeps.
type sampler struct {
	seed    uint64
	limit   int // 0 keeps all
	prompts map[string]*chosen
	largest byHash
	dropped map[string]bool // prompts that were seen and not kept
	order   int
}

// chosen is a prompt with its items and their places in the file.
type chosen struct {
	prompt string
	hash   uint64
	items  []*Item
	places []int
}

func newSampler(seed uint64, limit int) *sampler {
	return &sampler{seed: seed, limit: limit, prompts: map[string]*chosen{}, dropped: map[string]bool{}}
}

func (s *sampler) add(it *Item) {
	place := s.order
	s.order++
	if s.dropped[it.Prompt] {
		return
	}
	c := s.prompts[it.Prompt]
	if c == nil {
		c = &chosen{prompt: it.Prompt, hash: seeded(s.seed, it.Prompt)}
		s.prompts[it.Prompt] = c
		heap.Push(&s.largest, c)
	}
	c.items, c.places = append(c.items, it), append(c.places, place)
	if s.limit > 0 && len(s.prompts) > s.limit {
		out := heap.Pop(&s.largest).(*chosen)
		delete(s.prompts, out.prompt)
		s.dropped[out.prompt] = true
	}
}

// seen is how many prompts there were.
func (s *sampler) seen() int { return len(s.prompts) + len(s.dropped) }

// items returns what was kept, in the order of the rows.
func (s *sampler) items() []*Item {
	type placed struct {
		place int
		item  *Item
	}
	var all []placed
	for _, c := range s.prompts {
		for i, it := range c.items {
			all = append(all, placed{c.places[i], it})
		}
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	out := make([]*Item, len(all))
	for i, p := range all {
		out[i] = p.item
	}
	return out
}

func seeded(seed uint64, text string) uint64 {
	sum := sha256.Sum256(append(binary.LittleEndian.AppendUint64(nil, seed), text...))
	return binary.LittleEndian.Uint64(sum[:])
}

// byHash is a heap with the largest hash on top.
type byHash []*chosen

func (h byHash) Len() int           { return len(h) }
func (h byHash) Less(i, j int) bool { return h[i].hash > h[j].hash }
func (h byHash) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byHash) Push(x any)        { *h = append(*h, x.(*chosen)) }
func (h *byHash) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
