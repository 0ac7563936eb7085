package nectar

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxLine is the longest row that is read, as JSON.
const maxLine = 64 << 20

var errTooLong = fmt.Errorf("longer than %d MB", maxLine>>20)

// A counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// readJSON reads JSON lines, or one JSON list of rows.
func readJSON(ctx context.Context, path string, emit func(int, []byte, error, float64) error) error {
	return readFile(ctx, path, false, emit)
}

// readGzip reads the same, compressed.
func readGzip(ctx context.Context, path string, emit func(int, []byte, error, float64) error) error {
	return readFile(ctx, path, true, emit)
}

func readFile(ctx context.Context, path string, compressed bool, emit func(int, []byte, error, float64) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("nectar: open data: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("nectar: open data: %w", err)
	}
	raw := &counter{r: &interruptible{ctx, f}}
	var text io.Reader = raw
	if compressed {
		if text, err = gzip.NewReader(bufio.NewReader(raw)); err != nil {
			return fmt.Errorf("nectar: read %s: %w", path, err)
		}
	}
	in := bufio.NewReaderSize(text, 1<<20)
	read := readLines
	if beginsList(in) {
		read = readList
	}
	err = read(in, func(number int, line []byte, bad error) error {
		return emit(number, line, bad, float64(raw.n)/float64(max(info.Size(), 1)))
	})
	var failed *readError
	if errors.As(err, &failed) {
		return fmt.Errorf("nectar: read %s: %w", path, err)
	}
	return err
}

// beginsList skips a byte order mark and white space that fits the buffer, and tells
// whether a JSON list follows.
func beginsList(in *bufio.Reader) bool {
	if mark, _ := in.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		in.Discard(3)
	}
	for n := 1; n <= in.Size(); n++ {
		b, err := in.Peek(n)
		if err != nil {
			return false
		}
		if last := b[n-1]; last != ' ' && last != '\t' && last != '\r' && last != '\n' {
			return last == '['
		}
	}
	return false
}

// A readError is a failure of the reader, not of emit.
type readError struct {
	what   string
	number int
	err    error
}

func (e *readError) Error() string { return fmt.Sprintf("%s %d: %v", e.what, e.number, e.err) }
func (e *readError) Unwrap() error { return e.err }

// readList hands every element of a JSON list to emit, which may keep it.
func readList(in *bufio.Reader, emit func(number int, element []byte, bad error) error) error {
	decoder := json.NewDecoder(in)
	number := 1
	failed := func(err error) error {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return &readError{"element", number, err}
	}
	if _, err := decoder.Token(); err != nil {
		return failed(err)
	}
	for ; decoder.More(); number++ {
		var element json.RawMessage
		if err := decoder.Decode(&element); err != nil {
			return failed(err)
		}
		if err := emit(number, element, nil); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return failed(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return &readError{"element", number, errors.New("there is more after the list")}
	}
	return nil
}

// readLines hands every line that is not blank to emit, which may keep it. A line
// over maxLine is emitted as bad.
func readLines(in *bufio.Reader, emit func(number int, line []byte, bad error) error) error {
	for number := 1; ; number++ {
		line, tooLong, err := readLine(in)
		if err != nil && err != io.EOF {
			return &readError{"line", number, err}
		}
		var emitErr error
		if tooLong {
			emitErr = emit(number, nil, errTooLong)
		} else if line = bytes.TrimSpace(line); len(line) > 0 {
			emitErr = emit(number, line, nil)
		}
		if emitErr != nil {
			return emitErr
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readLine reads up to a line feed or the end, which it returns as io.EOF. Of a
// line over maxLine it keeps nothing.
func readLine(in *bufio.Reader) (line []byte, tooLong bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > maxLine; tooLong {
			line = nil
		} else {
			line = append(line, part...)
		}
		if err != bufio.ErrBufferFull {
			return line, tooLong, err
		}
	}
}
