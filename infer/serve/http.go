package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// An exchange is a request with its body read, on its way to an answer.
type exchange struct {
	*http.Request
	body   []byte
	client string // whose place in the queue it takes
	engine *engine
	header http.Header // of the answer

	// For the log.
	inputs, tokens int
}

// A handler returns the answer: a value for JSON, or raw.
type handler func(s *Server, x *exchange) (any, error)

// A raw answer is no JSON, or JSON with something behind it.
type raw struct {
	contentType string
	body        []byte
}

// A route is a path of the API.
type route struct {
	pattern string // of http.ServeMux, method included
	dialect *dialect
	handle  handler
	open    bool // without a key
	bare    bool // without a model
}

// A dialect is a family of paths whose errors look alike.
type dialect struct {
	name string
	say  voice
}

var (
	dialectVLLM      = &dialect{"vllm", voiceOpenAI}
	dialectSGLang    = &dialect{"sglang", voiceSGLang}
	dialectTEI       = &dialect{"tei", voiceTEI}
	dialectOpenRLHF  = &dialect{"openrlhf", voiceDetail}
	dialectLlamaFact = &dialect{"llamafactory", voiceDetail}
	dialectKServe    = &dialect{"kserve", voiceKServe}
)

// ServeHTTP answers a request in the dialect of its path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) newMux() *http.ServeMux {
	mux := http.NewServeMux()
	for _, rt := range routes() {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, rt) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, route{pattern: "/", dialect: dialectVLLM, bare: true, handle: missing(mux)})
	})
	return mux
}

// missing answers paths that do not exist, or not with this method.
func missing(mux *http.ServeMux) handler {
	return func(_ *Server, x *exchange) (any, error) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			other := x.Request.Clone(x.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "/" {
				x.header.Set("Allow", method)
				return nil, failf(kindMethod, "%s answers to %s only", x.URL.Path, method)
			}
		}
		return nil, failf(kindNotFound, "there is no such path (GET /openapi.json lists all)")
	}
}

// serve sees to all that is the same for every path.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, rt route) {
	start := time.Now()
	s.metrics.active.Inc()
	defer s.metrics.active.Dec()
	x := &exchange{Request: r, header: w.Header(), client: remoteHost(r)}
	answer, err := s.answer(w, x, rt)
	status := http.StatusOK
	d := rt.dialect
	reason := ""
	if err != nil {
		if known := new(failure); !errors.As(err, &known) {
			s.log.Error("request failed", "route", rt.pattern, "error", err)
		}
		f := asFailure(err)
		if x.body != nil && rt.dialect == dialectVLLM {
			d = dialectOf(rt, x.body)
		}
		status, reason = statusOf(d, f), reasons[f.kind]
		s.metrics.failures.WithLabelValues(reason).Inc()
		x.setRetry(f)
		answer = d.say(status, f)
		if f.kind == kindUnauthorized {
			x.header.Set("WWW-Authenticate", "Bearer")
		}
	}
	if reason != reasons[kindGone] {
		status = s.write(w, x, status, answer)
	}
	took := time.Since(start)
	s.metrics.requests.WithLabelValues(rt.pattern, strconv.Itoa(status)).Inc()
	s.metrics.seconds.WithLabelValues(rt.pattern).Observe(took.Seconds())
	level := slog.LevelInfo
	if rt.open {
		level = slog.LevelDebug // balancers ask for health all the time
	}
	s.log.Log(r.Context(), level, "request", "route", rt.pattern, "status", status, "reason", reason,
		"client", x.client, "bytes", len(x.body), "inputs", x.inputs, "tokens", x.tokens, "seconds", took.Seconds())
}

// setRetry tells the client when to try again, if that makes sense.
func (x *exchange) setRetry(f *failure) {
	if f.kind != kindOverloaded && f.kind != kindUnavailable {
		return
	}
	x.header.Set("Retry-After", strconv.Itoa(max(1, int(f.retry.Seconds()+0.5))))
}

