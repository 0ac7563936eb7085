// Package serve answers HTTP requests with rewards. It speaks the dialects of the
// servers that reward models are usually asked through (docs/serving.md lists them),
// and every score of every dialect comes from the same call of the same Scorer that
// the command line uses.
//
// A request's conversations are encoded in its own goroutine and queued. One
// scheduler takes as many of them as fill a forward pass, fairly among clients, and
// hands the scores back. Rewards are raw; a sigmoid is applied only where a client
// asks for one.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"rmtrain/data/tokenizer"
)

// A Scorer computes rewards, as infer.Scorer does: neither the company nor the order
// of conversations may have an influence on their rewards.
type Scorer interface {
	Score(ctx context.Context, groups [][]tokenizer.Encoded) ([][]float64, error)
}

// A Model is an open checkpoint.
type Model struct {
	Scorer  Scorer
	Encoder *tokenizer.Encoder
	Vocab   int    // ids must be below it
	Length  int    // most tokens of a conversation, for clients that want to know
	DType   string // float32 or bfloat16, likewise
	Digest  string // identifies the weights, for the log; may be empty
	Close   func() error
}

// Limits bound what clients may ask for. A zero means the default.
type Limits struct {
	BatchTokens   int           // most tokens of a forward pass; 8192
	BodyBytes     int64         // of one request; 16 MiB
	PendingBytes  int64         // of all requests in work; 256 MiB
	Inputs        int           // conversations of one request; 1024
	Queue         int           // conversations that wait; 8192
	RequestTime   time.Duration // from the whole body to the answer; 2 minutes
	TransferTime  time.Duration // for the headers, for a body and for an answer; 30 seconds
	CachedTokens  int           // ids of recent texts that are kept; 1<<20
	RefuseTooLong bool          // instead of truncation, where the client does not say
}

func (l Limits) withDefaults() (Limits, error) {
	for _, d := range []struct {
		value   *int
		instead int
	}{{&l.BatchTokens, 8192}, {&l.Inputs, 1024}, {&l.Queue, 8192}, {&l.CachedTokens, 1 << 20}} {
		if *d.value == 0 {
			*d.value = d.instead
		}
	}
	if l.BodyBytes == 0 {
		l.BodyBytes = 16 << 20
	}
	if l.PendingBytes == 0 {
		l.PendingBytes = max(256<<20, l.BodyBytes)
	}
	if l.RequestTime == 0 {
		l.RequestTime = 2 * time.Minute
	}
	if l.TransferTime == 0 {
		l.TransferTime = 30 * time.Second
	}
	switch {
	case min(l.BatchTokens, l.Inputs, l.Queue, l.CachedTokens) < 0 || min(l.BodyBytes, l.PendingBytes) < 0 || min(l.RequestTime, l.TransferTime) < 0:
		return l, errors.New("a limit is negative")
	case l.Queue < l.Inputs:
		return l, fmt.Errorf("the queue has room for %d conversations, fewer than the %d that a request may have", l.Queue, l.Inputs)
	case l.PendingBytes < l.BodyBytes:
		return l, fmt.Errorf("all requests together may have %d bytes, fewer than the %d of one", l.PendingBytes, l.BodyBytes)
	}
	return l, nil
}

// Options say what is served and how.
type Options struct {
	// Open loads the checkpoint, at the start and at every reload.
	Open func() (*Model, error)
	// Names are what clients may call the model; the first one is in the answers.
	Names   []string
	Keys    *Keys // nil lets everybody in
	Limits  Limits
	Log     *slog.Logger // never told what a request says; nil discards
	Version string
}

// A Server is an http.Handler.
type Server struct {
	options Options
	limits  Limits
	log     *slog.Logger
	metrics *metrics
	started time.Time
	mux     *http.ServeMux
	encode  chan struct{} // a place for each request that is tokenizing
	pending bytesInWork

	reloading sync.Mutex // one reload at a time

	mu       sync.Mutex // guards what follows
	engine   *engine
	closed   bool
	draining bool
}

// New loads the model. Close gives its memory back.
func New(o Options) (*Server, error) {
	limits, err := o.Limits.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("serve: limits: %w", err)
	}
	if len(o.Names) == 0 || slices.Contains(o.Names, "") {
		return nil, errors.New("serve: the model has no name")
	}
	s := &Server{options: o, limits: limits, log: o.Log, started: time.Now(), metrics: newMetrics(), encode: make(chan struct{}, runtime.GOMAXPROCS(0))}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.pending.most = limits.PendingBytes
	m, err := o.Open()
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	s.engine = newEngine(m, limits, s.metrics, s.log)
	s.metrics.watch(s)
	s.mux = s.newMux()
	return s, nil
}

// acquire returns the engine that a request is to use, until release.
func (s *Server) acquire() (*engine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, failf(kindUnavailable, "the server is shutting down")
	}
	s.engine.users++
	return s.engine, nil
}

func (s *Server) release(e *engine) {
	s.mu.Lock()
	e.users--
	last := e.retired && e.users == 0
	s.mu.Unlock()
	if last {
		s.closeEngine(e)
	}
}

// retire ends e when its last request has been answered. The caller holds s.mu.
func (s *Server) retire(e *engine) (now bool) {
	e.retired = true
	return e.users == 0
}

func (s *Server) closeEngine(e *engine) {
	if err := e.close(); err != nil {
		s.log.Error("close model", "error", err)
	}
}

// Reload opens the checkpoint again. Requests that have begun are answered by the
// model that they began with; both are in memory until then. If the checkpoint cannot
// be opened, the old one stays.
func (s *Server) Reload() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	m, err := s.options.Open()
	if err != nil {
		s.metrics.reloads.WithLabelValues("error").Inc()
		s.log.Error("reload: the old model stays", "error", err)
		return fmt.Errorf("serve: reload: %w", err)
	}
	next := newEngine(m, s.limits, s.metrics, s.log)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.closeEngine(next)
		return errors.New("serve: reload: the server is shutting down")
	}
	old := s.engine
	s.engine = next
	now := s.retire(old)
	s.mu.Unlock()
	if now {
		s.closeEngine(old)
	}
	s.metrics.reloads.WithLabelValues("ok").Inc()
	s.log.Info("reloaded", "digest", m.Digest)
	return nil
}

// Drain makes /health/ready say no, so that balancers send no more requests. Those
// that come are still answered.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
}

func (s *Server) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.draining && !s.closed
}

// Close refuses new requests, and frees the model when the last one is answered.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	e := s.engine
	now := s.retire(e)
	s.mu.Unlock()
	if now {
		s.closeEngine(e)
	}
}
