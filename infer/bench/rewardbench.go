package bench

import "slices"

// subset is the accuracy of one subset of RewardBench: the share of rows whose chosen
// answer has the strictly higher score.
func (b *board) subset(name string) (measure, bool) {
	cs := filter(b.pairs, func(c comparison) bool { return c.item.Subset == name })
	return measure{groupSubset, name, len(cs), len(cs), accuracy(cs, Pairs)}, len(cs) > 0
}

// rewardBench follows the public scorer: a section is the mean of its subsets, weighted
// by exampleCounts; the score is the mean of the sections, in which the prior sets, if
// they are there, have half the weight of a section.
func (b *board) rewardBench() []measure {
	var overall, bySection, subsets []measure
	var parts []statistic
	var weights []float64
	for _, s := range sections {
		var accuracies []statistic
		var counts []float64
		total := measure{group: groupSection, name: s.name}
		for _, name := range s.subsets {
			m, ok := b.subset(name)
			if !ok {
				continue
			}
			subsets = append(subsets, m)
			accuracies, counts = append(accuracies, m.at), append(counts, float64(exampleCounts[name]))
			total.prompts += m.prompts
			total.pairs += m.pairs
		}
		if len(accuracies) == 0 {
			continue
		}
		total.at = weighted(accuracies, counts)
		bySection = append(bySection, total)
		parts, weights = append(parts, total.at), append(weights, 2)
	}
	if len(parts) == len(sections) {
		overall = append(overall, sumOf("score", bySection, mean(parts)))
	}
	if prior, inPrior := b.prior(); len(inPrior) > 0 {
		bySection, subsets = append(bySection, prior), append(subsets, inPrior...)
		if len(parts) == len(sections) {
			overall = append(overall, sumOf("score with prior sets", bySection, weighted(append(parts, prior.at), append(weights, 1))))
		}
	}
	if len(overall) == 0 { // not the whole benchmark: no score, so the plain accuracy leads
		overall = append(overall, measure{groupOverall, "accuracy over rows", len(b.items), len(b.pairs), accuracy(b.pairs, Pairs)})
	}
	return slices.Concat(overall, bySection, subsets)
}

// prior is the plain mean of the prior sets.
func (b *board) prior() (measure, []measure) {
	total := measure{group: groupSection, name: "Prior sets"}
	var sets []measure
	var parts []statistic
	for _, name := range priorSets {
		if m, ok := b.subset(name); ok {
			sets, parts = append(sets, m), append(parts, m.at)
			total.prompts += m.prompts
			total.pairs += m.pairs
		}
	}
	total.at = mean(parts)
	return total, sets
}

// sumOf is a number over parts.
func sumOf(name string, parts []measure, at statistic) measure {
	m := measure{group: groupOverall, name: name, at: at}
	for _, p := range parts {
		m.prompts += p.prompts
		m.pairs += p.pairs
	}
	return m
}
