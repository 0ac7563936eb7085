package data

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
)

// A Writer streams groups into a cache file. The file appears whole, at Commit, or
// not at all. What a Writer keeps in memory does not grow with the groups.
type Writer struct {
	path     string
	head     header
	file     *os.File // becomes path
	tokens   *bufio.Writer
	answers  *spool
	groups   *spool
	files    []string
	fileIDs  map[string]uint32
	checksum hash.Hash32
	content  hash.Hash
	scratch  []byte
}

// Create begins the file at path for ids below vocab; tokens take two bytes each
// if that suffices. The caller must Close the Writer.
func Create(path string, vocab int) (*Writer, error) {
	w := &Writer{path: path, fileIDs: map[string]uint32{}, content: sha256.New(), checksum: crc32.New(castagnoli)}
	w.head.width = 2
	if vocab > 1<<16 {
		w.head.width = 4
	}
	removeStale(path)
	var err error
	if w.file, err = temporary(path); err != nil {
		return nil, fmt.Errorf("data: create %s: %w", path, err)
	}
	_ = lock(w.file) // where files have no locks, removeStale gets none either
	w.tokens = bufio.NewWriterSize(io.MultiWriter(w.file, w.checksum, w.content), 1<<20)
	w.answers, err = newSpool(path)
	if err == nil {
		w.groups, err = newSpool(path)
	}
	if err == nil {
		_, err = w.file.Write(make([]byte, headerSize))
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("data: create %s: %w", path, err)
	}
	return w, nil
}

// Add appends g, which came from the row (counted from 1) of file. Group returns
// it with both as its Source; the one in g is not looked at.
func (w *Writer) Add(g Group, file string, row int) error {
	if err := w.add(g, file, row); err != nil {
		return fmt.Errorf("data: write %s:%d to %s: %w", file, row, w.path, err)
	}
	return nil
}

func (w *Writer) add(g Group, file string, row int) error {
	if len(g.Answers) == 0 {
		return errors.New("a group without answers")
	}
	for i, a := range g.Answers {
		if err := w.addAnswer(a); err != nil {
			return fmt.Errorf("answer %d: %w", i+1, err)
		}
	}
	id, known := w.fileIDs[file]
	if !known {
		id = uint32(len(w.files))
		w.files, w.fileIDs[file] = append(w.files, file), id
	}
	w.head.groups++
	b := le.AppendUint64(w.scratch[:0], w.head.answers)
	b = le.AppendUint64(b, uint64(row))
	b = le.AppendUint64(b, math.Float64bits(g.Margin))
	b = le.AppendUint32(b, id)
	b = le.AppendUint32(b, uint32(PackRows(g, true)))
	b = append(b, g.Prompt[:]...)
	w.scratch = b
	_, err := w.groups.Write(b)
	return err
}

func (w *Writer) addAnswer(a Answer) error {
	if len(a.Tokens) == 0 {
		return errors.New("no tokens")
	}
	if math.IsNaN(a.Rank) || math.IsInf(a.Rank, 0) {
		return fmt.Errorf("rank %v", a.Rank)
	}
	b := w.scratch[:0]
	limit := int64(1) << (8 * w.head.width)
	for _, id := range a.Tokens {
		if id < 0 || int64(id) >= limit {
			return fmt.Errorf("token id %d does not fit the vocabulary", id)
		}
		if w.head.width == 2 {
			b = binary.LittleEndian.AppendUint16(b, uint16(id))
		} else {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
	}
	w.scratch = b
	if _, err := w.tokens.Write(b); err != nil {
		return err
	}
	w.head.tokens += uint64(len(a.Tokens))
	w.head.answers++
	b = le.AppendUint64(b[:0], math.Float64bits(a.Rank))
	b = le.AppendUint64(b, w.head.tokens)
	w.scratch = b
	_, err := w.answers.Write(b)
	return err
}

// Commit completes the file, waits until the disk has it, and gives it its name.
func (w *Writer) Commit() error {
	if err := w.commit(); err != nil {
		return fmt.Errorf("data: write %s: %w", w.path, err)
	}
	return nil
}

func (w *Writer) commit() error {
	padding := w.head.tokenBytes() - w.head.tokens*uint64(w.head.width)
	if _, err := w.tokens.Write(make([]byte, padding)); err != nil {
		return err
	}
	for _, s := range []*spool{w.answers, w.groups} {
		if err := s.copyTo(w.tokens); err != nil {
			return err
		}
	}
	if err := w.tokens.Flush(); err != nil {
		return err
	}
	w.content.Sum(w.head.digest[:0]) // the same content under another name is the same
	names, err := json.Marshal(w.files)
	if err != nil {
		return err
	}
	w.head.files = uint64(len(names))
	w.checksum.Write(names)
	w.head.checksum = w.checksum.Sum32()
	if _, err := w.file.Write(names); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(w.head.encode(), 0); err != nil {
		return err
	}
	return w.publish()
}

// publish makes the written file durable under its name.
func (w *Writer) publish() error {
	if err := w.file.Chmod(0o644); err != nil { // as temporary it is the user's alone
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	// It is closed, and no longer locked, once it has its name.
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		return err
	}
	err := w.file.Close()
	w.file = nil
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(w.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Close releases the Writer, and what was written if it was not committed.
func (w *Writer) Close() error {
	w.answers.discard()
	w.groups.discard()
	if w.file == nil {
		return nil
	}
	w.file.Close()
	err := os.Remove(w.file.Name())
	w.file = nil
	return err
}

// A spool is a nameless temporary file for what comes later in the final one.
type spool struct {
	*bufio.Writer
	file *os.File
}

func newSpool(path string) (*spool, error) {
	f, err := temporary(path)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil { // it lives until it is closed
		f.Close()
		return nil, err
	}
	return &spool{bufio.NewWriterSize(f, 1<<18), f}, nil
}

func (s *spool) copyTo(w io.Writer) error {
	if err := s.Flush(); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(w, s.file)
	return err
}

func (s *spool) discard() {
	if s != nil {
		s.file.Close()
	}
}
