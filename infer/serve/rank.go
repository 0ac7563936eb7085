package serve

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
)

// A document is a text, or an object with one.
type document string

// UnmarshalJSON reads either form.
func (d *document) UnmarshalJSON(b []byte) error {
	var s *string
	if json.Unmarshal(b, &s) == nil && s != nil {
		*d = document(*s)
		return nil
	}
	var o struct {
		Text    *string         `json:"text"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(b, &o); err == nil {
		if o.Text != nil {
			*d = document(*o.Text)
			return nil
		}
		if text, err := contentText(o.Content); err == nil {
			*d = document(text)
			return nil
		}
	}
	return failf(kindInvalid, "a document is a text or an object with text, not %s", describe(b))
}

// documents is one document or a list.
type documents struct {
	list []document
	many bool
}

// UnmarshalJSON reads either form.
func (d *documents) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		d.many = true
		return json.Unmarshal(b, &d.list)
	}
	d.list = make([]document, 1)
	return json.Unmarshal(b, &d.list[0])
}

// answerTo is the conversation of which the document is the last message. A query in
// Nectar's form keeps its turns.
func answerTo(query, answer document) input {
	q := string(query)
	return input{prompt: &q, answer: string(answer)}
}

// handleScore scores documents as answers to queries: one to one, or many to one.
func handleScore(s *Server, x *exchange) (any, error) {
	var q struct {
		vllmOptions
		Queries   *documents `json:"queries"`
		Documents *documents `json:"documents"`
		Items     *documents `json:"items"`
		Text1     *documents `json:"text_1"`
		Text2     *documents `json:"text_2"`
		Data1     *documents `json:"data_1"`
		Data2     *documents `json:"data_2"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	queries, docs := cmp.Or(q.Queries, q.Text1, q.Data1), cmp.Or(q.Documents, q.Items, q.Text2, q.Data2)
	if queries == nil || docs == nil {
		return nil, failf(kindInvalid, "queries and documents are wanted (or text_1 and text_2, or data_1 and data_2)")
	}
	n, m := len(queries.list), len(docs.list)
	if n == 0 || m == 0 {
		return nil, failf(kindInvalid, "queries or documents are empty")
	}
	if n != m && n != 1 {
		return nil, failf(kindInvalid, "Input lengths must be either 1:1, 1:N or N:N (they are %d:%d)", n, m)
	}
	ins := make([]input, m)
	for i, d := range docs.list {
		ins[i] = answerTo(queries.list[i%n], d)
	}
	r, err := s.vllmRank(x, q.vllmOptions, ins)
	if err != nil {
		return nil, err
	}
	type scoreItem struct {
		Index  int    `json:"index"`
		Object string `json:"object"`
		Score  number `json:"score"`
	}
	out := s.list("score-", r)
	for i, v := range numbers(r.scores, q.squash()) {
		out.Data[i] = scoreItem{i, "score", v}
	}
	return out, nil
}

// vllmRank checks the options and scores.
func (s *Server) vllmRank(x *exchange, o vllmOptions, ins []input) (scored, error) {
	if err := s.named(o.Model); err != nil {
		return scored{}, err
	}
	encoding, err := o.encoding()
	if err != nil {
		return scored{}, err
	}
	return s.score(x, ins, encoding)
}

// handleRerank puts documents, as answers to the query, in order of their rewards. It
// speaks as vLLM, Jina and Cohere do and, to requests with texts, as TEI does.
func handleRerank(s *Server, x *exchange) (any, error) {
	if hasField(x.body, "texts") {
		return handleRerankTEI(s, x)
	}
	var q struct {
		vllmOptions
		Query     *document  `json:"query"`
		Documents []document `json:"documents"`
		TopN      *int       `json:"top_n"`
	}
	if err := x.decode(&q); err != nil {
		return nil, err
	}
	switch {
	case q.Query == nil:
		return nil, &failure{kind: kindInvalid, param: "query", text: "query is missing"}
	case len(q.Documents) == 0:
		return nil, &failure{kind: kindInvalid, param: "documents", text: "documents are missing or empty"}
	case q.TopN != nil && *q.TopN < 0:
		return nil, &failure{kind: kindInvalid, param: "top_n", text: fmt.Sprintf("top_n is %d", *q.TopN)}
	}
	ins := make([]input, len(q.Documents))
	for i, d := range q.Documents {
		ins[i] = answerTo(*q.Query, d)
	}
	r, err := s.vllmRank(x, q.vllmOptions, ins)
	if err != nil {
		return nil, err
	}
	type text struct {
		Text document `json:"text"`
	}
	type result struct {
		Index    int    `json:"index"`
		Document text   `json:"document"`
		Score    number `json:"relevance_score"`
	}
	type count struct {
		PromptTokens int `json:"prompt_tokens"`
		TotalTokens  int `json:"total_tokens"`
	}
	out := struct {
		ID      string   `json:"id"`
		Model   string   `json:"model"`
		Usage   count    `json:"usage"`
		Results []result `json:"results"`
	}{newID("rerank-"), s.options.Names[0], count{r.tokens(), r.tokens()}, []result{}}
	values := numbers(r.scores, q.squash())
	for n, i := range ranked(r.scores) {
		if q.TopN != nil && *q.TopN > 0 && n == *q.TopN {
			break
		}
		out.Results = append(out.Results, result{i, text{q.Documents[i]}, values[i]})
	}
	return out, nil
}
