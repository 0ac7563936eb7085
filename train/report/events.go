package report

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// eventFile matches our event files. TensorBoard reads every file of a folder that
// has tfevents in its name, in the order of names.
var eventFile = regexp.MustCompile(`^events\.out\.tfevents\.([0-9]{10})\.rmtrain$`)

// Events is the event file of a run that TensorBoard reads.
type Events struct {
	file *os.File
	now  func() time.Time
}

// OpenEvents begins an event file in dir with past, the lines of metrics.jsonl so
// far, and removes the files that it has written there before: a run that resumes
// is one clean curve, whatever was logged after the state it goes on from. Lines
// keep the times at which they were first written, where those files tell.
func OpenEvents(dir string, past []byte) (*Events, error) {
	return openEvents(dir, past, time.Now)
}

func openEvents(dir string, past []byte, now func() time.Time) (*Events, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("report: create folder for TensorBoard: %w (make it writable)", err)
	}
	old, err := eventFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("report: look for event files: %w", err)
	}
	e := &Events{now: now}
	text, err := e.history(past, times(old))
	if err == nil {
		e.file, err = begin(filepath.Join(dir, nextName(old, now())), text)
	}
	if err != nil {
		return nil, fmt.Errorf("report: begin event file in %s: %w", dir, err)
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			e.file.Close()
			return nil, fmt.Errorf("report: remove old event file: %w", err)
		}
	}
	return e, nil
}

// history is the beginning of a file: its version, a restart, and past.
func (e *Events) history(past []byte, times map[string]float64) ([]byte, error) {
	now := seconds(e.now())
	file := appendRecord(nil, versionEvent(now))
	file = appendRecord(file, startEvent(now))
	number := 0
	for line := range bytes.Lines(past) {
		number++
		s, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", MetricsFile, number, err)
		}
		body := s.body()
		at, ok := times[string(body)]
		if !ok {
			at = now
		}
		file = appendRecord(file, append(appendTime(nil, at), body...))
	}
	return file, nil
}

// Add writes a line of metrics.jsonl.
func (e *Events) Add(line []byte) error {
	s, err := parseLine(line)
	if err == nil {
		_, err = e.file.Write(appendRecord(nil, append(appendTime(nil, seconds(e.now())), s.body()...)))
	}
	if err != nil {
		return fmt.Errorf("report: write event file: %w", err)
	}
	return nil
}

// Close closes the file.
func (e *Events) Close() error { return e.file.Close() }

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// eventFiles lists our files in dir in their order.
func eventFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var paths []string
	for _, entry := range entries {
		if eventFile.MatchString(entry.Name()) {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	slices.Sort(paths)
	return paths, err
}

// nextName is the name of a file that comes after old, even if the clock has been
// set back.
func nextName(old []string, now time.Time) string {
	number := now.Unix()
	if len(old) > 0 {
		digits := eventFile.FindStringSubmatch(filepath.Base(old[len(old)-1]))[1]
		last, _ := strconv.ParseInt(digits, 10, 64) // ten digits
		number = max(number, last+1)
	}
	return fmt.Sprintf("events.out.tfevents.%010d.rmtrain", number)
}

// times reads when each event in files was written, by its body. A file that cannot
// be read costs times, nothing else.
func times(files []string) map[string]float64 {
	all := make(map[string]float64)
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for _, event := range records(text) {
			if at, body, ok := splitEvent(event); ok && !math.IsNaN(at) && !math.IsInf(at, 0) {
				all[string(body)] = at
			}
		}
	}
	return all
}

// begin creates a file that appears with all of text, and is then appended to.
func begin(path string, text []byte) (_ *os.File, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".begin-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(text); err != nil {
		return nil, err
	}
	if err := f.Chmod(0o644); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return f, os.Rename(f.Name(), path)
}
