package report

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
)

// maxChunk is how much of a file is read at once. A longer line is left out.
const maxChunk = 1 << 20

// A tail follows a file of lines that a run appends to, and cuts or replaces when it
// resumes.
type tail struct {
	path   string
	offset int64  // behind the last whole line that was read
	last   []byte // that line
	chunk  []byte
}

// next returns the whole lines since the call before, at most maxChunk bytes of
// them, valid until the next call. again tells that the lines of all earlier calls
// are void: the file was cut, replaced or removed. A file that does not exist is
// empty.
func (t *tail) next() (lines [][]byte, again bool, err error) {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		again = t.offset > 0
		t.rewind()
		return nil, again, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if same, err := t.same(f); err != nil {
		return nil, false, err
	} else if !same {
		again = true
		t.rewind()
	}
	if t.chunk == nil {
		t.chunk = make([]byte, maxChunk)
	}
	n, err := f.ReadAt(t.chunk, t.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, again, err
	}
	return t.take(t.chunk[:n]), again, nil
}

func (t *tail) rewind() { t.offset, t.last = 0, nil }

// same reports whether the last line that was read is still at its place in f.
// That tells a file that was cut and has grown again from one that only grew, for no
// two lines of a log are the same.
func (t *tail) same(f *os.File) (bool, error) {
	now := make([]byte, len(t.last))
	_, err := f.ReadAt(now, t.offset-int64(len(t.last)))
	if errors.Is(err, io.EOF) {
		return len(now) == 0, nil
	}
	return bytes.Equal(now, t.last), err
}

// take cuts what was read into lines and leaves what follows the last of them for
// later, unless no line is as long as that.
func (t *tail) take(text []byte) [][]byte {
	end := bytes.LastIndexByte(text, '\n') + 1
	if end == 0 {
		if len(text) == maxChunk {
			t.offset, t.last = t.offset+maxChunk, bytes.Clone(text[maxChunk-1:])
		}
		return nil
	}
	var lines [][]byte
	for line := range bytes.Lines(text[:end]) {
		lines = append(lines, bytes.TrimSuffix(line, []byte("\n")))
	}
	start := bytes.LastIndexByte(text[:end-1], '\n') + 1
	t.offset, t.last = t.offset+int64(end), bytes.Clone(text[start:end])
	return lines
}
