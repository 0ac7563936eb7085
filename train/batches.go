package train

import (
	"rmtrain/data"
)

// A microBatch is the groups of one forward and backward pass.
type microBatch struct {
	groups []data.Group
	layout *data.Batch
}

// read copies groups out of the data set.
func read(d *data.Dataset, indices []int) []data.Group {
	groups := make([]data.Group, len(indices))
	for i, at := range indices {
		groups[i] = d.Group(at)
	}
	return groups
}

// pack distributes groups over micro-batches of at most budget rows. A group is
// never split: its loss needs all of its scores.
func pack(groups []data.Group, budget int, share bool) []microBatch {
	sizes := make([]int, len(groups))
	for i, g := range groups {
		sizes[i] = data.PackRows(g, share)
	}
	bins := data.Bins(sizes, budget)
	batches := make([]microBatch, len(bins))
	for i, bin := range bins {
		b := &batches[i]
		for _, at := range bin {
			b.groups = append(b.groups, groups[at])
		}
		b.layout = data.Pack(b.groups, share)
	}
	return batches
}
