package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// vllmOptions are the fields that vLLM's pooling requests share. Those that vLLM has
// beyond these (priority, user, request_id and others) have no influence here.
type vllmOptions struct {
	Model                *string `json:"model"`
	AddSpecialTokens     *bool   `json:"add_special_tokens"`
	TruncatePromptTokens *int    `json:"truncate_prompt_tokens"`
	TruncationSide       string  `json:"truncation_side"`

	// Whether to apply a sigmoid, by its names through the years.
	UseActivation *bool `json:"use_activation"`
	Activation    *bool `json:"activation"`
	Softmax       *bool `json:"softmax"`
}

func (o vllmOptions) squash() func(float64) float64 {
	return squash(o.UseActivation, o.Activation, o.Softmax)
}

// encoding is how the request wants its inputs cut.
func (o vllmOptions) encoding() (encodeOptions, error) {
	var out encodeOptions
	switch o.TruncationSide {
	case "", "left", "right":
		out.cut.side = o.TruncationSide
	default:
		return out, &failure{kind: kindInvalid, param: "truncation_side", text: fmt.Sprintf("truncation_side %q is unknown (left or right)", o.TruncationSide)}
	}
	if n := o.TruncatePromptTokens; n != nil {
		if *n < -1 || *n == 0 {
			return out, &failure{kind: kindInvalid, param: "truncate_prompt_tokens", text: fmt.Sprintf("truncate_prompt_tokens is %d (a number of tokens, or -1 for as many as the model reads)", *n)}
		}
		no := false
		out.refuse = &no
		out.cut.length = max(0, *n)
	}
	return out, nil
}

// vllmInput is a text in any form, or a conversation.
type vllmInput struct {
	Input    *anyInput `json:"input"`
	Messages *chat     `json:"messages"`

	// The checkpoint's own template is the only one that scores as trained; a request
	// for anything else is refused rather than ignored.
	AddGenerationPrompt  bool            `json:"add_generation_prompt"`
	ContinueFinalMessage bool            `json:"continue_final_message"`
	ChatTemplate         *string         `json:"chat_template"`
	ChatTemplateKwargs   json.RawMessage `json:"chat_template_kwargs"`
	Tools                json.RawMessage `json:"tools"`
	Documents            json.RawMessage `json:"documents"`
}

func (v vllmInput) inputs(x *exchange, specials *bool) ([]input, error) {
	switch {
	case (v.Input == nil) == (v.Messages == nil):
		return nil, failf(kindInvalid, "one of input and messages is wanted")
	case v.Input != nil:
		for i := range v.Input.list {
			v.Input.list[i].specials = specials
		}
		if len(v.Input.list) == 0 {
			return nil, &failure{kind: kindInvalid, param: "input", text: "input is empty"}
		}
		return v.Input.list, nil
	}
	for _, field := range []struct {
		name  string
		wrong bool
	}{
		{"add_generation_prompt", v.AddGenerationPrompt},
		{"continue_final_message", v.ContinueFinalMessage},
		{"chat_template", v.ChatTemplate != nil && *v.ChatTemplate != x.engine.model.Encoder.Format().Template},
		{"chat_template_kwargs", hasContent(v.ChatTemplateKwargs)},
		{"tools", hasContent(v.Tools)},
		{"documents", hasContent(v.Documents)},
	} {
		if field.wrong {
			return nil, &failure{kind: kindInvalid, param: field.name, text: field.name + " would change the text; messages are scored with the template that the model was trained with (render the text yourself and send it as input)"}
		}
	}
	if specials != nil && !*specials {
		specials = nil // a template writes its own; that is what messages means here
	}
	return []input{{messages: *v.Messages, specials: specials}}, nil
}

// hasContent tells whether b is more than null or an empty object or list.
func hasContent(b json.RawMessage) bool {
	return !slices.Contains([]string{"", "null", "{}", "[]"}, string(bytes.TrimSpace(b)))
}

