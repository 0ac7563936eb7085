package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

var commitPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)

// A repository is its folder in the cache:
//
//	blobs/ETAG              contents, by SHA-256 or git's SHA-1
//	blobs/ETAG.incomplete   the beginning of one
//	refs/REVISION           the commit of a branch or tag
//	snapshots/COMMIT/NAME   links to ../../blobs/ETAG
//
// and beside all repositories .locks/FOLDER/ETAG.lock.
type repository struct {
	dir   string
	locks string
}

// findRepository returns the first repository of that name that exists, or where a
// new one goes.
func findRepository(caches []string, id string, dataset bool) repository {
	folder := "models--"
	if dataset {
		folder = "datasets--"
	}
	folder += strings.ReplaceAll(id, "/", "--")
	at := caches[0]
	for _, c := range caches {
		if _, err := os.Stat(filepath.Join(c, folder, "snapshots")); err == nil {
			at = c
			break
		}
	}
	return repository{dir: filepath.Join(at, folder), locks: filepath.Join(at, ".locks", folder)}
}

func (r repository) snapshot(commit string) string { return filepath.Join(r.dir, "snapshots", commit) }
func (r repository) blob(etag string) string       { return filepath.Join(r.dir, "blobs", etag) }
func (r repository) partial(etag string) string    { return r.blob(etag) + ".incomplete" }
func (r repository) lockFile(etag string) string   { return filepath.Join(r.locks, etag+".lock") }
func (r repository) pointer(commit, name string) string {
	return filepath.Join(r.snapshot(commit), filepath.FromSlash(name))
}

// has tells whether the file is in the snapshot with a content behind it.
func (r repository) has(commit, name string) bool {
	info, err := os.Stat(r.pointer(commit, name))
	return err == nil && info.Mode().IsRegular()
}

// commit returns the commit that a revision means in the cache; fs.ErrNotExist if
// the cache does not know it.
func (r repository) commit(revision string) (string, error) {
	if commitPattern.MatchString(revision) {
		return revision, nil
	}
	path := filepath.Join(r.dir, "refs", filepath.FromSlash(revision))
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	commit := strings.TrimSpace(string(b))
	if !commitPattern.MatchString(commit) {
		return "", fmt.Errorf("%s holds %.50q, not a commit (delete the file): %w", path, commit, fs.ErrNotExist)
	}
	return commit, nil
}

// writeRef stores which commit a branch or tag means. It comes last, so that what
// an earlier download has left stays in use until the next one is whole.
func (r repository) writeRef(revision, commit string) error {
	if revision == commit {
		return nil
	}
	if old, err := r.commit(revision); err == nil && old == commit {
		return nil
	}
	path := filepath.Join(r.dir, "refs", filepath.FromSlash(revision))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return diskError(err)
	}
	return diskError(replaceFile(path, []byte(commit)))
}

// replaceFile writes a small file that others may read at any time.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// link makes the snapshot's name of a blob.
func (r repository) link(commit, name, etag string) error {
	at := r.pointer(commit, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		return diskError(err)
	}
	to, err := filepath.Rel(filepath.Dir(at), r.blob(etag))
	if err != nil {
		return err
	}
	if old, err := os.Readlink(at); err == nil && old == to {
		return nil
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = os.Symlink(to, at)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w (this file system has no symbolic links: set HF_HUB_CACHE to a folder on another)", err)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was quicker, with the same content
	}
	return diskError(err)
}

// isSafe tells whether a name that came from outside stays in the folder it is
// joined to.
func isSafe(name string) bool {
	return name != "." && filepath.IsLocal(filepath.FromSlash(name)) && !strings.ContainsAny(name, "\\\x00") &&
		name == filepath.ToSlash(filepath.Clean(filepath.FromSlash(name)))
}

// diskError says what to do about an error of the cache's file system.
func diskError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w (free space, or set HF_HUB_CACHE to a larger disk; what is here is kept)", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w (set HF_HUB_CACHE to a folder that can be written)", err)
	}
	return err
}

// checkSpace refuses a download for which the cache's disk has no room. It has
// nothing to say about file systems that do not tell.
func checkSpace(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Blocks == 0 {
		return nil
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < need {
		return fmt.Errorf("%s has room for %s, and %s are missing (free space, or set HF_HUB_CACHE to a larger disk)",
			dir, bytesText(free), bytesText(need))
	}
	return nil
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	x, unit := float64(n), -1
	for x >= 1000 && unit < 3 {
		x, unit = x/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", x, "kMGT"[unit])
}
