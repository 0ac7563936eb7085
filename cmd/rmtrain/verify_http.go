package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rmtrain/data/tokenizer"
	"rmtrain/infer"
	"rmtrain/infer/serve"
)

const (
	askAtOnce  = 8         // requests
	idsAtOnce  = 16        // conversations of a request
	mostAnswer = 256 << 20 // bytes
)

// key reads the key that --against asks for.
func (o verifyOptions) key() (string, error) {
	if o.keyFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(o.keyFile)
	if err != nil {
		return "", fmt.Errorf("verify: read --api-key-file: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line, nil
		}
	}
	return "", fmt.Errorf("verify: --api-key-file %s holds no key", o.keyFile)
}

// A question is a request and the conversations that its answer scores.
type question struct {
	body any
	at   []int
}

// An endpoint is asked over HTTP.
type endpoint struct {
	url, key string
	client   *http.Client
	parse    func([]byte) ([]float64, error)
}

// A refusal is an answer without scores.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return fmt.Sprintf("status %d: %.300s", r.status, r.text) }

// ask asks all questions, several at once. Questions that are refused are one error
// beside the scores of the others.
func (v *verification) ask(ctx context.Context, e endpoint, questions []question) ([]found, error) {
	var g errgroup.Group
	g.SetLimit(askAtOnce)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var out []found
	var first error
	bad := 0
	for _, q := range questions {
		g.Go(func() error {
			scores, err := e.post(ctx, q)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				bad++
				first = cmp.Or(first, fmt.Errorf("%s: %w", v.names[q.at[0]], err))
				if !errors.As(err, &refusal{}) {
					cancel() // the others would fail as well
				}
				return nil
			}
			for i, x := range scores {
				out = append(out, found{q.at[i], x})
			}
			return nil
		})
	}
	_ = g.Wait() // errors are counted
	if bad > 0 {
		return out, fmt.Errorf("%d of %d requests failed, the first for %w", bad, len(questions), first)
	}
	return out, nil
}

func (e endpoint) post(ctx context.Context, q question) ([]float64, error) {
	body, err := json.Marshal(q.body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if e.key != "" {
		r.Header.Set("Authorization", "Bearer "+e.key)
	}
	answer, err := e.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, mostAnswer))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, refusal{answer.StatusCode, strings.TrimSpace(string(b))}
	}
	scores, err := e.parse(b)
	if err != nil {
		return nil, refusal{answer.StatusCode, err.Error()}
	}
	if len(scores) != len(q.at) {
		return nil, refusal{answer.StatusCode, fmt.Sprintf("%d scores for %d conversations", len(scores), len(q.at))}
	}
	return scores, nil
}

// parseInfer reads the answer to a line of `rmtrain infer`.
func parseInfer(b []byte) ([]float64, error) {
	var a struct {
		Score  *float32 // in which networks compute, and servers write
		Scores []float32
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("the answer is not as it should be: %w", err)
	}
	if a.Score != nil {
		a.Scores = append(a.Scores, *a.Score)
	}
	return widen(a.Scores), nil
}

// parseClassify reads vLLM's answer.
func parseClassify(b []byte) ([]float64, error) {
	var a struct {
		Data []struct {
			Index int       `json:"index"`
			Probs []float32 `json:"probs"`
		} `json:"data"`
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("the answer is not that of vLLM's /classify: %w", err)
	}
	scores := make([]float32, len(a.Data))
	seen := make([]bool, len(a.Data))
	for i, d := range a.Data {
		switch {
		case len(d.Probs) != 1:
			return nil, fmt.Errorf("item %d of the answer has %d probs, and a reward model's has one", i, len(d.Probs))
		case d.Index < 0 || d.Index >= len(seen) || seen[d.Index]:
			return nil, fmt.Errorf("item %d of the answer has the index %d", i, d.Index)
		}
		scores[d.Index], seen[d.Index] = d.Probs[0], true
	}
	return widen(scores), nil
}

func widen(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// serveScorer serves the open scorer on a port of the loopback, as `rmtrain serve`
// does, while f runs.
func (v *verification) serveScorer(ctx context.Context, f func(url string) ([]found, error)) (out []found, err error) {
	s, err := serve.New(serve.Options{
		Open: func() (*serve.Model, error) {
			return &serve.Model{Scorer: v.scorer, Encoder: v.scorer.Encoder, Vocab: v.scorer.Config.Vocab, Length: v.format.MaxLength, DType: v.report.DType,
				Close: func() error { return nil }}, nil // the scorer is needed for more
		},
		Names: []string{"verify"}, Version: version,
		Limits: serve.Limits{BatchTokens: v.o.batchTokens, BodyBytes: 6 * maxSample, PendingBytes: 6 * askAtOnce * maxSample, Inputs: 1 << 20, Queue: askAtOnce << 20, RequestTime: 24 * time.Hour},
	})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(serving, listener, serve.ListenOptions{Drain: time.Minute}) }()
	out, err = f("http://" + listener.Addr().String())
	stop()
	return out, errors.Join(err, <-ended)
}

