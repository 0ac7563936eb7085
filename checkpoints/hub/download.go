package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
)

// A want is a file to bring.
type want struct {
	name string
	*source
}

// download brings what is needed of a listing into its snapshot.
func (f *fetcher) download(ctx context.Context, l listing) error {
	names, err := f.choose(ctx, l)
	if err != nil {
		return err
	}
	wants, err := f.find(ctx, l.commit, names)
	if err != nil {
		return err
	}
	return f.bring(ctx, l.commit, wants)
}

// choose returns the names of the files that are needed. If an index lists the
// weights, it is downloaded for that.
func (f *fetcher) choose(ctx context.Context, l listing) ([]string, error) {
	if f.All {
		return l.names, nil
	}
	if f.Dataset {
		data := DataFiles(l.names)
		if len(data) == 0 {
			return nil, errors.New("it has no Parquet or JSON files (download with --all, and convert what is there)")
		}
		return data, nil
	}
	files, index, err := chooseModel(l.names)
	if err != nil || index == "" {
		return files, err
	}
	wants, err := f.find(ctx, l.commit, []string{index})
	if err != nil {
		return nil, err
	}
	quiet := *f
	quiet.meter = &meter{} // before the shards are known there is no total to tell
	if err := quiet.bring(ctx, l.commit, wants); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(f.repo.pointer(l.commit, index))
	if err != nil {
		return nil, err
	}
	weights, err := shards(b, f.SkipLMHead)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", index, err)
	}
	for _, w := range weights {
		if !slices.Contains(l.names, w) {
			return nil, fmt.Errorf("%s names %s, which the repository does not have (tell its owner)", index, w)
		}
	}
	return append(files, weights...), nil
}

// find asks for size and digest of the files that the snapshot does not have; of all,
// if what is there is to be checked.
func (f *fetcher) find(ctx context.Context, commit string, names []string) ([]want, error) {
	found := make([]*source, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(connections)
	for i, name := range names {
		if f.repo.has(commit, name) && !f.Newest {
			continue
		}
		g.Go(func() (err error) {
			found[i], err = f.client.find(ctx, f.fileURL(commit, name), commit)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var wants []want
	for i, s := range found {
		if s != nil {
			wants = append(wants, want{names[i], s})
		}
	}
	return wants, nil
}

// bring downloads files, small ones several at a time, large ones one by one, each
// over several connections.
func (f *fetcher) bring(ctx context.Context, commit string, wants []want) error {
	if len(wants) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(f.repo.dir, "blobs"), 0o777); err != nil {
		return diskError(err)
	}
	var missing int64
	for _, w := range wants {
		f.meter.expect(w.size)
		missing += w.size - f.here(w)
	}
	if err := checkSpace(f.repo.dir, missing); err != nil {
		return err
	}
	var large []want
	g, small := errgroup.WithContext(ctx)
	g.SetLimit(connections)
	for _, w := range wants {
		if w.size > 2*piece {
			large = append(large, w)
			continue
		}
		g.Go(func() error { return f.bringOne(small, commit, w) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, w := range large {
		if err := f.bringOne(ctx, commit, w); err != nil {
			return err
		}
	}
	return nil
}

// here is how much of a file is in the cache.
func (f *fetcher) here(w want) int64 {
	for _, path := range []string{f.repo.blob(w.etag), f.repo.partial(w.etag)} {
		if info, err := os.Stat(path); err == nil {
			return min(info.Size(), w.size)
		}
	}
	return 0
}

// bringOne downloads a content, unless it is here or comes by another process in the
// meantime, and links it into the snapshot.
func (f *fetcher) bringOne(ctx context.Context, commit string, w want) error {
	unlock, err := lock(ctx, f.repo.lockFile(w.etag), func() {
		f.Note(fmt.Sprintf("waiting for another process that downloads %s", w.name))
	})
	if err != nil {
		return err
	}
	defer unlock()
	info, err := os.Stat(f.repo.blob(w.etag))
	if err == nil && info.Size() == w.size {
		f.meter.add(w.size)
	} else if err := f.bringBlob(ctx, w); err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	return f.repo.link(commit, w.name, w.etag)
}

// bringBlob downloads a content. If it is damaged at the end, perhaps by what an
// earlier download has left, it is downloaded once more from its beginning.
func (f *fetcher) bringBlob(ctx context.Context, w want) error {
	path := f.repo.partial(w.etag)
	b, err := openBlob(ctx, w.source, path, f.meter)
	if err != nil {
		return err
	}
	defer b.file.Close()
	err = b.complete(ctx)
	if errors.Is(err, errDigest) {
		f.Note(fmt.Sprintf("%s: %v; downloading it again", w.name, err))
		if err := b.restart(); err != nil {
			return err
		}
		err = b.complete(ctx)
	}
	if errors.Is(err, errDigest) {
		return errors.Join(fmt.Errorf("%w (try again later, or another HF_ENDPOINT)", err), os.Remove(path))
	}
	if err != nil {
		return err
	}
	if err := b.file.Sync(); err != nil {
		return diskError(err)
	}
	return diskError(os.Rename(path, f.repo.blob(w.etag)))
}

// complete downloads the rest and checks the whole.
func (b *blob) complete(ctx context.Context) error {
	if err := b.fill(ctx); err != nil {
		return err
	}
	return b.verify()
}
