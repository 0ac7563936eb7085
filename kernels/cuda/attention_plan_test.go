//go:build nvidia

package cuda

import (
	"math/rand/v2"
	"testing"

	"rmtrain/kernels"
)

// randomSegments are all rows, in any order, with prefixes anywhere before them.
func randomSegments(r *rand.Rand, rows int32) (segs []kernels.Segment) {
	for lo := int32(0); lo < rows; {
		s := kernels.Segment{Lo: lo, Hi: min(rows, lo+r.Int32N(90))}
		if r.IntN(2) == 0 && lo > 0 {
			s.PrefixLo = r.Int32N(lo)
			s.PrefixHi = s.PrefixLo + r.Int32N(lo-s.PrefixLo+1)
		}
		if r.IntN(2) == 0 {
			s.From = s.Lo + r.Int32N(s.Hi-s.Lo+1)
		}
		segs = append(segs, s)
		lo = s.Hi
	}
	r.Shuffle(len(segs), func(i, j int) { segs[i], segs[j] = segs[j], segs[i] })
	return segs
}

type pair struct{ query, key int32 }

// seenPairs is what a segment means: query row, key row, and how often.
func seenPairs(segs []kernels.Segment, h kernels.Heads) map[pair]int {
	pairs := map[pair]int{}
	for _, s := range segs {
		prefix := s.PrefixHi - s.PrefixLo
		for q := s.Queries(); q < s.Hi; q++ {
			number := prefix + q - s.Lo
			for j := max(0, number-window(h)+1); j <= number; j++ {
				if j < prefix {
					pairs[pair{q, s.PrefixLo + j}]++
				} else {
					pairs[pair{q, s.Lo + j - prefix}]++
				}
			}
		}
	}
	return pairs
}

// Each pair of a query and a key that sees it is in one tile, which says whether it needs a
// mask; see the kernels for how they read the tiles.
func TestTilesCoverEveryPairOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		h := kernels.Heads{KV: 1, Q: 1 + r.IntN(8), Window: r.IntN(2) * (1 + r.IntN(150))}
		segs := randomSegments(r, 1+r.Int32N(250))
		want := seenPairs(segs, h)
		if got := pairsOfQueryTiles(t, segs, h); !same(got, want, h.Q) {
			t.Fatalf("query tiles of %+v, %+v cover other pairs", segs, h)
		}
		if got := pairsOfKeyTiles(t, segs, h); !same(got, want, h.Q) {
			t.Fatalf("key tiles of %+v, %+v cover other pairs", segs, h)
		}
	}
}

func same(got, want map[pair]int, heads int) bool {
	for p, n := range want {
		if got[p] != n*heads {
			return false
		}
	}
	return len(got) == len(want)
}

func pairsOfQueryTiles(t *testing.T, segs []kernels.Segment, h kernels.Heads) map[pair]int {
	const rows, keys = 64, 32
	pairs, group := map[pair]int{}, int32(h.Q)
	for _, tile := range queryTiles(segs, h, rows, keys) {
		if tile.end-tile.first > rows || tile.first >= tile.end {
			t.Fatalf("%+v", tile)
		}
		for p := tile.first; p < tile.end; p++ {
			for j := tile.begin * keys; j < tile.limit*keys; j++ {
				distance := tile.number + p/group - j
				if uint32(distance) >= uint32(window(h)) {
					if j/keys < tile.full {
						t.Fatalf("%+v: key %d is hidden from row %d in a full tile", tile, j, p)
					}
					continue
				}
				row := j + tile.keys.ownLo
				if j < tile.keys.prefix {
					row = j + tile.keys.prefixLo
				}
				if j >= tile.keys.count {
					t.Fatalf("%+v: row %d sees key %d", tile, p, j)
				}
				pairs[pair{tile.row + p/group, row}]++
			}
		}
	}
	return pairs
}

func pairsOfKeyTiles(t *testing.T, segs []kernels.Segment, h kernels.Heads) map[pair]int {
	pairs, group := map[pair]int{}, int32(h.Q)
	tiles, runs := keyTiles(segs, h, 16)
	owned := map[int32]bool{}
	for _, tile := range tiles {
		for i := range tile.rows {
			owned[tile.row+i] = true
		}
		for _, run := range runs[tile.firstRun:tile.endRun] {
			for p := run.first; p < run.end; p++ {
				for i := range tile.rows {
					distance := run.number + p/group - run.key - i
					if uint32(distance) >= uint32(window(h)) || i < run.lo || i >= run.hi {
						if p >= run.fullBegin && p < run.fullEnd {
							t.Fatalf("%+v: %+v: row %d does not see all", tile, run, p)
						}
						continue
					}
					pairs[pair{run.row + p/group, tile.row + i}]++
				}
			}
		}
	}
	for _, s := range segs {
		for r := s.Lo; r < s.Hi; r++ {
			if !owned[r] {
				t.Fatalf("row %d of %+v is in no key tile", r, segs)
			}
		}
	}
	return pairs
}

func TestPackedRowsMustBeCountable(t *testing.T) {
	for _, c := range []struct {
		rows int32
		h    kernels.Heads
		fits bool
	}{
		{1<<20 - 1, kernels.Heads{Q: 64, KV: 1}, true},
		{1 << 20, kernels.Heads{Q: 64, KV: 1}, false},
		{1 << 20, kernels.Heads{Q: 64, KV: 8}, true},
		{1<<31 - 1, kernels.Heads{Q: 8, KV: 8}, true},
	} {
		if err := wantCountable([]kernels.Segment{{Hi: c.rows}}, c.h); (err == nil) != c.fits {
			t.Errorf("%d rows, %+v: error %v, should fit: %v", c.rows, c.h, err, c.fits)
		}
	}
}