func (v *verification) servedInfer(ctx context.Context) ([]found, error) {
	var questions []question
	for _, c := range v.cases {
		questions = append(questions, question{inferBody(c.request), c.conversations()})
	}
	return v.serveScorer(ctx, func(url string) ([]found, error) {
		e, done := newEndpoint(url+"/infer", "", parseInfer)
		defer done()
		return v.ask(ctx, e, questions)
	})
}

func (v *verification) servedClassify(ctx context.Context) ([]found, error) {
	return v.serveScorer(ctx, func(url string) ([]found, error) {
		e, done := newEndpoint(url+"/classify", "", parseClassify)
		defer done()
		return v.ask(ctx, e, append(v.idQuestions(), v.textQuestions(func(verifyCase, int) bool { return true })...))
	})
}

// againstIDs asks another server about the very tokens that are scored here.
func (v *verification) againstIDs(ctx context.Context) ([]found, error) {
	e, done := newEndpoint(v.o.against, v.key, parseClassify)
	defer done()
	return v.ask(ctx, e, v.idQuestions())
}

// againstTexts asks another server about texts and messages, which its own tokenizer and
// template encode.
func (v *verification) againstTexts(ctx context.Context) ([]found, error) {
	tok := v.scorer.Encoder.Tokenizer()
	if v.format.Template != tok.ChatTemplate() {
		v.note("messages are not sent, because they are scored with another template than the one beside the tokenizer")
	}
	same := func(c verifyCase, i int) bool {
		e := c.encoded[i]
		if e.Truncated || e.Tokens != len(e.IDs) { // other servers cut elsewhere
			return false
		}
		if c.request.Text == nil {
			return v.format.Template != "" && v.format.Template == tok.ChatTemplate()
		}
		ids, err := tok.Encode(*c.request.Text, true) // as vLLM does, which may add a second BOS
		return err == nil && slices.Equal(ids, e.IDs)
	}
	e, done := newEndpoint(v.o.against, v.key, parseClassify)
	defer done()
	return v.ask(ctx, e, v.textQuestions(same))
}

// newEndpoint returns an endpoint, to be called done when it is no longer asked.
func newEndpoint(url, key string, parse func([]byte) ([]float64, error)) (_ endpoint, done func()) {
	transport := &http.Transport{MaxIdleConnsPerHost: askAtOnce, Proxy: http.ProxyFromEnvironment}
	return endpoint{url: url, key: key, parse: parse, client: &http.Client{Transport: transport}}, transport.CloseIdleConnections
}

func (c verifyCase) conversations() []int {
	at := make([]int, len(c.encoded))
	for i := range at {
		at[i] = c.first + i
	}
	return at
}

// idQuestions are about the ids of all conversations, in vLLM's form.
func (v *verification) idQuestions() []question {
	var out []question
	for first := 0; first < len(v.ids); first += idsAtOnce {
		var q question
		for i := first; i < min(first+idsAtOnce, len(v.ids)); i++ {
			q.at = append(q.at, i)
		}
		q.body = raw(map[string]any{"input": v.ids[first : first+len(q.at)]})
		out = append(out, q)
	}
	return out
}

// textQuestions are about those texts and messages that keep says, in vLLM's form.
func (v *verification) textQuestions(keep func(c verifyCase, i int) bool) []question {
	var out []question
	for _, c := range v.cases {
		for i := range c.encoded {
			var body map[string]any
			switch r := c.request; {
			case r.Text != nil:
				body = map[string]any{"input": *r.Text}
			case r.Messages != nil:
				body = map[string]any{"messages": r.Messages}
			case r.PromptMessages != nil:
				body = map[string]any{"messages": append(slices.Clip(r.PromptMessages), tokenizer.Message{Role: "assistant", Content: r.Answers[i]})}
			default:
				continue
			}
			if keep(c, i) {
				out = append(out, question{raw(body), []int{c.first + i}})
			}
		}
	}
	return out
}

// raw asks for rewards without a sigmoid, in the words of all versions of vLLM.
func raw(body map[string]any) map[string]any {
	body["use_activation"], body["activation"] = false, false
	return body
}

// inferBody is a line of `rmtrain infer`.
func inferBody(r infer.Request) map[string]any {
	switch {
	case r.Text != nil:
		return map[string]any{"text": *r.Text}
	case r.Messages != nil:
		return map[string]any{"messages": r.Messages}
	case r.InputIDs != nil:
		return map[string]any{"input_ids": r.InputIDs}
	case r.Prompt != nil:
		return map[string]any{"prompt": *r.Prompt, "answers": r.Answers}
	}
	return map[string]any{"prompt": r.PromptMessages, "answers": r.Answers}
}
