package hub

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// A watched body fails when nothing comes for too long, which no timeout of net/http
// notices.
type watched struct {
	body    io.ReadCloser
	stall   time.Duration
	timer   *time.Timer
	stalled atomic.Bool
}

// watch returns body, which is closed when it stalls.
func watch(body io.ReadCloser, stall time.Duration) io.ReadCloser {
	w := &watched{body: body, stall: stall}
	w.timer = time.AfterFunc(stall, func() {
		w.stalled.Store(true)
		body.Close()
	})
	return w
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.body.Read(p)
	if w.stalled.Load() {
		return n, fmt.Errorf("nothing came for %s", w.stall)
	}
	w.timer.Reset(w.stall)
	return n, err
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.timer.Stop()
	return w.body.Close()
}
