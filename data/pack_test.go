package data

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// group makes a group of answers by their ids.
func group(answers ...[]int32) Group {
	var g Group
	for i, a := range answers {
		g.Answers = append(g.Answers, Answer{Tokens: a, Rank: float64(i + 1)})
	}
	return g
}

func TestPackLaysTheSharedPrefixOutOnce(t *testing.T) {
	groups := []Group{
		group([]int32{5, 6, 7}, []int32{5, 6, 8, 9}), // shares 5 6
		group([]int32{1}, []int32{1, 2}),             // the shorter one is its own only token
		group([]int32{3, 4}, []int32{3, 4}),          // equal, but each keeps a token
	}
	got := Pack(groups, true)
	want := &Batch{
		Tokens:    []int32{5, 6, 7, 8, 9, 1, 1, 2, 3, 4, 4},
		Positions: []int32{0, 1, 2, 2, 3, 0, 0, 1, 0, 1, 1},
		Segments: []Segment{
			{0, 0, 0, 2}, {0, 2, 2, 3}, {0, 2, 3, 5},
			{5, 5, 5, 6}, {6, 6, 6, 8},
			{8, 8, 8, 9}, {8, 9, 9, 10}, {8, 9, 10, 11},
		},
		Scored:  []int32{2, 4, 5, 7, 9, 10},
		Answers: []int{2, 2, 2},
		Real:    14,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestPackWithoutSharingIsWholeAnswers(t *testing.T) {
	got := Pack([]Group{group([]int32{5, 6}, []int32{5, 7})}, false)
	want := &Batch{
		Tokens: []int32{5, 6, 5, 7}, Positions: []int32{0, 1, 0, 1},
		Segments: []Segment{{0, 0, 0, 2}, {2, 2, 2, 4}}, Scored: []int32{1, 3}, Answers: []int{2}, Real: 4,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestPackRefusesAnswersWithoutTokens(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Pack([]Group{group([]int32{1}, nil)}, true)
}

// randomGroup makes up to 7 answers that mostly share a prefix.
func randomGroup(random *rand.Rand) Group {
	prefix := make([]int32, random.IntN(6))
	for i := range prefix {
		prefix[i] = random.Int32N(3)
	}
	answers := make([][]int32, 1+random.IntN(7))
	for i := range answers {
		answers[i] = slices.Clone(prefix)
		for len(answers[i]) == 0 || random.IntN(3) > 0 {
			answers[i] = append(answers[i], random.Int32N(3))
		}
	}
	return group(answers...)
}

// conversation reads back what the segment number s of a batch attends to.
func conversation(b *Batch, s Segment) (tokens, positions []int32) {
	for _, r := range [][2]int32{{s.PrefixLo, s.PrefixHi}, {s.Lo, s.Hi}} {
		tokens = append(tokens, b.Tokens[r[0]:r[1]]...)
		positions = append(positions, b.Positions[r[0]:r[1]]...)
	}
	return tokens, positions
}

func TestPackedSegmentsSayEveryConversationOnce(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		groups := make([]Group, 1+random.IntN(4))
		for i := range groups {
			groups[i] = randomGroup(random)
		}
		share := random.IntN(4) > 0
		b := Pack(groups, share)
		rows, next := 0, int32(0)
		for _, g := range groups {
			rows += PackRows(g, share)
		}
		if rows != len(b.Tokens) || rows != len(b.Positions) {
			t.Fatalf("PackRows says %d, Pack made %d rows and %d positions", rows, len(b.Tokens), len(b.Positions))
		}
		ofRow := map[int32]Segment{}
		for _, s := range b.Segments {
			if s.Lo != next || s.Hi <= s.Lo || s.PrefixHi < s.PrefixLo || s.PrefixHi > s.Lo {
				t.Fatalf("segment %+v after row %d", s, next)
			}
			next = s.Hi
			ofRow[s.Hi-1] = s
		}
		if int(next) != rows {
			t.Fatalf("segments cover %d of %d rows", next, rows)
		}
		scored, real := b.Scored, 0
		for i, g := range groups {
			if b.Answers[i] != len(g.Answers) {
				t.Fatalf("group %d has %d answers, not %d", i, b.Answers[i], len(g.Answers))
			}
			for _, a := range g.Answers {
				tokens, positions := conversation(b, ofRow[scored[0]])
				if !slices.Equal(tokens, a.Tokens) {
					t.Fatalf("conversation %v instead of %v", tokens, a.Tokens)
				}
				for p := range positions {
					if positions[p] != int32(p) {
						t.Fatalf("positions %v", positions)
					}
				}
				scored, real = scored[1:], real+len(a.Tokens)
			}
		}
		if len(scored) != 0 || b.Real != real {
			t.Fatalf("%d scored rows too many, Real %d instead of %d", len(scored), b.Real, real)
		}
	}
}
