package bench

import (
	"cmp"
	"math"
	"slices"
)

// A measure is a number of a benchmark before it is evaluated.
type measure struct {
	group, name    string
	prompts, pairs int
	at             statistic
}

// The groups of a report's numbers.
const (
	groupOverall = "overall"
	groupSection = "section"
	groupSubset  = "subset"
	groupSource  = "source"
	groupLength  = "length"
)

// groups is their order.
var groups = []string{groupOverall, groupSection, groupSubset, groupLength, groupSource}

// A board is the scored items of a benchmark and their prompts, numbered.
type board struct {
	bench   string
	items   []*Item
	rows    []Row
	prompt  []int // of each item
	strata  []int // of each prompt
	pairs   []comparison
	setting Settings
}

// newBoard takes the items that have scores. RewardBench's subsets are strata: in a
// resample each has as many prompts as it has.
func newBoard(bench string, items []*Item, rows []Row, s Settings) *board {
	b := &board{bench: bench, setting: s}
	numbers, strata := map[string]int{}, map[string]int{}
	tie := s.tie()
	if bench == RewardBench || bench == RewardBench2 {
		tie = 0
	}
	for i, it := range items {
		if rows[i].Error != "" {
			continue
		}
		number, ok := numbers[it.Subset+"\x00"+it.Prompt]
		if !ok {
			number = len(numbers)
			numbers[it.Subset+"\x00"+it.Prompt] = number
			if _, ok := strata[it.Subset]; !ok {
				strata[it.Subset] = len(strata)
			}
			b.strata = append(b.strata, strata[it.Subset])
		}
		b.items, b.rows, b.prompt = append(b.items, it), append(b.rows, rows[i]), append(b.prompt, number)
		b.pairs = append(b.pairs, compare(it, rows[i], number, tie)...)
	}
	return b
}

// measures returns the numbers of the benchmark, the first of which is its headline.
func (b *board) measures() []measure {
	var ms []measure
	switch b.bench {
	case RewardBench:
		ms = b.rewardBench()
	case RewardBench2:
		ms = b.rewardBench2()
	default:
		ms = append(ms, b.accuracy(groupOverall, "accuracy", b.pairs))
		if other := map[string]string{Prompts: Pairs, Pairs: Prompts}[b.setting.Average]; other != "" {
			ms = append(ms, measure{groupOverall, "accuracy, mean over " + other, prompts(b.pairs), len(b.pairs), accuracy(b.pairs, other)})
		}
	}
	ms = append(ms, b.rankings()...)
	strict := filter(b.pairs, func(c comparison) bool { return !c.weak })
	ms = append(ms, measure{groupOverall, "calibration error", prompts(strict), len(strict), calibrationError(strict)})
	ms = append(ms, b.byLength()...)
	ms = append(ms, b.bySource()...)
	slices.SortStableFunc(ms, func(x, y measure) int {
		return cmp.Compare(slices.Index(groups, x.group), slices.Index(groups, y.group))
	})
	return ms
}

func (b *board) accuracy(group, name string, cs []comparison) measure {
	return measure{group, name, prompts(cs), len(cs), accuracy(cs, b.setting.Average)}
}

// rankings measures how scores order the completions that have ranks of their own.
func (b *board) rankings() []measure {
	var tau, gain, loss []share
	for i, it := range b.items {
		if !it.Ranked {
			continue
		}
		ranks := make([]float64, len(it.Completions))
		for c := range ranks {
			ranks[c] = it.Completions[c].Rank
		}
		scores := b.rows[i].Scores
		loss = append(loss, share{b.prompt[i], plackettLuce(scores, ranks), 1})
		if len(ranks) < 3 {
			continue
		}
		gain = append(gain, share{b.prompt[i], ndcg(scores, ranks), 1})
		// All scores equal order nothing, which is no better than chance.
		t := kendall(scores, ranks)
		if math.IsNaN(t) {
			t = 0
		}
		tau = append(tau, share{b.prompt[i], t, 1})
	}
	var ms []measure
	for _, m := range []struct {
		name   string
		shares []share
	}{{"Kendall's tau", tau}, {"NDCG", gain}, {"loss", loss}} {
		if len(m.shares) > 0 {
			ms = append(ms, measure{groupOverall, m.name, len(m.shares), 0, ratio(m.shares)})
		}
	}
	return ms
}

// A bucket is the pairs whose answers have a mean length below high, in characters, and
// not below that of the bucket before.
type bucket struct {
	high        int
	name, short string
}

var lengthBuckets = []bucket{
	{250, "below 250 characters", "<250"},
	{500, "250 to 499 characters", "<500"},
	{1000, "500 to 999 characters", "<1000"},
	{2000, "1000 to 1999 characters", "<2000"},
	{4000, "2000 to 3999 characters", "<4000"},
	{math.MaxInt, "4000 characters or more", "more"},
}

// matched is the ratio of lengths from which answers count as equally long.
const matched = 0.9

func (b *board) byLength() []measure {
	var ms []measure
	add := func(name string, keep func(comparison) bool) {
		if cs := filter(b.pairs, keep); len(cs) > 0 {
			ms = append(ms, b.accuracy(groupLength, name, cs))
		}
	}
	low := 0
	for _, l := range lengthBuckets {
		add(l.name, func(c comparison) bool {
			length := (c.better + c.worse) / 2
			return length >= low && length < l.high
		})
		low = l.high
	}
	add("length-matched", func(c comparison) bool {
		return float64(min(c.better, c.worse)) >= matched*float64(max(c.better, c.worse))
	})
	add("better answer longer", func(c comparison) bool { return c.better > c.worse })
	add("better answer shorter", func(c comparison) bool { return c.better < c.worse })
	return ms
}

func (b *board) bySource() []measure {
	if b.bench == RewardBench || b.bench == RewardBench2 {
		return nil // subsets say it
	}
	bySource := map[string][]comparison{}
	for _, c := range b.pairs {
		bySource[c.item.Source] = append(bySource[c.item.Source], c)
	}
	if len(bySource) == 1 {
		return nil
	}
	var ms []measure
	for source, cs := range bySource {
		if source == "" {
			source = "(none)"
		}
		ms = append(ms, b.accuracy(groupSource, source, cs))
	}
	slices.SortFunc(ms, func(x, y measure) int {
		if x.pairs != y.pairs {
			return y.pairs - x.pairs
		}
		return cmp.Compare(x.name, y.name)
	})
	return ms
}
