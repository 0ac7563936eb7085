package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
)

// A Journal is the file to which rows are appended as they are scored, so that a run
// that was stopped goes on behind them. Its first line is the identity of the run: what
// scores depend on. A nil Journal keeps nothing.
type Journal struct {
	path string
	f    *os.File
	w    *bufio.Writer
	rows map[string]Row
}

// OpenJournal creates the file, or goes on with one of the same identity. One of another
// identity is an error or, with replace, emptied.
func OpenJournal(path string, identity map[string]string, replace bool) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("eval: open journal: %w", err)
	}
	j := &Journal{path: path, f: f, rows: map[string]Row{}}
	if err := j.begin(identity, replace); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func (j *Journal) begin(identity map[string]string, replace bool) error {
	if err := syscall.Flock(int(j.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("eval: journal %s: another process is writing it: %w", j.path, err)
	}
	end, err := j.replay(identity)
	if err != nil && (!replace || !errors.Is(err, errOther)) {
		return err
	}
	if err := j.f.Truncate(end); err != nil {
		return fmt.Errorf("eval: journal: %w", err)
	}
	if _, err := j.f.Seek(end, io.SeekStart); err != nil {
		return fmt.Errorf("eval: journal: %w", err)
	}
	j.w = bufio.NewWriter(j.f)
	if end > 0 {
		return nil
	}
	return errors.Join(j.write(journalHead{identity}), j.flush())
}

// errOther means that a journal is not of this run.
var errOther = errors.New("another run began it")

type journalHead struct {
	Identity map[string]string `json:"identity"`
}

// replay reads the whole lines of the file and returns where they end; 0 if the first
// was never finished. What a crash left behind them need not be JSON.
func (j *Journal) replay(identity map[string]string) (int64, error) {
	in := bufio.NewReaderSize(j.f, 1<<20)
	first, err := in.ReadBytes('\n')
	if err == io.EOF {
		return 0, nil
	}
	var head journalHead
	if err == nil {
		err = json.Unmarshal(first, &head)
	}
	if err != nil || head.Identity == nil {
		return 0, fmt.Errorf("eval: journal %s: %w: its first line is no identity (choose another output, or replace it with --overwrite)", j.path, errOther)
	}
	if !maps.Equal(head.Identity, identity) {
		return 0, fmt.Errorf("eval: journal %s: %w: %s (choose another output, or replace it with --overwrite)", j.path, errOther, differences(head.Identity, identity))
	}
	for end := int64(len(first)); ; {
		line, err := in.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return 0, fmt.Errorf("eval: journal: %w", err)
		}
		var r Row
		if !bytes.HasSuffix(line, []byte("\n")) || json.Unmarshal(line, &r) != nil || r.ID == "" {
			return end, nil
		}
		j.rows[r.Bench+"\x00"+r.ID] = r
		end += int64(len(line))
	}
}

// differences lists what differs between two identities.
func differences(was, now map[string]string) string {
	names := maps.Clone(was)
	maps.Copy(names, now)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if was[name] != now[name] {
			out = append(out, fmt.Sprintf("%s was %q and is %q", name, was[name], now[name]))
		}
	}
	return strings.Join(out, ", ")
}

// Rows is how many rows there are.
func (j *Journal) Rows() int {
	if j == nil {
		return 0
	}
	return len(j.rows)
}

func (j *Journal) row(bench, id string) (Row, bool) {
	if j == nil {
		return Row{}, false
	}
	r, ok := j.rows[bench+"\x00"+id]
	return r, ok
}

func (j *Journal) add(r Row) error {
	if j == nil {
		return nil
	}
	j.rows[r.Bench+"\x00"+r.ID] = r
	return j.write(r)
}

func (j *Journal) write(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = j.w.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("eval: write journal %s: %w", j.path, err)
	}
	return nil
}

func (j *Journal) flush() error {
	if j == nil {
		return nil
	}
	if err := j.w.Flush(); err != nil {
		return fmt.Errorf("eval: write journal %s: %w", j.path, err)
	}
	return nil
}

// Close keeps the file for the next run.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.flush(), j.f.Close())
}

// Remove deletes the file, whose rows are in the result by now.
func (j *Journal) Remove() error {
	if j == nil {
		return nil
	}
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("eval: remove journal: %w", err)
	}
	return nil
}
