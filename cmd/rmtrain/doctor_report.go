package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"

	"rmtrain/train"
)

// A doctorReport is doctor.json.
type doctorReport struct {
	Version   string            `json:"version"`
	Time      string            `json:"time"`
	Device    string            `json:"device"`
	Emulated  bool              `json:"emulated"`       // the device is kernels/emulator
	Quick     bool              `json:"quick"`          // small shapes, a part of the checks
	Only      string            `json:"only,omitempty"` // of the checks beside the machine's, those whose names begin so
	Seconds   float64           `json:"seconds"`
	OK        bool              `json:"ok"`
	Lines     []doctorLine      `json:"checks"`
	Measured  []measurement     `json:"measurements,omitempty"`
	Sanitizer []sanitizerResult `json:"sanitizer,omitempty"` // by tool
	Kernels   []kernelFigure    `json:"kernels,omitempty"`   // of the GPU
}

type doctorLine struct {
	Section string  `json:"section"`
	Name    string  `json:"name"`
	Proves  string  `json:"proves"`
	Verdict string  `json:"verdict"` // pass, fail or skipped
	Detail  string  `json:"detail"`
	Seconds float64 `json:"seconds"`
}

// A measurement is a number of --bench.
type measurement struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Share is that of the fastest that this run has seen: of matrix products for
	// FLOP/s, of operations for bandwidths.
	Share float64 `json:"share_of_fastest,omitempty"`
	Note  string  `json:"note,omitempty"`
}

func (r *doctorReport) count() (passes, failures, skips int) {
	for _, l := range r.Lines {
		switch doctorVerdict(l.Verdict) {
		case passed:
			passes++
		case failed:
			failures++
		default:
			skips++
		}
	}
	return passes, failures, skips
}

// save writes doctor.json and doctor.md, each whole or not at all.
func (r *doctorReport) save(dir string) error {
	_, failures, _ := r.count()
	r.OK = failures == 0
	var text bytes.Buffer
	if err := writeJSON(&text, r); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	for name, b := range map[string][]byte{"doctor.json": text.Bytes(), "doctor.md": []byte(r.markdown())} {
		if err := train.ReplaceFile(filepath.Join(dir, name), b); err != nil {
			return fmt.Errorf("doctor: write the report: %w (free space, or choose another --output)", err)
		}
	}
	return nil
}

// markdown is doctor.md.
func (r *doctorReport) markdown() string {
	var w strings.Builder
	passes, failures, skips := r.count()
	fmt.Fprintf(&w, "# rmtrain doctor\n\nrmtrain %s on %s, %s: %d passed, %d failed, %d skipped in %.0f s.\n", r.Version, r.Device, r.Time, passes, failures, skips, r.Seconds)
	if r.Emulated {
		w.WriteString("\nThe device is an emulator on the CPU: its numbers prove what kernels compute, and nothing of speed.\n")
	}
	if r.Quick {
		w.WriteString("\nShapes are small, and only a part of the checks was taken (quick).\n")
	}
	if r.Only != "" {
		fmt.Fprintf(&w, "\nOf the checks beside the machine's, only those whose names begin with %q were taken.\n", r.Only)
	}
	section := ""
	for _, l := range r.Lines {
		if l.Section != section {
			section = l.Section
			fmt.Fprintf(&w, "\n## %s\n\n| check | verdict | | s |\n| --- | --- | --- | --- |\n", strings.ToUpper(section[:1])+section[1:])
		}
		detail := l.Detail
		if l.Verdict == string(passed) {
			detail += ". *" + l.Proves + "*"
		}
		fmt.Fprintf(&w, "| %s | %s | %s | %.1f |\n", cell(l.Name), l.Verdict, cell(detail), l.Seconds)
	}
	r.measured(&w)
	return w.String()
}

func (r *doctorReport) measured(w *strings.Builder) {
	if len(r.Measured) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## Measurements on %s\n\n", r.Device)
	if r.Emulated {
		w.WriteString("Of the emulator, not of a GPU.\n\n")
	}
	w.WriteString("| | | share of the fastest | |\n| --- | --- | --- | --- |\n")
	for _, m := range r.Measured {
		share := ""
		if m.Share > 0 {
			share = fmt.Sprintf("%.0f %%", 100*m.Share)
		}
		fmt.Fprintf(w, "| %s | %s%s | %s | %s |\n", cell(m.Name), si(m.Value), m.Unit, share, cell(m.Note))
	}
}

// cell makes text one cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", "<br>").Replace(text)
}
