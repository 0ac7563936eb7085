// Package report shows training to people: event files for TensorBoard, a page of
// HTML at the end, and a web page that follows a run while it lasts. All three are
// made from metrics.jsonl, the log that package train writes, and from run.json,
// which says what the run is. Training does not depend on any of them.
package report

import (
	"encoding/json"
	"time"
)

// Files of a run's folder that this package reads, and the one that it is asked to
// write.
const (
	MetricsFile = "metrics.jsonl"
	RunFile     = "run.json"
	SummaryFile = "summary.json"
	PageFile    = "report.html"
)

// A Run says what is being trained. It is written to run.json when training starts
// or goes on.
type Run struct {
	Started        time.Time `json:"started"` // or resumed
	Model          string    `json:"model"`
	TotalSteps     int       `json:"total_steps"`
	StepsPerEpoch  int       `json:"steps_per_epoch"`
	PromptsPerStep int       `json:"prompts_per_step"`
	Groups         int       `json:"groups"`
	EvalGroups     int       `json:"eval_groups"`
	Config         string    `json:"config"` // YAML
}

// JSON is the text of run.json.
func (r Run) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}
