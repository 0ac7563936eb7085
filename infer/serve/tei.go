package serve

import (
	"encoding/json"
	"fmt"
	"strings"
)

// teiOptions are the fields that the requests of Text Embeddings Inference share.
type teiOptions struct {
	RawScores *bool  `json:"raw_scores"` // only an explicit false asks for a sigmoid
	Truncate  *bool  `json:"truncate"`
	Direction string `json:"truncation_direction"`
}

func (o teiOptions) encoding() (encodeOptions, error) {
	var out encodeOptions
	if o.Truncate != nil {
		refuse := !*o.Truncate
		out.refuse = &refuse
	}
	switch out.cut.side = strings.ToLower(o.Direction); out.cut.side {
	case "", "left", "right":
		return out, nil
	}
	return out, failf(kindInvalid, "truncation_direction %q is unknown (Left or Right)", o.Direction)
}

func (o teiOptions) squash() func(float64) float64 {
	if o.RawScores != nil && !*o.RawScores {
		return sigmoid
	}
	return nil
}

// A teiInput is a text, a pair, or a batch of lists that hold one or two texts each.
// A pair is a prompt and its answer.
type teiInput struct {
	list  []input
	batch bool
}

// UnmarshalJSON reads any form.
func (t *teiInput) UnmarshalJSON(b []byte) error {
	var flat texts
	if flat.UnmarshalJSON(b) == nil {
		if len(flat.list) == 0 {
			*t = teiInput{batch: true}
			return nil
		}
		one, err := sequence(flat.list)
		*t = teiInput{list: []input{one}}
		return err
	}
	var lists [][]*string
	if json.Unmarshal(b, &lists) != nil || lists == nil {
		return failf(kindInvalid, "inputs: a text, a pair [text, text] or a batch [[text], [text, text], ...] is wanted, not %s", describe(b))
	}
	*t = teiInput{batch: true, list: make([]input, len(lists))}
	for i, l := range lists {
		given, err := notNull("inputs", l)
		if err != nil {
			return err
		}
		if t.list[i], err = sequence(given); err != nil {
			return err
		}
	}
	return nil
}

// notNull returns the texts of a list, none of which may be null.
func notNull(field string, l []*string) ([]string, error) {
	out := make([]string, len(l))
	for i, s := range l {
		if s == nil {
			return nil, failf(kindInvalid, "%s: item %d of a list of texts is null", field, i)
		}
		out[i] = *s
	}
	return out, nil
}

func sequence(l []string) (input, error) {
	switch len(l) {
	case 1:
		return textInput(l[0]), nil
	case 2:
		return answerTo(document(l[0]), document(l[1])), nil
	}
	return input{}, failf(kindInvalid, "inputs: a list of %d texts is neither a text nor a pair (a batch is a list of lists: [[text], [text]])", len(l))
}

type prediction struct {
	Label string `json:"label"`
	Score number `json:"score"`
}

// handlePredict also knows how huggingface_hub asks for text-classification.
func handlePredict(s *Server, x *exchange) (any, error) {
	var q struct {
		teiOptions
		Inputs     *teiInput `json:"inputs"`
		Parameters struct {
			Function *string `json:"function_to_apply"`
		} `json:"parameters"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	switch {
	case q.Inputs == nil:
		return nil, failf(kindInvalid, "inputs are missing")
	case len(q.Inputs.list) == 0:
		return nil, errEmptyBatch
	}
	f := q.squash()
	if name := q.Parameters.Function; name != nil {
		switch *name {
		case "none":
			f = nil
		case "sigmoid":
			f = sigmoid
		default:
			return nil, failf(kindInvalid, "function_to_apply %q makes no sense for one label (none or sigmoid)", *name)
		}
	}
	encoding, err := q.encoding()
	if err != nil {
		return nil, err
	}
	r, err := s.score(x, q.Inputs.list, encoding)
	if err != nil {
		return nil, err
	}
	out := make([][]prediction, len(r.scores))
	for i, v := range numbers(r.scores, f) {
		out[i] = []prediction{{label, v}}
	}
	if q.Inputs.batch {
		return out, nil
	}
	return out[0], nil
}

// errEmptyBatch has TEI's words.
var errEmptyBatch = &failure{kind: kindEmpty, text: "Batch is empty"}

func handleRerankTEI(s *Server, x *exchange) (any, error) {
	var q struct {
		teiOptions
		Query      *string   `json:"query"`
		Texts      []*string `json:"texts"`
		ReturnText bool      `json:"return_text"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	switch {
	case q.Query == nil:
		return nil, failf(kindInvalid, "query is missing")
	case len(q.Texts) == 0:
		return nil, errEmptyBatch
	}
	encoding, err := q.encoding()
	if err != nil {
		return nil, err
	}
	texts, err := notNull("texts", q.Texts)
	if err != nil {
		return nil, err
	}
	ins := make([]input, len(texts))
	for i, t := range texts {
		ins[i] = answerTo(document(*q.Query), document(t))
	}
	r, err := s.score(x, ins, encoding)
	if err != nil {
		return nil, err
	}
	type rank struct {
		Index int     `json:"index"`
		Text  *string `json:"text,omitempty"`
		Score number  `json:"score"`
	}
	out := []rank{}
	values := numbers(r.scores, q.squash())
	for _, i := range ranked(r.scores) {
		one := rank{Index: i, Score: values[i]}
		if q.ReturnText {
			one.Text = &texts[i]
		}
		out = append(out, one)
	}
	return out, nil
}

// handleInfo describes the server as TEI does.
func handleInfo(s *Server, x *exchange) (any, error) {
	m := x.engine.model
	return map[string]any{
		"model_id": s.options.Names[0], "model_sha": nil, "model_dtype": m.DType,
		"model_type":              map[string]any{"classifier": map[string]any{"id2label": map[string]string{"0": label}, "label2id": map[string]int{label: 0}}},
		"max_concurrent_requests": s.limits.Queue, "max_input_length": m.Length,
		"max_batch_tokens": s.limits.BatchTokens, "max_batch_requests": nil, "max_client_batch_size": s.limits.Inputs,
		"auto_truncate": !s.limits.RefuseTooLong, "tokenization_workers": cap(s.encode),
		"version": s.options.Version, "sha": nil, "docker_label": nil,
	}, nil
}

// teiToken is a token of TEI's /tokenize. Where it stood in the text is not known here.
type teiToken struct {
	ID      int32  `json:"id"`
	Text    string `json:"text"`
	Special bool   `json:"special"`
	Start   *int   `json:"start"`
	Stop    *int   `json:"stop"`
}

func handleTokenizeTEI(s *Server, x *exchange) (any, error) {
	var q struct {
		Inputs  *texts `json:"inputs"`
		Special *bool  `json:"add_special_tokens"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	ins := q.Inputs.inputs()
	if len(ins) == 0 {
		return nil, errEmptyBatch
	}
	for i := range ins {
		ins[i].specials = q.Special
	}
	convs, err := s.encodeAll(x.Context(), x.engine, ins, encodeOptions{cut: cut{length: whole}})
	if err != nil {
		return nil, err
	}
	special, tok := x.engine.special(), x.engine.model.Encoder.Tokenizer()
	out := make([][]teiToken, len(convs))
	for i, c := range convs {
		out[i] = make([]teiToken, len(c.IDs))
		for j, id := range c.IDs {
			text, err := tok.Decode([]int32{id})
			if err != nil {
				return nil, fmt.Errorf("decode id %d: %w", id, err)
			}
			out[i][j] = teiToken{ID: id, Text: text, Special: special[id]}
		}
	}
	return out, nil
}
