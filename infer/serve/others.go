package serve

import (
	"time"
)

// handleSGLang answers SGLang's native /classify: the embedding is the reward.
func handleSGLang(s *Server, x *exchange) (any, error) {
	start := time.Now()
	var q struct {
		Model *string `json:"model"`
		Text  *texts  `json:"text"`
		IDs   *ids    `json:"input_ids"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	if (q.Text == nil) == (q.IDs == nil) {
		return nil, failf(kindInvalid, "one of text and input_ids is wanted")
	}
	var ins []input
	var many bool
	if q.Text != nil {
		ins, many = q.Text.inputs(), q.Text.many
	} else {
		ins, many = q.IDs.inputs(), q.IDs.many
	}
	r, err := s.score(x, ins, encodeOptions{})
	if err != nil {
		return nil, err
	}
	type meta struct {
		ID           string  `json:"id"`
		PromptTokens int     `json:"prompt_tokens"`
		Latency      float64 `json:"e2e_latency"`
	}
	type answer struct {
		Embedding []number `json:"embedding"`
		Meta      meta     `json:"meta_info"`
	}
	out := make([]answer, len(r.scores))
	for i, n := range numbers(r.scores, nil) {
		out[i] = answer{[]number{n}, meta{newID(""), len(r.convs[i].IDs), time.Since(start).Seconds()}}
	}
	if !many {
		return out[0], nil
	}
	return out, nil
}

// handleGetReward is OpenRLHF's remote reward model. Its older clients want rewards
// only, its newer ones all three.
func handleGetReward(s *Server, x *exchange) (any, error) {
	var q struct {
		Query *texts `json:"query"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	if q.Query == nil {
		return nil, failf(kindInvalid, "query, a list of texts, is missing")
	}
	r, err := s.score(x, q.Query.inputs(), encodeOptions{})
	if err != nil {
		return nil, err
	}
	rewards := numbers(r.scores, nil)
	return struct {
		Rewards []number            `json:"rewards"`
		Scores  []number            `json:"scores"`
		Logs    map[string][]number `json:"extra_logs"`
	}{rewards, rewards, map[string][]number{"dummy_scores": rewards}}, nil
}

// handleScoreEvaluation is LLaMA-Factory's. Its messages are texts that a template has
// already made.
func handleScoreEvaluation(s *Server, x *exchange) (any, error) {
	var q struct {
		Model     *string `json:"model"`
		Messages  *texts  `json:"messages"`
		MaxLength *int    `json:"max_length"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	switch {
	case q.Messages == nil || !q.Messages.many:
		return nil, failf(kindInvalid, "messages, a list of texts, are missing")
	case len(q.Messages.list) == 0:
		return nil, failf(kindInvalid, "messages are empty")
	case q.MaxLength != nil && *q.MaxLength < 1:
		return nil, failf(kindInvalid, "max_length is %d", *q.MaxLength)
	}
	var o encodeOptions
	if n := q.MaxLength; n != nil {
		no := false
		o.refuse = &no
		o.cut.length = *n
		if most := x.engine.model.Encoder.Format().MaxLength; most > 0 {
			o.cut.length = min(*n, most)
		}
	}
	r, err := s.score(x, q.Messages.inputs(), o)
	if err != nil {
		return nil, err
	}
	model := s.options.Names[0]
	if q.Model != nil {
		model = *q.Model // LLaMA-Factory repeats it
	}
	return struct {
		ID     string   `json:"id"`
		Object string   `json:"object"`
		Model  string   `json:"model"`
		Scores []number `json:"scores"`
	}{newID("scoreval-"), "score.evaluation", model, numbers(r.scores, nil)}, nil
}
