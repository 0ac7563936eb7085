//go:build nvidia

package cuda

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"rmtrain/kernels"
)

// keyRows says where the keys of a segment lie; Keys in attention.cuh.
type keyRows struct {
	prefixLo, prefix, ownLo int32 // key number j is row prefixLo+j if j < prefix, else ownLo+j
	count                   int32
}

// A queryTile is the work of one block of the forward and dQ kernels; QueryTile in
// attention.cuh. Packed row p of a segment is head p%group of its query p/group.
type queryTile struct {
	keys               keyRows
	row, number        int32 // the segment's first query, and the number of its own key
	first, end         int32 // packed rows
	begin, full, limit int32 // key tiles [begin, limit); nothing is hidden in [begin, full)
	_                  int32
}

// queryTiles cuts the queries of all segments into tiles of rows packed rows, which
// see tiles of keys keys. The longest come first, so that the last blocks to run are
// short.
func queryTiles(segs []kernels.Segment, h kernels.Heads, rows, keys int32) []queryTile {
	group := int32(h.Q / h.KV)
	var tiles []queryTile
	for _, s := range segs {
		prefix, first := s.PrefixHi-s.PrefixLo, s.Queries()
		packed := (s.Hi - first) * group
		for at := int32(0); at < packed; at += rows {
			t := queryTile{
				keys:   keyRows{prefixLo: s.PrefixLo, prefix: prefix, ownLo: s.Lo - prefix},
				row:    first,
				number: prefix + first - s.Lo,
				first:  at,
				end:    min(at+rows, packed),
			}
			t.see(group, window(h), keys)
			tiles = append(tiles, t)
		}
	}
	slices.SortStableFunc(tiles, func(a, b queryTile) int { return cmp.Compare(b.limit-b.begin, a.limit-a.begin) })
	return tiles
}

// see sets which key tiles the rows of t see. If the window hides keys from any of
// them, all tiles count as such in which something is hidden.
func (t *queryTile) see(group, window, keys int32) {
	least, most := t.number+t.first/group, t.number+(t.end-1)/group
	t.keys.count = most + 1
	t.begin = max(0, least-window+1) / keys
	t.full, t.limit = (least+1)/keys, most/keys+1
	if most >= window {
		t.full = t.begin
	}
}

// window returns how many keys a query sees at most.
func window(h kernels.Heads) int32 {
	if h.Window == 0 || h.Window > math.MaxInt32 {
		return math.MaxInt32
	}
	return int32(h.Window)
}

// A keyTile is the work of one block of the dK and dV kernels: rows [row, row+rows) of one
// segment, of which those before query are keys only; KeyTile in attention.cuh.
type keyTile struct {
	row, rows, query int32
	firstRun, endRun int32
}

// A queryRun is the queries of one segment that see a key tile: packed rows [first, end),
// which see rows [lo, hi) of the tile, and all of it in [fullBegin, fullEnd); QueryRun in
// attention.cuh.
type queryRun struct {
	row, number        int32 // the segment's first query, and the number of its own key
	key                int32 // the number of the tile's first row in this segment
	lo, hi             int32
	first, end         int32
	fullBegin, fullEnd int32
	_                  [3]int32
}

// keyTiles cuts the rows of all segments into tiles of rows keys, and lists for each the
// queries that see it: those of its own segment, and of all whose prefix it belongs to.
// The order of segments is that of the sums. The longest come first.
func keyTiles(segs []kernels.Segment, h kernels.Heads, rows int32) ([]keyTile, []queryRun) {
	var tiles []keyTile
	var runs []queryRun
	work := map[int32]int32{} // packed rows by tile
	for i, s := range segs {
		for at := s.Lo; at < s.Hi; at += rows {
			t := keyTile{row: at, rows: min(rows, s.Hi-at), query: s.Queries(), firstRun: int32(len(runs))}
			for j, other := range segs {
				if lo, hi := max(at, other.PrefixLo), min(at+t.rows, other.PrefixHi); lo < hi {
					runs = appendRun(runs, t, other, h, at-other.PrefixLo, lo-at, hi-at)
				}
				if i == j {
					runs = appendRun(runs, t, s, h, s.PrefixHi-s.PrefixLo+at-s.Lo, 0, t.rows)
				}
			}
			t.endRun = int32(len(runs))
			for _, r := range runs[t.firstRun:] {
				work[at] += r.end - r.first
			}
			tiles = append(tiles, t)
		}
	}
	slices.SortStableFunc(tiles, func(a, b keyTile) int { return cmp.Compare(work[b.row], work[a.row]) })
	return tiles, runs
}

