package data

import "fmt"

// HoldOut divides d by prompt: the groups of the given number of prompts, chosen
// by seed, are held out for evaluation, and the others are left for training. Both
// keep the order of d, which stays open; both must be closed.
func HoldOut(d *Dataset, prompts int, seed uint64) (train, eval *Dataset, err error) {
	var distinct []PromptKey
	seen := map[PromptKey]bool{}
	for i := range d.Len() {
		if k := d.Prompt(i); !seen[k] {
			seen[k] = true
			distinct = append(distinct, k)
		}
	}
	if prompts < 0 || prompts >= len(distinct) {
		return nil, nil, fmt.Errorf("data: hold out %d prompts: there are only %d, and training needs one (lower eval_prompts)", prompts, len(distinct))
	}
	held := make(map[PromptKey]bool, prompts)
	for _, p := range Shuffle(len(distinct), seed, 0)[:prompts] {
		held[distinct[p]] = true
	}
	train, eval = Divide(d, func(k PromptKey) bool { return held[k] })
	return train, eval, nil
}

// Divide returns the groups of d whose prompts are not, and those whose are in a
// set. Both keep the order of d, which stays open; both must be closed.
func Divide(d *Dataset, in func(PromptKey) bool) (without, with *Dataset) {
	var out, kept []int
	for i := range d.Len() {
		if in(d.Prompt(i)) {
			out = append(out, i)
		} else {
			kept = append(kept, i)
		}
	}
	return d.Select(kept), d.Select(out)
}

// Prompts returns the keys of all prompts of d.
func (d *Dataset) Prompts() map[PromptKey]bool {
	keys := make(map[PromptKey]bool, d.Len())
	for i := range d.Len() {
		keys[d.Prompt(i)] = true
	}
	return keys
}
