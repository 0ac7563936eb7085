package report

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

//go:embed watch.html
var watchText string

//go:embed watch.css
var watchStyle string

//go:embed watch.js
var watchScript string

//go:embed charts.js
var chartsScript string

const (
	pollEvery  = 500 * time.Millisecond
	speakEvery = 15 * time.Second // also without news, so that proxies keep the connection
	writeTime  = 30 * time.Second // for one message
)

// A Watcher is a web page that shows the run in a folder while it lasts, and after.
// The folder is only read, and need not exist yet. GET / is the page, /events the
// server-sent events that it draws, and /report the report of a finished run.
//
// Events are: "run", a status as JSON, when it changes and now and then; "reset" when
// the lines so far are void; "lines", a JSON array of lines of metrics.jsonl;
// "problem", a text, when the log cannot be read.
type Watcher struct {
	dir    string
	page   []byte
	policy string // Content-Security-Policy
	poll   time.Duration
	mux    *http.ServeMux
}

// NewWatcher returns the page of the run in dir.
func NewWatcher(dir string) *Watcher {
	script := chartsScript + watchScript
	sum := sha256.Sum256([]byte(script))
	w := &Watcher{
		dir: dir, poll: pollEvery, mux: http.NewServeMux(),
		page: []byte(strings.NewReplacer("{{style}}", style+watchStyle, "{{script}}", script).Replace(watchText)),
		policy: "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; script-src 'sha256-" +
			base64.StdEncoding.EncodeToString(sum[:]) + "'",
	}
	w.mux.HandleFunc("GET /{$}", w.servePage)
	w.mux.HandleFunc("GET /events", w.serveEvents)
	w.mux.HandleFunc("GET /report", w.serveReport)
	return w
}

// ServeHTTP answers a request.
func (w *Watcher) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.Header().Set("Cache-Control", "no-store")
	w.mux.ServeHTTP(rw, r)
}

func (w *Watcher) servePage(rw http.ResponseWriter, _ *http.Request) {
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Content-Security-Policy", w.policy)
	_, _ = rw.Write(w.page) // a reader that has gone away needs no page
}

func (w *Watcher) serveReport(rw http.ResponseWriter, r *http.Request) {
	text, err := os.ReadFile(filepath.Join(w.dir, PageFile))
	if err != nil {
		http.Error(rw, "there is no report yet: it is written at the end of training", http.StatusNotFound)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, _ = rw.Write(text)
}

// serveEvents tells a page everything from the beginning, and then what is new.
func (w *Watcher) serveEvents(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("X-Accel-Buffering", "no") // ask a proxy to pass events on at once
	s := &stream{w: rw, control: http.NewResponseController(rw), dir: w.dir, tail: tail{path: filepath.Join(w.dir, MetricsFile)}}
	if s.send("reset", []byte("{}")) != nil {
		return
	}
	ticker := time.NewTicker(w.poll)
	defer ticker.Stop()
	for {
		if err := s.update(r.Context()); err != nil {
			return // the page has gone away, and connects again if it has not
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

// A stream is the events of one page.
type stream struct {
	w       io.Writer
	control *http.ResponseController
	dir     string
	tail    tail
	status  string // as sent
	problem string // as sent
	spoke   time.Time
}

// update sends what has changed.
func (s *stream) update(ctx context.Context) error {
	if err := s.sendStatus(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		lines, again, err := s.tail.next()
		if err != nil {
			return s.complain(err)
		}
		if again {
			if err := s.send("reset", []byte("{}")); err != nil {
				return err
			}
		}
		if len(lines) == 0 {
			return nil
		}
		if err := s.send("lines", array(lines)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// array joins the lines that are JSON to an array without line breaks.
func array(lines [][]byte) []byte {
	var out bytes.Buffer
	out.WriteByte('[')
	for _, line := range lines {
		before := out.Len()
		if before > 1 {
			out.WriteByte(',')
		}
		if json.Compact(&out, line) != nil {
			out.Truncate(before)
		}
	}
	out.WriteByte(']')
	return out.Bytes()
}

// complain tells once why the log cannot be read.
func (s *stream) complain(problem error) error {
	if problem.Error() == s.problem {
		return nil
	}
	s.problem = problem.Error()
	text, err := json.Marshal(s.problem)
	if err != nil {
		return err
	}
	return s.send("problem", text)
}

func (s *stream) sendStatus() error {
	now, err := json.Marshal(readStatus(s.dir))
	if err != nil {
		return err
	}
	if string(now) == s.status && time.Since(s.spoke) < speakEvery {
		return nil
	}
	s.status = string(now)
	return s.send("run", now)
}

// send writes an event. A page that reads too slowly is cut off. JSON has no line
// breaks, as events require.
func (s *stream) send(event string, data []byte) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTime)) // where the server can
	if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", event, data); err != nil {
		return err
	}
	s.spoke = time.Now()
	return s.control.Flush()
}
