package serve

import (
	"bytes"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what /metrics tells.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec   // by route and status
	seconds  *prometheus.HistogramVec // by route
	failures *prometheus.CounterVec   // by reason
	reloads  *prometheus.CounterVec   // by result
	cache    *prometheus.CounterVec   // by result
	tokens   *prometheus.CounterVec   // read by the model: as sent, and computed after sharing
	inputs   prometheus.Counter
	active   prometheus.Gauge
	forward  prometheus.Histogram
	batchIn  prometheus.Histogram
	batchTok prometheus.Histogram
}

func newMetrics() *metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rmtrain_" + name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "rmtrain_" + name, Help: help, Buckets: buckets})
		r.MustRegister(h)
		return h
	}
	latency := prometheus.ExponentialBuckets(0.001, 2, 17) // a millisecond to a minute
	m := &metrics{
		registry: r,
		requests: vec("requests_total", "Requests answered.", "route", "status"),
		failures: vec("failures_total", "Requests that failed.", "reason"),
		reloads:  vec("reloads_total", "Reloads of the checkpoint.", "result"),
		cache:    vec("cached_texts_total", "Texts looked up among those encoded of late.", "result"),
		tokens:   vec("tokens_total", "Tokens scored: sent by clients, and computed after sharing.", "kind"),
		inputs:   prometheus.NewCounter(prometheus.CounterOpts{Name: "rmtrain_inputs_total", Help: "Conversations scored."}),
		active:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "rmtrain_requests_active", Help: "Requests in work."}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rmtrain_request_seconds", Help: "Time from headers to answer.", Buckets: latency}, []string{"route"}),
		forward:  histogram("forward_seconds", "Time of a forward pass.", latency),
		batchIn:  histogram("batch_inputs", "Conversations of a forward pass.", prometheus.ExponentialBuckets(1, 2, 12)),
		batchTok: histogram("batch_tokens", "Tokens of a forward pass, after sharing.", prometheus.ExponentialBuckets(16, 2, 13)),
	}
	r.MustRegister(m.inputs, m.active, m.seconds)
	return m
}

// watch adds what is read from s when somebody asks.
func (m *metrics) watch(s *Server) {
	gauge := func(name, help string, value func(*engine) int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rmtrain_" + name, Help: help}, func() float64 {
			s.mu.Lock()
			e := s.engine
			s.mu.Unlock()
			return float64(value(e))
		}))
	}
	gauge("queue_inputs", "Conversations that wait.", func(e *engine) int { n, _ := e.queue.waiting(); return n })
	gauge("queue_tokens", "Tokens that wait.", func(e *engine) int { _, n := e.queue.waiting(); return n })
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rmtrain_info", Help: "What is served."}, []string{"model", "dtype", "version"})
	info.WithLabelValues(s.options.Names[0], s.engine.model.DType, s.options.Version).Set(1)
	m.registry.MustRegister(info)
}

// batch counts a forward pass.
func (m *metrics) batch(convs, tokens, rows int, took time.Duration) {
	m.inputs.Add(float64(convs))
	m.tokens.WithLabelValues("sent").Add(float64(tokens))
	m.tokens.WithLabelValues("computed").Add(float64(rows))
	m.batchIn.Observe(float64(convs))
	m.batchTok.Observe(float64(rows))
	m.forward.Observe(took.Seconds())
}

func handleMetrics(s *Server, x *exchange) (any, error) {
	w := &buffer{header: http.Header{}}
	promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(w, x.Request)
	return raw{w.header.Get("Content-Type"), w.Bytes()}, nil
}

// A buffer is an answer in memory.
type buffer struct {
	bytes.Buffer
	header http.Header
}

func (b *buffer) Header() http.Header { return b.header }
func (b *buffer) WriteHeader(int)     {}
