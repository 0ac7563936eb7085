package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// maxTries is how often something is tried without any progress.
const maxTries = 6

// Pauses between tries: they double from the first to the longest, with jitter. A
// hub that asks for more than maxWait is not waited for. Tests shorten them.
var (
	firstPause   = time.Second
	longestPause = 30 * time.Second
	maxWait      = 5 * time.Minute
)

// A transientError may not happen again.
type transientError struct {
	error
	wait time.Duration // that the server asks for; 0 if it does not
}

func (e transientError) Unwrap() error { return e.error }

// unreachable tells whether err says that the hub, or the way to it, does not work,
// rather than what the hub answers.
func unreachable(err error) bool {
	var t transientError
	return errors.As(err, &t)
}

// connectionError marks what may pass: everything but the end of ctx and what is
// wrong with certificates.
func connectionError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = fmt.Errorf("%s: %w", withoutQuery(u.URL), u.Err)
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return err
	}
	return transientError{error: err}
}

// retry calls try until it succeeds or its error is not transient, and pauses in
// between. Tries that got something done (moved) do not count against maxTries.
func (c *client) retry(ctx context.Context, try func() (moved bool, err error)) error {
	pause := firstPause
	for n := 1; ; n++ {
		moved, err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var t transientError
		if !errors.As(err, &t) {
			return err
		}
		if moved {
			n, pause = 1, firstPause
		}
		if n >= maxTries || t.wait > maxWait {
			return err
		}
		wait := max(t.wait, pause/2+rand.N(pause/2+1))
		if t.wait > 0 || n > 2 {
			c.note(fmt.Sprintf("%v; trying again in %s", t.error, wait.Round(time.Second)))
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		pause = min(2*pause, longestPause)
	}
}

// retryAfter reads the header of that name: seconds or a date.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if d, err := time.ParseDuration(text + "s"); err == nil && d > 0 {
		return d
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
