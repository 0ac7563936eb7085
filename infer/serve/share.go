package serve

import (
	"slices"

	"rmtrain/data/tokenizer"
)

// units divides a job's conversations into units of at most budget rows, or of one
// conversation. Neighbours that begin alike stay together, because a forward pass
// computes a shared beginning once; that never changes a score.
func units(j *job, convs []tokenizer.Encoded, budget int) []*unit {
	var out []*unit
	var s stack
	for i, c := range convs {
		grown := s.with(stackOf(c.IDs))
		if s.n > 0 && grown.rows() < s.rows()+len(c.IDs) && grown.rows() <= budget {
			s = grown
			u := out[len(out)-1]
			u.convs, u.rows = append(u.convs, c), s.rows()
			continue
		}
		s = stackOf(c.IDs)
		out = append(out, &unit{job: j, first: i, convs: []tokenizer.Encoded{c}, rows: s.rows()})
	}
	return out
}

// merge returns the groups to score for a batch, and which units are in each: units
// of any jobs that begin alike are joined where that saves rows.
func merge(batch []*unit) (groups [][]tokenizer.Encoded, members [][]*unit) {
	sorted := slices.Clone(batch)
	slices.SortStableFunc(sorted, func(a, b *unit) int { return slices.Compare(a.convs[0].IDs, b.convs[0].IDs) })
	var s stack
	for _, u := range sorted {
		own := stackOf(u.convs[0].IDs)
		for _, c := range u.convs[1:] {
			own = own.with(stackOf(c.IDs))
		}
		last := len(groups) - 1
		if grown := s.with(own); s.n > 0 && grown.rows() < s.rows()+own.rows() {
			s = grown
			groups[last] = append(groups[last], u.convs...)
			members[last] = append(members[last], u)
			continue
		}
		s = own
		groups = append(groups, slices.Clone(u.convs))
		members = append(members, []*unit{u})
	}
	return groups, members
}

// A stack is what matters of a group: how much of it is shared.
type stack struct {
	n, tokens int
	ids       []int32 // of any one
	shared    int     // ids that all have in common; each keeps one of its own
}

func stackOf(ids []int32) stack { return stack{1, len(ids), ids, len(ids) - 1} }

// rows is what a forward pass needs for the group.
func (s stack) rows() int { return s.tokens - s.shared*(s.n-1) }

// with is the group of both.
func (s stack) with(o stack) stack {
	most := min(s.shared, o.shared)
	same := 0
	for same < most && s.ids[same] == o.ids[same] {
		same++
	}
	return stack{s.n + o.n, s.tokens + o.tokens, o.ids, same}
}
