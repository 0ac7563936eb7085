package checkpoints

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// writeSynced creates a new file with the given bytes and waits until it is on disk.
func writeSynced(path string, data []byte) error {
	return createSynced(path, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// createSynced creates a new file, lets fill write it, and waits until it is on
// disk.
func createSynced(path string, fill func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir waits until the names in a folder are on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// rename moves a file or folder and waits until its new name is on disk.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// tempDir creates a folder beside what it will become, with the permissions that
// the user's umask gives to a new folder.
func tempDir(parent, pattern string) (string, error) {
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return "", err
	}
	// MkdirTemp makes folders private; a folder made as usual tells what they should be.
	probe := filepath.Join(dir, "mode")
	if err := os.Mkdir(probe, 0o777); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	info, err := os.Stat(probe)
	if err == nil {
		err = os.Chmod(dir, info.Mode().Perm())
	}
	if err == nil {
		err = os.Remove(probe)
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// explain adds a remedy to the failures of a file system that users meet.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w (the disk is full: free space, or choose another folder)", err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (the folder cannot be written: change its permissions, or choose another)", err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w (a part of the path is a file: choose another folder)", err)
	}
	return err
}

// sequentialFile hashes what is written, which must come in order from the start.
type sequentialFile struct {
	w    io.Writer // the file and the hash
	next int64
}

// WriteAt implements io.WriterAt for off equal to the bytes written so far.
func (s *sequentialFile) WriteAt(p []byte, off int64) (int, error) {
	if off != s.next {
		return 0, fmt.Errorf("write at %d, but %d bytes are written", off, s.next)
	}
	n, err := s.w.Write(p)
	s.next += int64(n)
	return n, err
}
