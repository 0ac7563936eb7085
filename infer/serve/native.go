package serve

import (
	"slices"

	"rmtrain/data/tokenizer"
	"rmtrain/infer"
)

// handleInfer takes a line of `rmtrain infer` and gives the line that it would give.
func handleInfer(s *Server, x *exchange) (any, error) {
	q, err := infer.ParseRequest(x.body)
	if err != nil {
		return nil, failf(kindInvalid, "%v", err)
	}
	r, err := s.score(x, nativeInputs(q), encodeOptions{})
	if err != nil {
		return nil, err
	}
	tokens, truncated := make([]int, len(r.convs)), make([]bool, len(r.convs))
	for i, c := range r.convs {
		tokens[i], truncated[i] = c.Tokens, c.Truncated
	}
	scores := numbers(r.scores, nil)
	if q.Many() {
		return struct {
			Scores    []number `json:"scores"`
			Tokens    []int    `json:"tokens"`
			Truncated []bool   `json:"truncated"`
		}{scores, tokens, truncated}, nil
	}
	return struct {
		Score     number `json:"score"`
		Tokens    int    `json:"tokens"`
		Truncated bool   `json:"truncated"`
	}{scores[0], tokens[0], truncated[0]}, nil
}

func nativeInputs(q infer.Request) []input {
	switch {
	case q.Text != nil:
		return []input{textInput(*q.Text)}
	case q.InputIDs != nil:
		return []input{{ids: q.InputIDs}}
	case q.Messages != nil:
		return []input{{messages: q.Messages}}
	}
	ins := make([]input, len(q.Answers))
	for i, a := range q.Answers {
		if q.Prompt != nil {
			ins[i] = input{prompt: q.Prompt, answer: a}
			continue
		}
		ins[i].messages = append(slices.Clip(q.PromptMessages), tokenizer.Message{Role: "assistant", Content: a})
	}
	return ins
}
