package rows

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Parquet is decoded in a child process of this same program. A damaged page makes the
// Arrow library panic in a goroutine of its own, where nothing can recover, or loop, or
// ask for any amount of memory; in a child that ends the child, and its parent reports
// file and row group.
//
// The child writes frames to its standard output: a byte that says what, a
// little-endian uint32 length, and so many bytes.
const (
	frameFile  = 'F' // the first: uint64 rows of the file, uint64 row groups
	frameGroup = 'G' // uint64 number of the row group that is decoded next
	frameRow   = 'R' // a row as JSON
	frameLong  = 'L' // a row over maxRow, without it
	frameError = 'E' // what failed; the last
	frameEnd   = 'Z' // everything was read; the last
)

const (
	frameHead = 5  // bytes before the body
	frameCost = 64 // bytes that a frame counts beside its body: a row takes time, however short
)

// childEnv tells a process that it is such a child; its value is a request.
const childEnv = "RMTRAIN_DECODE_PARQUET"

// A request is what a child decodes.
type request struct {
	Path    string
	Columns []string // all if there are none
	Memory  uint64   // bytes of data that it may have, beside those it starts with
}

// limits bound what a file may cost, which may claim anything of itself.
type limits struct {
	silence time.Duration // the longest that the decoder may go on without a batch of rows
	memory  uint64        // bytes of the decoder's data
	output  int64         // bytes of rows as JSON, beside expansion times the file's size
}

// expansion is the most that rows as JSON take of a byte of their file, beyond
// limits.output. Text compresses to a fifth or a tenth.
const expansion = 1000

var usual = limits{silence: time.Minute, memory: 4 << 30, output: 256 << 20}

var errNoDecoder = errors.New("the decoder did not answer: main must call rows.ChildMain first")

// rewrite is what helps against a file that cannot be decoded.
const rewrite = "fetch the file again, or write it anew as Parquet or JSON lines"

func readParquet(ctx context.Context, path string, columns []string, emit Emit) error {
	return usual.readParquet(ctx, path, columns, emit)
}

// readParquet reads the rows of a Parquet file by means of a child.
func (l limits) readParquet(ctx context.Context, path string, columns []string, emit Emit) error {
	if _, isChild := os.LookupEnv(childEnv); isChild {
		return errNoDecoder
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	childCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	child, out, err := startChild(childCtx, request{path, columns, l.memory})
	if err != nil {
		return fmt.Errorf("start the decoder: %w", err)
	}
	watched := &watch{r: out, silence: l.silence, expired: cancel}
	p := &parent{in: bufio.NewReaderSize(watched, 1<<20), emit: emit, group: -1, left: l.output + expansion*info.Size()}
	err = p.run()
	if err != nil {
		cancel() // the child may be waiting for room to write
	}
	died := child.Wait()
	switch {
	case err == nil, p.refused:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case watched.fired.Load():
		err = fmt.Errorf("no row was decoded in %v: the file is damaged, or its disk does not answer (%s)", l.silence, rewrite)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		err = l.lastWords(child.Stderr.(*head).String(), died)
	}
	if p.group >= 0 {
		err = fmt.Errorf("row group %d of %d: %w", p.group+1, p.groups, err)
	}
	return err
}

func startChild(ctx context.Context, what request) (*exec.Cmd, io.Reader, error) {
	program := "/proc/self/exe" // works even if the file was replaced since
	if _, err := os.Stat(program); err != nil {
		if program, err = os.Executable(); err != nil {
			return nil, nil, err
		}
	}
	value, err := json.Marshal(what)
	if err != nil {
		return nil, nil, err
	}
	child := exec.CommandContext(ctx, program)
	child.Env = append(os.Environ(), childEnv+"="+string(value))
	child.Stderr = &head{limit: 4 << 10}
	// An interrupt from the keyboard is for the parent, which then ends its child.
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	return child, out, child.Start()
}

// A watch calls expired if a read takes longer than silence. Time between reads, when
// the child may be waiting for its parent, does not count.
type watch struct {
	r       io.Reader
	silence time.Duration
	expired func()
	fired   atomic.Bool
}

func (w *watch) Read(b []byte) (int, error) {
	timer := time.AfterFunc(w.silence, func() {
		w.fired.Store(true)
		w.expired()
	})
	defer timer.Stop()
	return w.r.Read(b)
}

// A parent follows what its child writes.
type parent struct {
	in                  *bufio.Reader
	emit                Emit
	refused             bool // by emit
	left                int64
	rows, groups, group int64
}

func (p *parent) run() error {
	kind, body, err := p.frame()
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
		kind, body, err := p.frame()
		if err != nil {
			return err
		}
		switch {
		case kind == frameRow || kind == frameLong:
			r := Row{Number: number, JSON: body, Done: float64(number) / float64(max(p.rows, 1))}
			if kind == frameLong {
				r.JSON, r.Err = nil, errTooLong
			}
			if err := p.emit(r); err != nil {
				p.refused = true
				return err
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

func (p *parent) frame() (kind byte, body []byte, err error) {
	var h [frameHead]byte
	if _, err := io.ReadFull(p.in, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(h[1:])
	if n > maxRow {
		return 0, nil, errNoDecoder
	}
	if p.left -= frameCost + int64(n); p.left < 0 {
		return 0, nil, fmt.Errorf("its rows are more than %d times as large as the file: it is damaged, or made to fill memory (write it as JSON lines if they are meant)", expansion)
	}
	// Memory follows what arrives, since the length may be anyone's.
	var b bytes.Buffer
	b.Grow(int(min(n, 1<<16)))
	_, err = io.CopyN(&b, p.in, int64(n))
	return h[0], b.Bytes(), err
}

// outOfMemory is what Go's heap, C's threads, and the race detector say when a mapping
// is refused.
var outOfMemory = []string{"out of memory", "cannot allocate memory", "pthread_create failed", "failed to allocate"}

// lastWords says why a child died without saying so itself: what it panicked about
// on standard error, or its exit status.
func (l limits) lastWords(stderr string, died error) error {
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		cause, panicked := strings.CutPrefix(line, "panic: ")
		switch {
		case panicked:
			return fmt.Errorf("the file is damaged: %s (%s)", cause, rewrite)
		case slices.ContainsFunc(outOfMemory, func(words string) bool { return strings.Contains(line, words) }):
			return fmt.Errorf("it takes more memory to decode than the %d GB that the decoder may have: the file is damaged, or has very large pages (%s)", l.memory>>30, rewrite)
		case strings.HasPrefix(line, "fatal error: "):
			return fmt.Errorf("the decoder failed: %s (%s)", line, rewrite)
		}
	}
	if died != nil {
		return fmt.Errorf("the decoder ended: %w (%s)", died, rewrite)
	}
	return fmt.Errorf("the decoder ended early (%s)", rewrite)
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
