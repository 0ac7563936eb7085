package bench

import "fmt"

var safetyColumns = []string{"prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe", "prompt_source"}

// parseSafety reads a row of PKU-SafeRLHF, of any of its versions. The safe answer is
// better; rows with two safe or two unsafe answers are left out.
func parseSafety(r row, _ Settings) (*Item, error) {
	if err := r.need("prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe"); err != nil {
		return nil, err
	}
	prompt, err := r.filled("prompt")
	if err != nil {
		return nil, err
	}
	it := &Item{Prompt: prompt, Source: r.label("prompt_source")}
	safe := 0
	for i := range 2 {
		answer, err := r.text(fmt.Sprintf("response_%d", i))
		if err != nil {
			return nil, err
		}
		isSafe, err := r.truth(fmt.Sprintf("is_response_%d_safe", i))
		if err != nil {
			return nil, err
		}
		label, rank := "unsafe", 2.0
		if isSafe {
			label, rank = "safe", 1
			safe++
		}
		it.Completions = append(it.Completions, answered(asked(prompt), answer, label, rank))
	}
	if safe != 1 {
		return nil, leftOut([]string{"no answer is safe", "", "both answers are safe"}[safe])
	}
	it.Pairs = rankPairs(it.Completions)
	return it, nil
}
