package infer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

const (
	// maxLine bounds the memory that one line of input may take.
	maxLine = 64 << 20
	// windowLines bounds the lines that are answered together.
	windowLines = 1024
)

// A window is the lines that are answered together.
type window struct {
	lines []*line
	bytes int64 // of input, since the window before
	err   error // why no other window follows; io.EOF at the end
}

// readWindows sends windows of about so many bytes until the one with an error, or
// until ctx ends. The first skip lines are left out.
func readWindows(ctx context.Context, in io.Reader, skip, bytes int, to chan<- window) {
	r := &lineReader{in: bufio.NewReaderSize(in, 1<<20), windowBytes: bytes}
	before, err := r.skip(skip)
	for done := false; !done; {
		w := window{bytes: before, err: err}
		if err == nil {
			w = r.window()
			w.bytes += before
		}
		before, done = 0, w.err != nil
		select {
		case to <- w:
		case <-ctx.Done():
			return
		}
	}
}

// A lineReader reads lines and counts them.
type lineReader struct {
	in          *bufio.Reader
	read        int // lines so far
	windowBytes int
}

// window waits for a line, and takes those after it that are there.
func (r *lineReader) window() window {
	var w window
	for size := 0; len(w.lines) == 0 || size < r.windowBytes && len(w.lines) < windowLines && r.ready(); {
		l, n, err := r.next()
		w.bytes += n
		if l != nil {
			w.lines = append(w.lines, l)
			size += len(l.raw)
		}
		if err != nil {
			w.err = err
			break
		}
	}
	return w
}

// ready tells whether the buffer holds a whole line.
func (r *lineReader) ready() bool {
	b, _ := r.in.Peek(r.in.Buffered())
	return bytes.IndexByte(b, '\n') >= 0
}

// next returns the next line, if there is one, and how many bytes it took. The last
// one need not have an end.
func (r *lineReader) next() (l *line, size int64, err error) {
	l = &line{number: r.read + 1}
	for err = bufio.ErrBufferFull; err == bufio.ErrBufferFull; {
		var part []byte
		part, err = r.in.ReadSlice('\n')
		size += int64(len(part))
		if size > maxLine {
			l.raw, l.err = nil, fmt.Errorf("the line is longer than %d MB", maxLine>>20)
			continue
		}
		l.raw = append(l.raw, part...)
	}
	if err != nil && (err != io.EOF || size == 0) {
		return nil, size, err
	}
	if l.raw = bytes.TrimRight(l.raw, "\r\n"); r.read == 0 {
		l.raw = bytes.TrimPrefix(l.raw, []byte("\xef\xbb\xbf")) // a byte order mark
	}
	if l.err == nil && len(bytes.TrimSpace(l.raw)) == 0 {
		l.err = errors.New("the line is empty")
	}
	r.read++
	return l, size, err
}

// skip reads past n lines and returns their bytes.
func (r *lineReader) skip(n int) (size int64, err error) {
	for r.read < n {
		l, bytes, err := r.next()
		size += bytes
		if l == nil && err == io.EOF {
			return size, fmt.Errorf("the input ends there, but %d lines of it have been answered before", n)
		}
		if err != nil && err != io.EOF {
			return size, err
		}
	}
	return size, nil
}
