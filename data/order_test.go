package data

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func TestBins(t *testing.T) {
	for name, c := range map[string]struct {
		sizes  []int
		budget int
		want   [][]int
	}{
		"nothing":                    {nil, 10, nil},
		"first fit decreasing":       {[]int{4, 8, 1, 4, 2, 1}, 10, [][]int{{0, 2, 3, 5}, {1, 4}}},
		"too large ones are alone":   {[]int{1, 20, 1, 30}, 10, [][]int{{0, 2}, {1}, {3}}},
		"equal sizes in their order": {[]int{5, 5, 5, 5}, 10, [][]int{{0, 1}, {2, 3}}},
	} {
		if got := Bins(c.sizes, c.budget); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v instead of %v", name, got, c.want)
		}
	}
}

func TestBinsHoldEveryItemOnceWithinTheBudget(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		sizes := make([]int, random.IntN(40))
		total := 0
		for i := range sizes {
			sizes[i] = 1 + random.IntN(30)
			total += sizes[i]
		}
		const budget = 25
		seen := make([]bool, len(sizes))
		firsts := []int{}
		bins := Bins(sizes, budget)
		for _, b := range bins {
			sum := 0
			for _, i := range b {
				if seen[i] {
					t.Fatalf("item %d twice", i)
				}
				seen[i] = true
				sum += sizes[i]
			}
			if sum > budget && len(b) > 1 || !slices.IsSorted(b) {
				t.Fatalf("bin %v of %d", b, sum)
			}
			firsts = append(firsts, b[0])
		}
		if slices.Contains(seen, false) || !slices.IsSorted(firsts) {
			t.Fatalf("bins %v of %v", bins, sizes)
		}
		if n := len(bins); n > 1 && 2*total <= (n-1)*budget {
			t.Fatalf("%d bins of %d for %d", n, budget, total)
		}
	}
}

func TestShuffleIsAPermutationOfItsOwnForEveryEpoch(t *testing.T) {
	var orders [][]int
	for epoch := range 3 {
		for seed := range uint64(3) {
			order := Shuffle(100, seed, epoch)
			sorted := slices.Sorted(slices.Values(order))
			for i, v := range sorted {
				if i != v {
					t.Fatalf("not a permutation: %v", order)
				}
			}
			for _, other := range orders {
				if slices.Equal(order, other) {
					t.Fatal("two epochs or seeds have the same order")
				}
			}
			orders = append(orders, order)
		}
	}
	if len(Shuffle(0, 1, 0)) != 0 {
		t.Error("the order of nothing is not empty")
	}
}

// A run is resumed by whatever version of the program, so the order never changes.
func TestShuffleNeverChanges(t *testing.T) {
	for _, c := range []struct {
		seed  uint64
		epoch int
		want  []int
	}{
		{0, 0, []int{1, 6, 10, 5, 11, 4, 0, 8, 9, 3, 7, 2}},
		{42, 3, []int{11, 9, 1, 4, 3, 2, 7, 6, 5, 0, 10, 8}},
	} {
		if got := Shuffle(12, c.seed, c.epoch); !slices.Equal(got, c.want) {
			t.Errorf("Shuffle(12, %d, %d) = %v, was %v", c.seed, c.epoch, got, c.want)
		}
	}
}

func TestShuffleIsFair(t *testing.T) {
	var first [5]int
	const n = 20000
	for seed := range uint64(n) {
		first[Shuffle(5, seed, 0)[0]]++
	}
	for v, count := range first {
		if count < n/5-400 || count > n/5+400 { // seven standard deviations
			t.Errorf("%d came first %d times of %d", v, count, n)
		}
	}
}
