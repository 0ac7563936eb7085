// Package hub brings models and datasets from the Hugging Face hub into the local
// cache, which it shares with huggingface_hub: same folders, names, links and locks,
// and partial files that either side resumes.
//
// It is written here because no maintained Go library does what it must. The one
// that can be fetched, gomlx/go-huggingface v0.3.1, shares the cache, but deletes
// partial files instead of resuming them, compares neither size nor digest, refuses
// redirected (that is: large) files, and knows neither ranges, offline mode,
// HF_TOKEN, HF_HOME nor Retry-After.
package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
)

// Options say what to fetch.
type Options struct {
	ID       string // "org/name", or "name" alone for the oldest models
	Revision string // branch, tag or commit; empty is main
	Dataset  bool   // else a model
	All      bool   // every file, not only those that rmtrain reads
	// SkipLMHead leaves out weight files that hold only lm_head.weight. The
	// reader of the folder must not miss them.
	SkipLMHead bool
	// Newest asks the hub which commit is the newest even if an older one is in the
	// cache, and compares the sizes of what is there. Otherwise what is in the cache
	// stays in use.
	Newest bool
	// Progress, if set, is told the bytes that are here and those wanted, of all
	// files together, as they come. It is never called twice at a time.
	Progress func(done, total int64)
	// Note, if set, is told in a line what the user should know, such as a wait. It is
	// never called twice at a time.
	Note func(line string)
}

// Fetch returns the folder of the repository's files in the local cache. What is
// missing there is downloaded first, unless HF_HUB_OFFLINE is set. Partial files
// stay when ctx ends or a connection fails, and the next call goes on with them.
func Fetch(ctx context.Context, o Options) (folder string, err error) {
	f, err := newFetcher(o)
	if err == nil {
		folder, err = f.fetch(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (what has come is kept, and the same command goes on with it)", err)
	}
	if err != nil {
		return "", fmt.Errorf("hub: download %s: %w", o.subject(), err)
	}
	return folder, nil
}

// subject is what errors call the repository.
func (o Options) subject() string {
	s := "model " + o.ID
	if o.Dataset {
		s = "dataset " + o.ID
	}
	if o.Revision != "" && o.Revision != mainRevision {
		s += " at " + o.Revision
	}
	return s
}

const mainRevision = "main"

var idPattern = regexp.MustCompile(`^(\w[\w.-]*/)?\w[\w.-]*$`)

// IsID tells whether s can be the name of a repository, by huggingface_hub's rules.
func IsID(s string) bool {
	return len(s) <= 2*96 && idPattern.MatchString(s) &&
		!strings.Contains(s, "--") && !strings.Contains(s, "..") &&
		!strings.HasSuffix(s, ".git") && !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "-")
}

// A fetcher fetches one repository.
type fetcher struct {
	Options
	env    environment
	repo   repository
	client *client
	meter  *meter
}

func newFetcher(o Options) (*fetcher, error) {
	if !IsID(o.ID) {
		return nil, fmt.Errorf("%q is not the name of a repository (give it as on its page: organization/name)", o.ID)
	}
	if o.Revision == "" {
		o.Revision = mainRevision
	}
	if !isSafe(o.Revision) {
		return nil, fmt.Errorf("%q is not a revision (give a branch, a tag or a commit)", o.Revision)
	}
	o.Note = oneByOne(o.Note)
	env, err := readEnvironment()
	if err != nil {
		return nil, err
	}
	return &fetcher{
		Options: o,
		env:     env,
		repo:    findRepository(env.caches, o.ID, o.Dataset),
		client:  newClient(env, o.Note),
		meter:   &meter{report: o.Progress},
	}, nil
}

func (f *fetcher) fetch(ctx context.Context) (string, error) {
	commit, lacks := f.cached()
	if f.env.offline {
		if lacks != nil {
			return "", fmt.Errorf("%w, and HF_HUB_OFFLINE is set (unset it, or copy the repository into %s)", lacks, f.repo.dir)
		}
		return f.repo.snapshot(commit), nil
	}
	// A model tells by itself whether it is whole; of a dataset, only the hub knows.
	if lacks == nil && !f.Newest && !f.All && !f.Dataset {
		return f.repo.snapshot(commit), nil
	}
	revision := f.Revision
	if commit != "" && !f.Newest {
		revision = commit
	}
	list, err := f.list(ctx, revision)
	if isNotFound(err) && revision != f.Revision { // the branch was rewritten
		list, err = f.list(ctx, f.Revision)
	}
	if unreachable(err) && lacks == nil && !f.Newest && !f.All {
		f.Note(fmt.Sprintf("%s: the hub cannot be reached; using what is in the cache", f.subject()))
		return f.repo.snapshot(commit), nil
	}
	if err != nil {
		return "", f.explain(err)
	}
	if err := f.download(ctx, list); err != nil {
		return "", f.explain(err)
	}
	return f.repo.snapshot(list.commit), f.repo.writeRef(f.Revision, list.commit)
}

// cached returns the commit that the cache has for the revision, if it has one, and
// why its files are not enough.
func (f *fetcher) cached() (commit string, lacks error) {
	commit, err := f.repo.commit(f.Revision)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("it is not in the local cache")
	}
	if err != nil {
		return "", err
	}
	folder := f.repo.snapshot(commit)
	if _, err := os.Stat(folder); err != nil {
		return commit, errors.New("it is not in the local cache")
	}
	if f.Dataset {
		return commit, lacksData(folder)
	}
	return commit, lacksModel(folder, f.SkipLMHead)
}

// oneByOne lets several goroutines call note.
func oneByOne(note func(string)) func(string) {
	if note == nil {
		return func(string) {}
	}
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		note(line)
	}
}
