package nectar

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Parquet is decoded in a child process of this same program. A damaged page makes
// the Arrow library panic in a goroutine of its own, where nothing can recover; in
// a child that ends the child, and its parent reports file and row group.
//
// The child writes frames to its standard output: a byte that says what, a
// little-endian uint32 length, and so many bytes.
const (
	frameFile  = 'F' // the first: uint64 rows of the file, uint64 row groups
	frameGroup = 'G' // uint64 number of the row group that is decoded next
	frameRow   = 'R' // a row as JSON
	frameLong  = 'L' // a row over maxLine, without it
	frameError = 'E' // what failed; the last
	frameEnd   = 'Z' // everything was read; the last
)

// childEnv tells a process that it is such a child, and of which file.
const childEnv = "RMTRAIN_DECODE_PARQUET"

var errNoDecoder = errors.New("the decoder did not answer: main must call nectar.ChildMain first")

// ChildMain must be the first call of main (and of TestMain) in a program that reads
// Parquet. In a process that was started to decode a file it does that and returns
// true, and main must return; in all others it does nothing and returns false.
func ChildMain() bool {
	path, isChild := os.LookupEnv(childEnv)
	if !isChild {
		return false
	}
	out := &frameWriter{w: bufio.NewWriterSize(os.Stdout, 1<<20), maxRow: maxLine}
	if err := decodeParquet(path, out); err != nil {
		out.write(frameError, []byte(err.Error()))
	} else {
		out.write(frameEnd, nil)
	}
	if out.flush() != nil {
		os.Exit(1)
	}
	return true
}

// readParquet reads the rows of a Parquet file.
func readParquet(ctx context.Context, path string, emit func(int, []byte, error, float64) error) error {
	if _, isChild := os.LookupEnv(childEnv); isChild {
		return errors.New("nectar: read Parquet: main must call nectar.ChildMain first")
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("nectar: open data: %w", err)
	}
	f.Close()
	childCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	child, out, err := startChild(childCtx, path)
	if err != nil {
		return fmt.Errorf("nectar: read %s: start the decoder: %w", path, err)
	}
	p := &parent{in: bufio.NewReaderSize(out, 1<<20), emit: emit, group: -1}
	err = p.run()
	if err != nil {
		cancel() // the child may be waiting for room to write
	}
	died := child.Wait()
	switch {
	case err == nil, p.emitErr != nil:
		return p.emitErr
	case ctx.Err() != nil:
		return fmt.Errorf("nectar: read %s: %w", path, ctx.Err())
	}
	where := path
	if p.group >= 0 {
		where = fmt.Sprintf("%s: row group %d of %d", path, p.group+1, p.groups)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = lastWords(child.Stderr.(*head).String(), died)
	}
	return fmt.Errorf("nectar: read %s: %w", where, err)
}

func startChild(ctx context.Context, path string) (*exec.Cmd, io.Reader, error) {
	program := "/proc/self/exe" // works even if the file was replaced since
	if _, err := os.Stat(program); err != nil {
		if program, err = os.Executable(); err != nil {
			return nil, nil, err
		}
	}
	child := exec.CommandContext(ctx, program)
	child.Env = append(os.Environ(), childEnv+"="+path)
	child.Stderr = &head{limit: 4 << 10}
	// An interrupt from the keyboard is for the parent, which then ends its child.
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	return child, out, child.Start()
}

// A parent follows what its child writes.
type parent struct {
	in                  *bufio.Reader
	emit                func(int, []byte, error, float64) error
	emitErr             error
	rows, groups, group int64
}

func (p *parent) run() error {
	kind, body, err := readFrame(p.in)
	if err != nil {
		return err
	}
	if kind == frameError {
		return errors.New(string(body))
	}
	if kind != frameFile || len(body) != 16 {
		return errNoDecoder
	}
	p.rows, p.groups = int64(binary.LittleEndian.Uint64(body)), int64(binary.LittleEndian.Uint64(body[8:]))
	for number := 1; ; {
		kind, body, err := readFrame(p.in)
		if err != nil {
			return err
		}
		switch {
		case kind == frameRow || kind == frameLong:
			var bad error
			if kind == frameLong {
				body, bad = nil, errTooLong
			}
			p.emitErr = p.emit(number, body, bad, min(float64(number)/float64(max(p.rows, 1)), 1))
			if p.emitErr != nil {
				return p.emitErr
			}
			number++
		case kind == frameGroup && len(body) == 8:
			p.group = int64(binary.LittleEndian.Uint64(body))
		case kind == frameError:
			return errors.New(string(body))
		case kind == frameEnd:
			return nil
		default:
			return fmt.Errorf("the decoder wrote an unknown frame %q", kind)
		}
	}
}

func readFrame(in *bufio.Reader) (kind byte, body []byte, err error) {
	var h [5]byte
	if _, err := io.ReadFull(in, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(h[1:])
	if n > maxLine {
		return 0, nil, errNoDecoder
	}
	// Memory follows what arrives, since the length may be anyone's.
	var b bytes.Buffer
	b.Grow(int(min(n, 1<<16)))
	_, err = io.CopyN(&b, in, int64(n))
	return h[0], b.Bytes(), err
}

// lastWords says why a child died without saying so itself: what it panicked about
// on standard error, or its exit status.
func lastWords(stderr string, died error) error {
	for line := range strings.Lines(stderr) {
		if cause, ok := strings.CutPrefix(line, "panic: "); ok {
			return fmt.Errorf("the file is damaged: %s", strings.TrimSpace(cause))
		}
		if strings.HasPrefix(line, "fatal error: ") {
			return fmt.Errorf("the decoder failed: %s", strings.TrimSpace(line))
		}
	}
	if died != nil {
		return fmt.Errorf("the decoder ended: %w", died)
	}
	return errors.New("the decoder ended early")
}

// A head keeps the beginning of what is written to it.
type head struct {
	bytes.Buffer
	limit int
}

func (h *head) Write(b []byte) (int, error) {
	if room := h.limit - h.Len(); room > 0 {
		h.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// A frameWriter is the child's end. Its first failure is kept.
type frameWriter struct {
	w      *bufio.Writer
	maxRow int // bytes of the longest row that is written
	err    error
}

func (f *frameWriter) writeRow(json []byte) {
	if len(json) > f.maxRow {
		f.write(frameLong, nil)
		return
	}
	f.write(frameRow, json)
}

func (f *frameWriter) write(kind byte, body []byte) {
	h := [5]byte{kind}
	binary.LittleEndian.PutUint32(h[1:], uint32(len(body)))
	if _, err := f.w.Write(h[:]); err != nil && f.err == nil {
		f.err = err
	}
	if _, err := f.w.Write(body); err != nil && f.err == nil {
		f.err = err
	}
}

func (f *frameWriter) flush() error {
	if err := f.w.Flush(); err != nil && f.err == nil {
		f.err = err
	}
	return f.err
}