// appendRun appends the queries of s that see any of rows [lo, hi) of t, whose first row
// has the number key in s.
func appendRun(runs []queryRun, t keyTile, s kernels.Segment, h kernels.Heads, key, lo, hi int32) []queryRun {
	first, group, sees := s.Queries(), int32(h.Q/h.KV), int64(window(h))
	r := queryRun{row: first, number: s.PrefixHi - s.PrefixLo + first - s.Lo, key: key, lo: lo, hi: hi}
	// packed returns the first packed row of the query of that number, within the segment's.
	packed := func(number int64) int32 {
		return int32(min(max(0, number-int64(r.number)), int64(s.Hi-first))) * group
	}
	r.first, r.end = packed(int64(key+lo)), packed(int64(key+hi-1)+sees)
	if r.first >= r.end {
		return runs
	}
	if lo == 0 && hi == t.rows {
		r.fullBegin, r.fullEnd = packed(int64(key+hi-1)), packed(int64(key)+sees)
	}
	return append(runs, r)
}

// An attentionPlan is the work lists of a batch on the device.
type attentionPlan struct {
	segs   []kernels.Segment
	h      kernels.Heads
	name   string // of the kernel whose tiles these are
	memory region

	queries, keys             int // tiles
	queriesAt, keysAt, runsAt address
}

// plan returns p for these segments, with tiles of keys or without. It is kept as long as they
// stay the same: the layers of a network ask for the same again and again.
func (b *backend) plan(p *attentionPlan, segs []kernels.Segment, h kernels.Heads, k attentionKernel, byKeys bool) (*attentionPlan, error) {
	if p.name == k.name && p.h == h && slices.Equal(p.segs, segs) {
		return p, nil
	}
	if err := wantCountable(segs, h); err != nil {
		return nil, err
	}
	p.name = "" // until the device has it all
	queries := queryTiles(segs, h, k.rows, k.keys)
	var keys []keyTile
	var runs []queryRun
	if byKeys {
		keys, runs = keyTiles(segs, h, k.rows)
	}
	list := slices.Concat(bytesOf(queries), bytesOf(runs), bytesOf(keys)) // those that need it begin at multiples of 16 bytes
	if err := b.grow(&p.memory, len(list)); err != nil {
		return nil, err
	}
	if err := b.ring.send(p.memory.at, len(list), from(list)); err != nil {
		return nil, err
	}
	p.queries, p.keys = len(queries), len(keys)
	p.queriesAt = p.memory.at
	p.runsAt = p.queriesAt + address(len(bytesOf(queries)))
	p.keysAt = p.runsAt + address(len(bytesOf(runs)))
	p.segs, p.h, p.name = slices.Clone(segs), h, k.name
	return p, nil
}

// wantCountable returns an error if packed rows are more than the kernels can divide by the
// group; see Group in attention.cuh.
func wantCountable(segs []kernels.Segment, h kernels.Heads) error {
	group := int64(h.Q / h.KV)
	for _, s := range segs {
		if rows := int64(s.Hi - s.Lo); rows*group*group >= 1<<32 {
			return fmt.Errorf("a segment of %d rows is too long for %d query heads to a key head (use device cpu, or a smaller max_length)", rows, group)
		}
	}
	return nil
}

func bytesOf[T any](x []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*int(unsafe.Sizeof(*new(T))))
}
