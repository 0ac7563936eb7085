package data

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// Bins distributes items of the given sizes over bins of at most budget each, first
// fit decreasing; an item over the budget has a bin of its own. Items keep their
// order within a bin, and bins are in the order of their first items.
func Bins(sizes []int, budget int) [][]int {
	order := make([]int, len(sizes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sizes[b], sizes[a]) })
	var bins [][]int
	var room []int
	for _, item := range order {
		b := slices.IndexFunc(room, func(r int) bool { return sizes[item] <= r })
		if b < 0 {
			b = len(bins)
			bins, room = append(bins, nil), append(room, max(budget, sizes[item]))
		}
		bins[b] = append(bins[b], item)
		room[b] -= sizes[item]
	}
	for _, b := range bins {
		slices.Sort(b)
	}
	slices.SortFunc(bins, func(a, b []int) int { return cmp.Compare(a[0], b[0]) })
	return bins
}

// Shuffle returns the order in which epoch (from 0) visits n groups, the same for
// the same seed everywhere: Fisher and Yates's shuffle of 0..n-1 from the last place
// down, driven by PCG-DXSM with the state (seed, epoch). It is spelled out because
// rand.Shuffle may change with a Go release, and a run must be resumable by another.
func Shuffle(n int, seed uint64, epoch int) []int {
	random := rand.NewPCG(seed, uint64(epoch))
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := below(random, uint64(i)+1)
		order[i], order[j] = order[j], order[i]
	}
	return order
}

// below returns a uniform number in [0, n), by Lemire's multiplication with rejection.
func below(random *rand.PCG, n uint64) uint64 {
	hi, lo := bits.Mul64(random.Uint64(), n)
	for unfair := -n % n; lo < unfair; {
		hi, lo = bits.Mul64(random.Uint64(), n)
	}
	return hi
}
