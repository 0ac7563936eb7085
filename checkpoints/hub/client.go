package hub

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const userAgent = "rmtrain"

// How long the network may be silent.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 30 * time.Second // until the headers
	stallTimeout  = 30 * time.Second // between two pieces of a body
)

// A client talks to the hub and to where it redirects.
type client struct {
	follow *http.Client
	once   *http.Client // returns redirects as answers
	token  bool
	stall  time.Duration
	note   func(string)
}

func newClient(env environment, note func(string)) *client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext
	t.ResponseHeaderTimeout = answerTimeout
	t.MaxIdleConnsPerHost = connections
	t.DisableCompression = true // sizes and ranges are of the file itself
	// Ranges gain from several connections; HTTP/2 would send all through one.
	t.ForceAttemptHTTP2 = false
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}

	auth := &authorizer{base: t, token: env.token}
	if u, err := url.Parse(env.endpoint); err == nil {
		auth.scheme, auth.host = u.Scheme, u.Host
	}
	return &client{
		follow: &http.Client{Transport: auth},
		once: &http.Client{Transport: auth, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		token: env.token != "",
		stall: stallTimeout,
		note:  note,
	}
}

// An authorizer adds the token to requests to the hub itself. No other request ever
// carries it, wherever redirects lead: it is never a header that could be copied.
type authorizer struct {
	base         http.RoundTripper
	scheme, host string
	token        string
}

// RoundTrip implements http.RoundTripper.
func (a *authorizer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context()) // RoundTrippers must not change requests
	r.Header.Set("User-Agent", userAgent)
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Del("Authorization")
	if a.token != "" && r.URL.Scheme == a.scheme && strings.EqualFold(r.URL.Host, a.host) {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	return a.base.RoundTrip(r)
}

// send sends one request. An answer that is not a success or redirect is an error.
func send(ctx context.Context, c *http.Client, method, url string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, connectionError(ctx, err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, newStatusError(resp)
	}
	return resp, nil
}
