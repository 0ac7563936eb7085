package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxList = 64 << 20 // bytes
	// maxFiles is from where on the hub's list of files is not complete.
	maxFiles = 50_000
)

// A listing is what the hub has under a revision.
type listing struct {
	commit string
	names  []string
}

// idPath is the repository in the hub's URLs.
func (f *fetcher) idPath() string {
	if f.Dataset {
		return "datasets/" + f.ID
	}
	return f.ID
}

func (f *fetcher) list(ctx context.Context, revision string) (listing, error) {
	kind := "models"
	if f.Dataset {
		kind = "datasets"
	}
	at := fmt.Sprintf("%s/api/%s/%s/revision/%s", f.env.endpoint, kind, f.ID, url.PathEscape(revision))
	var body []byte
	err := f.client.retry(ctx, func() (bool, error) {
		resp, err := send(ctx, f.client.follow, http.MethodGet, at, nil)
		if err != nil {
			return false, err
		}
		answer := watch(resp.Body, f.client.stall)
		defer answer.Close()
		body, err = io.ReadAll(io.LimitReader(answer, maxList+1))
		if err != nil {
			return false, connectionError(ctx, err)
		}
		return false, nil
	})
	if err != nil {
		return listing{}, err
	}
	l, err := parseListing(body)
	if err != nil {
		return listing{}, fmt.Errorf("%s answers with something else than a list of files: %w (check HF_ENDPOINT, and that no login page is in between)", withoutQuery(at), err)
	}
	return l, nil
}

// parseListing reads the hub's answer.
func parseListing(body []byte) (listing, error) {
	if len(body) > maxList {
		return listing{}, fmt.Errorf("more than %d bytes", maxList)
	}
	var x struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(body, &x); err != nil {
		return listing{}, err
	}
	if !commitPattern.MatchString(x.SHA) {
		return listing{}, fmt.Errorf("sha is %.50q, not a commit", x.SHA)
	}
	if len(x.Siblings) >= maxFiles {
		return listing{}, fmt.Errorf("%d files are too many to be listed", len(x.Siblings))
	}
	if len(x.Siblings) == 0 {
		return listing{}, errors.New("it has no files")
	}
	l := listing{commit: x.SHA}
	for _, s := range x.Siblings {
		if !isSafe(s.Name) {
			return listing{}, fmt.Errorf("%q cannot be the name of a file", s.Name)
		}
		l.names = append(l.names, s.Name)
	}
	return l, nil
}

// fileURL is where the hub has a file.
func (f *fetcher) fileURL(commit, name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return fmt.Sprintf("%s/%s/resolve/%s/%s", f.env.endpoint, f.idPath(), commit, strings.Join(parts, "/"))
}
