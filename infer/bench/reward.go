package bench

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"rmtrain/data/tokenizer"
)

var (
	rewardColumns  = []string{"prompt", "chosen", "rejected", "subset", "id"}
	priorColumns   = []string{"prompt", "chosen", "rejected", "subset"}
	reward2Columns = []string{"id", "prompt", "chosen", "rejected", "num_correct", "total_completions", "subset"}
)

// parseReward reads a row of RewardBench: a pair of a subset.
func parseReward(r row, _ Settings) (*Item, error) {
	if err := r.need("prompt", "chosen", "rejected", "subset"); err != nil {
		return nil, err
	}
	it, err := parsePromptPair(r)
	if err != nil {
		return nil, err
	}
	if it.Subset, err = r.filled("subset"); err != nil {
		return nil, err
	}
	if sectionOf(it.Subset) == "" {
		return nil, fmt.Errorf("subset %q is none of RewardBench's", it.Subset)
	}
	return it, nil
}

// parsePrior reads a row of the prior sets. Which set it is of is said by subset or,
// as on the hub, by the file's name; see priorSet.
func parsePrior(r row, _ Settings) (*Item, error) {
	if err := r.need("prompt", "chosen", "rejected"); err != nil {
		return nil, err
	}
	it, err := parsePromptPair(r)
	if err != nil {
		return nil, err
	}
	if s := r.label("subset"); slices.Contains(priorSets, s) {
		it.Subset = s
	}
	return it, nil
}

// priorSet is the set that a file's name begins with, or "".
func priorSet(path string) string {
	name := filepath.Base(path)
	for _, s := range priorSets {
		if strings.HasPrefix(name, s) {
			return s
		}
	}
	return ""
}

// parsePromptPair reads two answers, texts, to a prompt, a text or messages. Every row
// is a prompt by itself, since the public scorer averages over rows.
func parsePromptPair(r row) (*Item, error) {
	ms, err := parsePrompt(r)
	if err != nil {
		return nil, err
	}
	it := &Item{}
	for i, name := range []string{"chosen", "rejected"} {
		answer, err := r.text(name)
		if err != nil {
			return nil, err
		}
		it.Completions = append(it.Completions, answered(ms, answer, name, float64(i+1)))
	}
	it.Pairs = rankPairs(it.Completions)
	return it, nil
}

// parsePrompt reads what an answer follows.
func parsePrompt(r row) ([]tokenizer.Message, error) {
	if s, err := r.filled("prompt"); err == nil {
		return asked(s), nil
	}
	ms, err := r.messages("prompt")
	if err != nil {
		_, notText := r.filled("prompt")
		return nil, fmt.Errorf("%w (nor is it a list of messages)", notText)
	}
	return ms, nil
}

// parseReward2 reads a row of RewardBench 2: correct completions, then incorrect ones.
func parseReward2(r row, _ Settings) (*Item, error) {
	if err := r.need(reward2Columns...); err != nil {
		return nil, err
	}
	it := &Item{}
	var err error
	if it.Subset, err = r.filled("subset"); err != nil {
		return nil, err
	}
	ms, err := parsePrompt(r)
	if err != nil {
		return nil, err
	}
	for i, name := range []string{"chosen", "rejected"} {
		answers, err := r.texts(name)
		if err != nil {
			return nil, err
		}
		if len(answers) == 0 {
			return nil, fmt.Errorf("%s is an empty list", name)
		}
		for _, a := range answers {
			it.Completions = append(it.Completions, answered(ms, a, name, float64(i+1)))
		}
		if i == 0 {
			it.Correct = len(answers)
		}
	}
	for name, want := range map[string]int{"num_correct": it.Correct, "total_completions": len(it.Completions)} {
		if n, err := r.count(name); err != nil {
			return nil, err
		} else if n != want {
			return nil, fmt.Errorf("%s is %d, but there are %d", name, n, want)
		}
	}
	it.Pairs = rankPairs(it.Completions)
	id, err := r.name("id")
	if err != nil {
		return nil, err
	}
	if isTies(it.Subset) {
		_, it.Prompt, err = tiesID(id)
		it.Source = id
	}
	return it, err
}

// isTies tells whether a subset of RewardBench 2 has the rule of its own.
func isTies(subset string) bool { return strings.EqualFold(subset, "ties") }

// tiesID divides an id of the subset Ties: ref:12, a question with one correct answer,
// or tied:12, the same with many.
func tiesID(id string) (kind, number string, err error) {
	kind, number, ok := strings.Cut(id, ":")
	if !ok || kind != "ref" && kind != "tied" || number == "" {
		return "", "", fmt.Errorf("id %q of the subset Ties is not ref:N or tied:N", id)
	}
	return kind, number, nil
}
