package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// ListenOptions say how Run meets the network.
type ListenOptions struct {
	TLS *tls.Config // nil for plain HTTP
	// Notice is how long /health/ready says no before the port closes, so that balancers
	// take this server out first.
	Notice time.Duration
	// Drain is how long requests may take to be answered after that.
	Drain time.Duration
}

// Run serves on l until ctx ends; then it lets everything that has begun be answered
// and returns. Close is left to the caller.
func (s *Server) Run(ctx context.Context, l net.Listener, o ListenOptions) error {
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.limits.TransferTime,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		TLSConfig:         o.TLS,
		ErrorLog:          log.New(logWriter{s.log}, "", 0),
	}
	failed := make(chan error, 1)
	go func() {
		if o.TLS != nil {
			failed <- h.ServeTLS(l, "", "")
			return
		}
		failed <- h.Serve(l)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.Drain()
	s.log.Info("draining", "notice", o.Notice, "at_most", o.Drain)
	time.Sleep(o.Notice)
	limit, cancel := context.WithTimeout(context.Background(), o.Drain)
	defer cancel()
	err := h.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(fmt.Errorf("serve: requests were still in work %v after the signal; they are cut off", o.Drain), h.Close())
	}
	<-failed // http.ErrServerClosed
	return err
}

// logWriter puts net/http's own messages, which are about connections, into the log.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug("connection", "message", string(p))
	return len(p), nil
}
