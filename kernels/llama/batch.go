package llama

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"rmtrain/data"
	"rmtrain/kernels"
)

// setBatch checks a batch, makes room for it and uploads it.
func (m *Model) setBatch(batch *data.Batch) error {
	m.batch = nil
	if err := checkBatch(batch, m.Config.Vocab); err != nil {
		return err
	}
	last := int32(0)
	for _, p := range batch.Positions {
		last = max(last, p)
	}
	positions := m.rope.Rows()
	if int(last) >= positions { // by doubling, lest growing batches make a table each
		positions = min(max(int(last)+1, 2*positions), maxPosition)
	}
	if err := m.grow(len(batch.Tokens), len(batch.Scored), positions); err != nil {
		return err
	}
	m.view = m.room.fit(len(batch.Tokens), len(batch.Scored), m.view)
	m.segs, m.last = segmentsOf(batch, m.segs[:0], m.last[:0])
	m.uploadInts(m.view.ids, batch.Tokens)
	m.uploadInts(m.view.pos, batch.Positions)
	m.uploadInts(m.view.scored, batch.Scored)
	m.order = m.order[:0]
	for i := range batch.Scored {
		m.order = append(m.order, int32(i))
	}
	m.uploadInts(m.view.order, m.order)
	m.batch = batch
	return nil
}

// segmentsOf appends the segments of batch to all and, as the last layer needs
// them, to last: with no queries before the first scored row of each.
func segmentsOf(batch *data.Batch, all, last []kernels.Segment) (_, _ []kernels.Segment) {
	scored := batch.Scored
	if !slices.IsSorted(scored) {
		scored = slices.Sorted(slices.Values(scored))
	}
	for _, s := range batch.Segments {
		seg := kernels.Segment{PrefixLo: s.PrefixLo, PrefixHi: s.PrefixHi, Lo: s.Lo, Hi: s.Hi}
		all = append(all, seg)
		seg.From = s.Hi
		if i, _ := slices.BinarySearch(scored, s.Lo); i < len(scored) {
			seg.From = min(s.Hi, scored[i])
		}
		last = append(last, seg)
	}
	return all, last
}

// checkBatch refuses what would read or write outside of the tensors.
func checkBatch(b *data.Batch, vocab int) error {
	rows := int32(len(b.Tokens))
	if len(b.Positions) != len(b.Tokens) {
		return fmt.Errorf("batch: %d positions for %d tokens", len(b.Positions), rows)
	}
	for r, id := range b.Tokens {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("batch: row %d: token %d is not in the vocabulary of %d", r, id, vocab)
		}
		if p := b.Positions[r]; p < 0 || p >= maxPosition {
			return fmt.Errorf("batch: row %d: position %d, must be from 0 to %d", r, p, maxPosition-1)
		}
	}
	covered := int32(0)
	for i, s := range b.Segments {
		if s.PrefixLo < 0 || s.PrefixHi < s.PrefixLo || s.Lo < s.PrefixHi || s.Hi < s.Lo || s.Hi > rows {
			return fmt.Errorf("batch: segment %d: %+v of %d rows", i, s, rows)
		}
		covered += s.Hi - s.Lo
	}
	if covered != rows {
		return fmt.Errorf("batch: segments cover %d of %d rows", covered, rows)
	}
	seen := make(map[int32]int, len(b.Scored))
	for i, r := range b.Scored {
		if r < 0 || r >= rows {
			return fmt.Errorf("batch: score %d is read at row %d of %d", i, r, rows)
		}
		if first, ok := seen[r]; ok {
			return fmt.Errorf("batch: scores %d and %d are both read at row %d", first, i, r)
		}
		seen[r] = i
	}
	return nil
}

func (m *Model) uploadInts(dst tensor, v []int32) {
	m.host, _ = binary.Append(m.host[:0], binary.LittleEndian, v)
	m.b.Upload(dst, m.host)
}

func (m *Model) uploadFloats(dst tensor, v []float64) {
	m.host = m.host[:0]
	for _, x := range v {
		if dst.DType == kernels.F64 {
			m.host = binary.LittleEndian.AppendUint64(m.host, math.Float64bits(x))
		} else {
			m.host = binary.LittleEndian.AppendUint32(m.host, math.Float32bits(float32(x)))
		}
	}
	m.b.Upload(dst, m.host)
}

func (m *Model) downloadFloats(src tensor) []float64 {
	out := make([]float64, src.Len())
	m.host = slices.Grow(m.host[:0], src.Bytes())[:src.Bytes()]
	m.b.Download(m.host, src)
	for i := range out {
		if src.DType == kernels.F64 {
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(m.host[8*i:]))
		} else {
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(m.host[4*i:])))
		}
	}
	return out
}
