package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// A scoreFile is where scores go: standard output, or a file that appears under its
// name when it is complete. Until then the lines lie in path.partial, and what they
// depend on in path.partial.json.
type scoreFile struct {
	io.Writer
	path      string
	f         *os.File // nil for standard output
	overwrite bool
	lines     int // that an earlier run wrote
	bad       int // errors among them
}

func (s *scoreFile) partial() string { return s.path + ".partial" }
func (s *scoreFile) about() string   { return s.path + ".partial.json" }

// createScores finds out whether scores can go to path, - for stdout, without losing
// what is there.
func createScores(path string, stdout io.Writer, resume, overwrite bool) (*scoreFile, error) {
	if path == "-" {
		return &scoreFile{Writer: stdout, path: path}, nil
	}
	st, err := os.Stat(path)
	switch {
	case err == nil && !st.Mode().IsRegular():
		return nil, fmt.Errorf("infer: output %s is not a regular file (- is standard output)", path)
	case err == nil && !overwrite:
		return nil, fmt.Errorf("infer: output %s exists (--overwrite replaces it)", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("infer: output: %w", err)
	}
	s := &scoreFile{path: path, overwrite: overwrite}
	if s.f, err = os.OpenFile(s.partial(), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, fmt.Errorf("infer: create output: %w", err)
	}
	s.Writer = s.f
	if err := s.claim(resume); err != nil {
		return nil, errors.Join(err, s.f.Close())
	}
	return s, nil
}

// claim refuses a partial file that belongs to another process, or to an earlier run
// of which the user said nothing.
func (s *scoreFile) claim(resume bool) error {
	if err := syscall.Flock(int(s.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("infer: output %s: another process is writing it: %w", s.path, err)
	}
	begun, err := s.begun()
	if err != nil {
		return err
	}
	if begun && !resume && !s.overwrite {
		return fmt.Errorf("infer: output %s was interrupted (--resume goes on with it, --overwrite starts again)", s.path)
	}
	return nil
}

// begun tells whether the partial file holds something.
func (s *scoreFile) begun() (bool, error) {
	st, err := s.f.Stat()
	if err != nil {
		return false, fmt.Errorf("infer: output: %w", err)
	}
	return st.Size() > 0, nil
}

// begin starts a file with the identity of its lines, or goes on behind those that an
// earlier run with the same identity left.
func (s *scoreFile) begin(identity map[string]string) error {
	if s.f == nil {
		return nil
	}
	begun, err := s.begun()
	if err != nil {
		return err
	}
	if begun && !s.overwrite {
		return s.reopen(identity)
	}
	if err := s.f.Truncate(0); err != nil {
		return fmt.Errorf("infer: empty %s: %w", s.partial(), err)
	}
	b, err := json.MarshalIndent(identity, "", "  ")
	if err != nil {
		return fmt.Errorf("infer: describe output: %w", err)
	}
	if err := os.WriteFile(s.about(), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("infer: create output: %w", err)
	}
	return nil
}

func (s *scoreFile) reopen(identity map[string]string) error {
	b, err := os.ReadFile(s.about())
	var was map[string]string
	if err == nil {
		err = json.Unmarshal(b, &was)
	}
	if err != nil {
		return fmt.Errorf("infer: resume %s: %w (--overwrite starts again)", s.path, err)
	}
	if !maps.Equal(was, identity) {
		return fmt.Errorf("infer: resume %s: it was begun otherwise: %s (--overwrite starts again)", s.path, differences(was, identity))
	}
	end, err := s.countLines()
	if err == nil {
		err = s.f.Truncate(end)
	}
	if err == nil {
		_, err = s.f.Seek(end, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("infer: resume %s: %w", s.path, err)
	}
	return nil
}

// countLines counts the answers that are whole, and returns where they end. What a
// crash of the machine left behind them need be neither a line nor JSON.
func (s *scoreFile) countLines() (end int64, err error) {
	for r := bufio.NewReaderSize(s.f, 1<<20); ; s.lines++ {
		line, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return 0, err
		}
		var answer map[string]json.RawMessage
		if !bytes.HasSuffix(line, []byte("\n")) || json.Unmarshal(line, &answer) != nil {
			return end, nil
		}
		if _, bad := answer["error"]; bad {
			s.bad++
		}
		end += int64(len(line))
	}
}

// differences lists what differs between two identities.
func differences(was, now map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if was[name] != now[name] {
			out = append(out, fmt.Sprintf("%s was %q and is %q", name, was[name], now[name]))
		}
	}
	return strings.Join(out, ", ")
}

// interrupted says what became of the lines so far.
func (s *scoreFile) interrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		err = errors.New("infer: interrupted")
	}
	if s.f == nil {
		return err
	}
	if e := s.f.Sync(); e != nil {
		return fmt.Errorf("%w (%s: %w)", err, s.partial(), e)
	}
	return fmt.Errorf("%w (the lines so far are in %s; --resume goes on)", err, s.partial())
}

// finish gives the file its name.
func (s *scoreFile) finish() error {
	if s.f == nil {
		return nil
	}
	for _, step := range []func() error{
		s.f.Sync,
		func() error { return os.Rename(s.partial(), s.path) },
		func() error { return os.Remove(s.about()) },
		func() error { return syncFolder(filepath.Dir(s.path)) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("infer: finish output %s: %w", s.path, err)
		}
	}
	return nil
}

// syncFolder makes renames in a folder last.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// close leaves no files behind if nothing was written.
func (s *scoreFile) close() error {
	if s.f == nil {
		return nil
	}
	begun, err := s.begun()
	if err == nil && !begun {
		for _, name := range []string{s.partial(), s.about()} {
			if e := os.Remove(name); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}
	return errors.Join(err, s.f.Close())
}
