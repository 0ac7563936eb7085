package rows

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ChildMain must be the first call of main (and of TestMain) in a program that reads
// Parquet. In a process that was started to decode a file it does that and returns
// true, and main must return; in all others it does nothing and returns false.
func ChildMain() bool {
	value, isChild := os.LookupEnv(childEnv)
	if !isChild {
		return false
	}
	go endWithParent()
	out := &frameWriter{w: bufio.NewWriterSize(os.Stdout, 1<<20), maxRow: maxRow}
	if err := decode(value, out); err != nil {
		out.write(frameError, []byte(err.Error()))
	} else {
		out.write(frameEnd, nil)
	}
	if out.flush() != nil {
		os.Exit(1)
	}
	return true
}

func decode(value string, out *frameWriter) error {
	var what request
	if err := json.Unmarshal([]byte(value), &what); err != nil {
		return fmt.Errorf("%s is set, but to nothing that the decoder knows: %w (unset it)", childEnv, err)
	}
	if err := confine(what.Memory); err != nil {
		return err
	}
	return decodeParquet(what.Path, what.Columns, out)
}

// endWithParent ends this process once its parent is gone, which may not have had the
// time to end it and could not read on.
func endWithParent() {
	parent := os.Getppid()
	for range time.Tick(time.Second) {
		if os.Getppid() != parent {
			os.Exit(1)
		}
	}
}

// confine lets this process have memory bytes of data beside what it has. Should the
// machine be short of memory before that, Linux ends this process and not its parent.
func confine(memory uint64) error {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // not everywhere
	debug.SetMemoryLimit(int64(memory / 4 * 3))
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &limit); err != nil {
		return fmt.Errorf("limit the decoder's memory: %w", err)
	}
	has, err := dataBytes()
	if err != nil {
		return fmt.Errorf("limit the decoder's memory: %w", err)
	}
	limit.Cur = min(limit.Cur, has+memory)
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &limit); err != nil {
		return fmt.Errorf("limit the decoder's memory: %w", err)
	}
	return nil
}

// dataBytes is what this process has of what RLIMIT_DATA counts.
func dataBytes() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "VmData:"); ok {
			kilobytes, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(size), "kB")), 10, 54)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmData")
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
	h := [frameHead]byte{kind}
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
