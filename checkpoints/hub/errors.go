package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxMessage bounds what is repeated of a server's own words.
const maxMessage = 300

// A statusError is an answer that says no.
type statusError struct {
	status  int
	url     string // without its query, which may be a signature
	code    string // X-Error-Code
	message string
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s answers %d %s", e.url, e.status, http.StatusText(e.status))
	if e.message != "" {
		s += ": " + e.message
	}
	return s
}

// newStatusError reads resp, and marks what may pass.
func newStatusError(resp *http.Response) error {
	e := &statusError{
		status:  resp.StatusCode,
		url:     withoutQuery(resp.Request.URL.String()),
		code:    resp.Header.Get("X-Error-Code"),
		message: resp.Header.Get("X-Error-Message"),
	}
	if e.message == "" {
		e.message = messageIn(resp)
	}
	e.message = oneLine(e.message)
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return transientError{error: e, wait: retryAfter(resp.Header)}
	}
	return e
}

// isNotFound tells whether the hub does not know what was asked for.
func isNotFound(err error) bool {
	var e *statusError
	return errors.As(err, &e) && e.status == http.StatusNotFound
}

// messageIn returns {"error": "..."} of an answer.
func messageIn(resp *http.Response) string {
	var body struct {
		Error string `json:"error"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil || json.Unmarshal(b, &body) != nil {
		return ""
	}
	return body.Error
}

// oneLine makes a server's words fit for a terminal.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "..."
	}
	return s
}

func withoutQuery(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "the server"
	}
	u.RawQuery, u.Fragment, u.User = "", "", nil
	return u.String()
}

// explain adds the remedy to an answer that says no.
func (f *fetcher) explain(err error) error {
	var e *statusError
	if !errors.As(err, &e) {
		if unreachable(err) {
			return fmt.Errorf("%w (check the connection and HF_ENDPOINT; what is here is kept, and the same command goes on with it)", err)
		}
		return err
	}
	return fmt.Errorf("%w (%s)", err, f.remedy(e))
}

func (f *fetcher) remedy(e *statusError) string {
	page := f.env.endpoint + "/" + f.idPath()
	signIn := "set HF_TOKEN to a token that may read it, or store one with hf auth login"
	if f.client.token {
		signIn = "the token in use may not read it: set HF_TOKEN to another"
	}
	switch {
	case e.code == "GatedRepo" && !f.client.token:
		return "its owner asks readers to accept conditions: do so at " + page + ", then " + signIn
	case e.code == "GatedRepo":
		return "its owner asks readers to accept conditions: do so at " + page + " with the account of the token in use"
	case e.code == "RevisionNotFound":
		return fmt.Sprintf("there is no branch, tag or commit %s: see %s/tree/main", f.Revision, page)
	case e.code == "EntryNotFound":
		return "the file was taken away while downloading: start again"
	case e.status == http.StatusUnauthorized:
		return "there is no such repository, or it is private: check the name at " + page + "; " + signIn
	case e.status == http.StatusForbidden:
		return signIn
	case e.status == http.StatusNotFound && f.Dataset:
		return "check the name at " + page + "; a model is downloaded without --dataset"
	case e.status == http.StatusNotFound:
		return "check the name at " + page + "; a dataset is downloaded with --dataset"
	case e.status == http.StatusTooManyRequests && f.client.token:
		return "the hub limits requests: wait, and start again; what is here is kept"
	case e.status == http.StatusTooManyRequests:
		return "the hub limits requests: wait, and start again, or set HF_TOKEN, which raises the limit; what is here is kept"
	case e.status >= 500:
		return "the server is in trouble: try again later; what is here is kept"
	}
	return "check HF_ENDPOINT"
}