// usage is OpenAI's count of tokens.
type usage struct {
	PromptTokens     int  `json:"prompt_tokens"`
	TotalTokens      int  `json:"total_tokens"`
	CompletionTokens int  `json:"completion_tokens"`
	Details          *int `json:"prompt_tokens_details"` // always null
}

func usageOf(r scored) usage { return usage{PromptTokens: r.tokens(), TotalTokens: r.tokens()} }

// vllmList is the frame of most answers.
type vllmList struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	Model   string `json:"model"`
	Data    []any  `json:"data"`
	Usage   usage  `json:"usage"`
}

func (s *Server) list(id string, r scored) vllmList {
	return vllmList{ID: newID(id), Object: "list", Created: unixNow(), Model: s.options.Names[0], Data: make([]any, len(r.scores)), Usage: usageOf(r)}
}

// vllmScore reads and scores what /classify, /pooling and /v1/embeddings have in common.
func (s *Server) vllmScore(x *exchange, o vllmOptions, in vllmInput) (scored, error) {
	if err := s.named(o.Model); err != nil {
		return scored{}, err
	}
	encoding, err := o.encoding()
	if err != nil {
		return scored{}, err
	}
	ins, err := in.inputs(x, o.AddSpecialTokens)
	if err != nil {
		return scored{}, err
	}
	return s.score(x, ins, encoding)
}

// label is the name of the only class, as checkpoints of one label have it.
const label = "LABEL_0"

func handleClassify(s *Server, x *exchange) (any, error) {
	if hasField(x.body, "text", "input_ids") {
		return handleSGLang(s, x)
	}
	var q struct {
		vllmOptions
		vllmInput
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	r, err := s.vllmScore(x, q.vllmOptions, q.vllmInput)
	if err != nil {
		return nil, err
	}
	type class struct {
		Index      int      `json:"index"`
		Label      string   `json:"label"`
		Probs      []number `json:"probs"`
		NumClasses int      `json:"num_classes"`
	}
	out := s.list("classify-", r)
	for i, n := range numbers(r.scores, q.squash()) {
		out.Data[i] = class{i, label, []number{n}, 1}
	}
	return out, nil
}

func handlePooling(s *Server, x *exchange) (any, error) {
	var q struct {
		vllmOptions
		vllmInput
		Task           *string `json:"task"`
		EncodingFormat string  `json:"encoding_format"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	if q.Task != nil && *q.Task != "classify" && *q.Task != "score" {
		return nil, &failure{kind: kindInvalid, param: "task", text: fmt.Sprintf("task %q is not what a reward model does (classify or score)", *q.Task)}
	}
	r, err := s.vllmScore(x, q.vllmOptions, q.vllmInput)
	if err != nil {
		return nil, err
	}
	type pooled struct {
		Index  int    `json:"index"`
		Object string `json:"object"`
		Data   any    `json:"data"`
	}
	out := s.list("pool-", r)
	for i, n := range numbers(r.scores, q.squash()) {
		data, err := floatsIn(q.EncodingFormat, n)
		if err != nil {
			return nil, err
		}
		out.Data[i] = pooled{i, "pooling", data}
	}
	return out, nil
}

// handleEmbeddings answers as SGLang does for a reward model: the embedding is the
// reward. verl and OpenAI's clients ask so.
func handleEmbeddings(s *Server, x *exchange) (any, error) {
	var q struct {
		vllmOptions
		vllmInput
		EncodingFormat string `json:"encoding_format"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	r, err := s.vllmScore(x, q.vllmOptions, q.vllmInput)
	if err != nil {
		return nil, err
	}
	type embedding struct {
		Index     int    `json:"index"`
		Object    string `json:"object"`
		Embedding any    `json:"embedding"`
	}
	out := s.list("embd-", r)
	for i, n := range numbers(r.scores, q.squash()) {
		data, err := floatsIn(q.EncodingFormat, n)
		if err != nil {
			return nil, err
		}
		out.Data[i] = embedding{i, "embedding", data}
	}
	return out, nil
}
