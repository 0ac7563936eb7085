package bench

import (
	"errors"
	"slices"
	"strings"
)

var truthColumns = []string{"Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers"}

// Ranks of TruthfulQA's answers.
const (
	bestAnswer = iota + 1
	correctAnswer
	incorrectAnswer
)

// parseTruth reads a question of TruthfulQA, in the columns of any of its versions: the
// best answer is not below a correct one, and both are above every incorrect one. The
// best answer is mostly listed among the correct ones too; there it is left out, because
// a text is never below itself.
func parseTruth(r row, _ Settings) (*Item, error) {
	if err := r.need("Question", "Best Answer", "Correct Answers", "Incorrect Answers"); err != nil {
		return nil, err
	}
	question, err := r.filled("Question")
	if err != nil {
		return nil, err
	}
	best, err := r.filled("Best Answer")
	if err != nil {
		return nil, err
	}
	it := &Item{Prompt: question, Source: r.label("Category")}
	seen := []string{}
	add := func(answers []string, label string, rank float64) {
		for _, a := range answers {
			if !slices.Contains(seen, a) {
				seen = append(seen, a)
				it.Completions = append(it.Completions, answered(asked(question), a, label, rank))
			}
		}
	}
	add([]string{closed(strings.TrimSpace(best))}, "best", bestAnswer)
	for _, list := range []struct {
		column, label string
		rank          float64
	}{{"Correct Answers", "correct", correctAnswer}, {"Incorrect Answers", "incorrect", incorrectAnswer}} {
		text, err := r.text(list.column)
		if err != nil {
			return nil, err
		}
		add(divide(text), list.label, list.rank)
	}
	if it.Completions[len(it.Completions)-1].Rank != incorrectAnswer {
		return nil, errors.New("no incorrect answer that is not also a correct one")
	}
	it.Pairs = rankPairs(it.Completions)
	for i, p := range it.Pairs {
		it.Pairs[i].Weak = it.Completions[p.Worse].Rank == correctAnswer
	}
	return it, nil
}

// divide divides a list at semicolons, as TruthfulQA's own code does.
func divide(list string) []string {
	var out []string
	for part := range strings.SplitSeq(list, ";") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, closed(part))
		}
	}
	return out
}

// closed ends an answer with a full stop, as TruthfulQA's own code does.
func closed(answer string) string {
	if strings.HasSuffix(answer, ".") {
		return answer
	}
	return answer + "."
}
