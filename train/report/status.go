package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

// A status is what a page is told of a run besides its log.
type status struct {
	Name     string          `json:"name"`
	Run      json.RawMessage `json:"run"`               // run.json, null before there is one
	Summary  json.RawMessage `json:"summary,omitempty"` // of the finished run, left out before
	Report   bool            `json:"report"`            // there is one
	Exists   bool            `json:"exists"`            // the folder
	Modified int64           `json:"modified"`          // milliseconds since 1970 of the log's last change, 0 without one
	Age      int64           `json:"age"`               // seconds since then, in steps
}

// ageStep keeps the age from being news every second.
const ageStep = 5

func readStatus(dir string) status {
	s := status{Name: LastOf(absolute(dir)), Run: readJSON(filepath.Join(dir, RunFile))}
	_, err := os.Stat(dir)
	s.Exists = err == nil
	if at, ok := modified(dir, MetricsFile); ok {
		s.Modified = at.UnixMilli()
		s.Age = max(0, int64(time.Since(at).Seconds())) / ageStep * ageStep
	}
	finished, hasSummary := modified(dir, SummaryFile)
	begun, hasRun := modified(dir, RunFile)
	if hasSummary && !(hasRun && begun.After(finished)) { // else a finished run goes on
		s.Summary = readJSON(filepath.Join(dir, SummaryFile))
		_, s.Report = modified(dir, PageFile)
	}
	return s
}

func absolute(dir string) string {
	if path, err := filepath.Abs(dir); err == nil {
		return path
	}
	return dir
}

func modified(dir, name string) (time.Time, bool) {
	st, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		return time.Time{}, false
	}
	return st.ModTime(), true
}

// readJSON returns a file's text, on one line when it is marshalled, or null.
func readJSON(path string) json.RawMessage {
	text, err := os.ReadFile(path)
	if err != nil || !json.Valid(text) {
		return json.RawMessage("null")
	}
	return text
}
