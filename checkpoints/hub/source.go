package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

const maxRedirects = 10

var etagPattern = regexp.MustCompile(`^[\w-][\w.-]{0,200}$`)

// A source is one file on the hub.
type source struct {
	client *client
	hub    string // the file's URL there
	size   int64
	etag   string // SHA-256 of a large file, git's SHA-1 of a small one

	mu  sync.Mutex
	url string // where its content is: often elsewhere, signed, for some time
}

// find asks the hub for size, digest and place of a file.
func (c *client) find(ctx context.Context, url, commit string) (*source, error) {
	s := &source{client: c, hub: url, size: -1}
	err := c.retry(ctx, func() (bool, error) { return false, s.find(ctx, commit) })
	return s, err
}

// find follows redirects up to the one that leads to the content. The hub tells size
// and digest in the headers of that one, since who holds the content may not know.
func (s *source) find(ctx context.Context, commit string) error {
	at := s.hub
	for range maxRedirects {
		resp, err := send(ctx, s.client.once, http.MethodHead, at, nil)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if got := resp.Header.Get("X-Repo-Commit"); got != "" && got != commit {
			return fmt.Errorf("%s is of commit %.50q, not %s (start again)", withoutQuery(at), got, commit)
		}
		linked := resp.Header.Get("X-Linked-Etag")
		if resp.StatusCode < 300 {
			return s.found(at, firstOf(linked, resp.Header.Get("ETag")), firstOf(resp.Header.Get("X-Linked-Size"), resp.Header.Get("Content-Length")))
		}
		next, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
		if err != nil || resp.Header.Get("Location") == "" {
			return fmt.Errorf("%s redirects to nowhere (check HF_ENDPOINT)", withoutQuery(at))
		}
		if size := resp.Header.Get("X-Linked-Size"); linked != "" && size != "" {
			return s.found(next.String(), linked, size)
		}
		at = next.String()
	}
	return fmt.Errorf("%s: more than %d redirects (check HF_ENDPOINT)", withoutQuery(s.hub), maxRedirects)
}

// found checks and stores what was found.
func (s *source) found(at, etag, size string) error {
	etag = strings.Trim(strings.TrimPrefix(etag, "W/"), `"`)
	if !etagPattern.MatchString(etag) {
		return fmt.Errorf("%s has the ETag %.50q, so its content cannot be told from another (check HF_ENDPOINT)", withoutQuery(s.hub), etag)
	}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%s has the size %.50q (check HF_ENDPOINT)", withoutQuery(s.hub), size)
	}
	s.url, s.etag, s.size = at, etag, n
	return nil
}

// moveTo notes where the content is now.
func (s *source) moveTo(at string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url = at
}

// errNoRanges says that a server sends files only as a whole.
var errNoRanges = errors.New("the server does not send parts of files")

// open asks for the bytes [from, to). The body may begin at an earlier byte: a server
// may ignore the range and send everything.
func (s *source) open(ctx context.Context, from, to int64) (body io.ReadCloser, start int64, err error) {
	s.mu.Lock()
	at := s.url
	s.mu.Unlock()
	header := http.Header{}
	if from > 0 || to < s.size {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	}
	resp, err := send(ctx, s.client.follow, http.MethodGet, at, header)
	var status *statusError
	if errors.As(err, &status) && s.expired(status) {
		s.moveTo(s.hub) // which redirects to a new address
		return nil, 0, transientError{error: err}
	}
	if err != nil {
		return nil, 0, err
	}
	s.moveTo(resp.Request.URL.String())
	start, err = s.startOf(resp, from)
	if err != nil {
		resp.Body.Close()
		return nil, 0, err
	}
	return watch(resp.Body, s.client.stall), start, nil
}

// expired tells whether a signed address may have run out. The hub itself says no
// for good.
func (s *source) expired(e *statusError) bool {
	a, err1 := url.Parse(e.url)
	b, err2 := url.Parse(s.hub)
	if err1 != nil || err2 != nil || a.Host == b.Host {
		return false
	}
	return e.status == http.StatusForbidden || e.status == http.StatusUnauthorized || e.status == http.StatusBadRequest || e.status == http.StatusGone
}

// startOf compares an answer with what the hub said of the file, and returns which
// byte its body begins with.
func (s *source) startOf(resp *http.Response, from int64) (int64, error) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return 0, fmt.Errorf("%s sends the file in encoding %.50q (check what is between here and the hub)", withoutQuery(resp.Request.URL.String()), e)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if n := resp.ContentLength; n >= 0 && n != s.size {
			return 0, s.wrongSize(resp, n)
		}
		return 0, nil
	case http.StatusPartialContent:
		var first, last, total int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); err != nil || first != from {
			return 0, fmt.Errorf("%s sends the range %.50q instead of that from byte %d (check what is between here and the hub)", withoutQuery(resp.Request.URL.String()), resp.Header.Get("Content-Range"), from)
		}
		if total != s.size {
			return 0, s.wrongSize(resp, total)
		}
		return from, nil
	}
	return 0, fmt.Errorf("%s answers %s", withoutQuery(resp.Request.URL.String()), resp.Status)
}

func (s *source) wrongSize(resp *http.Response, n int64) error {
	return fmt.Errorf("the hub says that the file has %d bytes, and %s sends one of %d (try again later, or another HF_ENDPOINT)",
		s.size, withoutQuery(resp.Request.URL.String()), n)
}

// broken is the error of a body that ends too early, at some byte of the file.
func (s *source) broken(ctx context.Context, at int64, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if ctx.Err() == nil {
		err = fmt.Errorf("the connection ended at byte %d of %d: %w", at, s.size, err)
	}
	return connectionError(ctx, err)
}