func (s *Server) answer(w http.ResponseWriter, x *exchange, rt route) (any, error) {
	if !rt.open && s.options.Keys != nil {
		name, ok := s.options.Keys.check(x.Header)
		if !ok {
			return nil, failf(kindUnauthorized, "a valid API key is needed: Authorization: Bearer KEY")
		}
		x.client = name
	}
	done, err := s.readBody(w, x)
	if err != nil {
		return nil, err
	}
	defer done()
	if !rt.bare {
		e, err := s.acquire()
		if err != nil {
			return nil, err
		}
		defer s.release(e)
		x.engine = e
	}
	ctx, cancel := context.WithTimeout(x.Context(), s.limits.RequestTime)
	defer cancel()
	x.Request = x.WithContext(ctx)
	answer, err := rt.handle(s, x)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		f := failf(kindUnavailable, "no answer within %v; the server is busy", s.limits.RequestTime)
		if x.engine != nil {
			f.retry = x.engine.delay()
		}
		return nil, f
	case errors.Is(err, context.Canceled):
		return nil, failf(kindGone, "the client went away")
	}
	return answer, err
}

// readBody reads x's body within the limits of size and time. The caller calls done
// when it needs the body no more.
func (s *Server) readBody(w http.ResponseWriter, x *exchange) (done func(), err error) {
	if enc := x.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, failf(kindMedia, "Content-Encoding %q is not spoken here; send the body as it is", enc)
	}
	most := s.limits.BodyBytes
	if x.ContentLength > most {
		return nil, failf(kindTooLarge, "the body has %d bytes, more than %d", x.ContentLength, most)
	}
	size := x.ContentLength
	if size < 0 {
		size = most
	}
	if !s.pending.take(size) {
		f := failf(kindOverloaded, "too many bytes of requests are in work")
		f.retry = time.Second
		return nil, f
	}
	control := http.NewResponseController(w)
	// Without a deadline (a recorder in a test) there is no connection to be slow.
	_ = control.SetReadDeadline(time.Now().Add(s.limits.TransferTime))
	x.body, err = io.ReadAll(http.MaxBytesReader(w, x.Body, most))
	_ = control.SetReadDeadline(time.Time{})
	if err == nil {
		return func() { s.pending.give(size) }, nil
	}
	s.pending.give(size)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, failf(kindTooLarge, "the body has more than %d bytes", most)
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.header.Set("Connection", "close")
		return nil, failf(kindSlow, "the body did not arrive within %v", s.limits.TransferTime)
	}
	return nil, failf(kindGone, "the client went away")
}

// decode reads the body as a JSON object.
func (x *exchange) decode(to any) error {
	b := bytes.TrimSpace(x.body)
	if len(b) == 0 {
		return failf(kindInvalid, "the body is empty; a JSON object is wanted")
	}
	if b[0] != '{' && json.Valid(b) {
		return failf(kindInvalid, "the body must be a JSON object")
	}
	if err := json.Unmarshal(b, to); err != nil {
		return fieldError(err).at(faultyField(b, to))
	}
	return nil
}

// write sends the answer and returns its status.
func (s *Server) write(w http.ResponseWriter, x *exchange, status int, answer any) int {
	out, ok := answer.(raw)
	if !ok {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(answer); err != nil {
			s.log.Error("write answer", "error", err)
			status = http.StatusInternalServerError
			b.Reset()
			b.WriteString(`{"error":"the answer cannot be written as JSON"}`)
		}
		out = raw{"application/json", b.Bytes()}
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.TransferTime))
	h := w.Header()
	h.Set("Content-Type", out.contentType)
	h.Set("Content-Length", strconv.Itoa(len(out.body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(out.body) // a client that went away is not our failure
	return status
}

// remoteHost is the client's address without its port.
func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// bytesInWork counts the bodies that are in memory.
type bytesInWork struct {
	mu         sync.Mutex
	most, used int64
}

func (b *bytesInWork) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.most {
		return false
	}
	b.used += n
	return true
}

func (b *bytesInWork) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

// hasField tells whether a JSON object has one of the fields.
func hasField(body []byte, names ...string) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return false
	}
	for _, name := range names {
		if v, ok := fields[name]; ok && string(v) != "null" {
			return true
		}
	}
	return false
}
