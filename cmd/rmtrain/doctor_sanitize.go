package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// sanitizedCheck is the check that compute-sanitizer watches.
const sanitizedCheck = "conformance suite"

// sanitizerLimit bounds the time of one tool, under which kernels are slower by far.
const sanitizerLimit = 30 * time.Minute

// sanitizerTools are those of compute-sanitizer, and what it means if one finds nothing.
var sanitizerTools = []struct{ name, proves string }{
	{"memcheck", "no kernel accesses memory that is not its own, or misaligned"},
	{"racecheck", "no threads of a block meet in shared memory without a barrier between them"},
	{"initcheck", "no kernel reads global memory that nobody wrote"},
	{"synccheck", "all threads that a barrier waits for come to it"},
}

// sanitizing tells whether compute-sanitizer was asked for.
func (d *doctor) sanitizing() bool { return d.o.sanitize || d.o.sanitizer != "" }

// sanitizeChecks run the conformance suite again, in a process of its own under each tool.
func (d *doctor) sanitizeChecks() (cs []doctorCheck) {
	const section = "sanitizer"
	if !d.gpu && !d.sanitizing() {
		return nil
	}
	for _, tool := range sanitizerTools {
		cs = append(cs, doctorCheck{section, tool.name, tool.proves, func(ctx context.Context) finding {
			switch {
			case !d.sanitizing():
				return skip("--sanitize was not given")
			case d.sanitizer == "":
				return skip("compute-sanitizer does not run here; see above")
			case !d.gpuOpens:
				return skip("the GPU does not open; see above")
			}
			return d.sanitized(ctx, d.sanitizer, tool.name, sanitizerLimit)
		}})
	}
	return cs
}

// startSanitizer finds the program and asks for its version.
func (d *doctor) startSanitizer(ctx context.Context) finding {
	switch {
	case !d.gpu:
		return skip("it watches kernels on a GPU, and this report is of the CPU")
	case d.emulated:
		return skip("it needs NVIDIA's driver; the emulator has checks of its own")
	}
	program, err := findSanitizer(d.o.sanitizer)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	said, err := exec.CommandContext(ctx, program, "--version").CombinedOutput()
	_, version, ok := strings.Cut(string(said), "Version ")
	if err != nil || !ok {
		return fail(fmt.Errorf("compute-sanitizer --version: %v: %s (%s)", err, lastLine(string(said)), sanitizerRemedy))
	}
	d.sanitizer = program
	version, _, _ = strings.Cut(version, "\n")
	return pass("version %s", strings.TrimSpace(version))
}

const sanitizerRemedy = "pip install nvidia-cuda-sanitizer-api, or install the CUDA toolkit, and name the program: --sanitizer PROGRAM"

// findSanitizer looks where the program may be: as it is named, in PATH, in CUDA's folder, or
// in the active Python environment, where NVIDIA's wheel puts it.
func findSanitizer(named string) (string, error) {
	const program = "compute-sanitizer"
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("there is no compute-sanitizer %q: %w (%s)", named, err, sanitizerRemedy)
		}
		return path, nil
	}
	candidates := []string{program}
	if home := os.Getenv("CUDA_HOME"); home != "" {
		candidates = append(candidates, filepath.Join(home, "bin", program))
	}
	candidates = append(candidates, filepath.Join("/usr/local/cuda/bin", program))
	if environment := os.Getenv("VIRTUAL_ENV"); environment != "" {
		wheels, err := filepath.Glob(filepath.Join(environment, "lib/python3*/site-packages/nvidia/cu*/bin", program))
		if err != nil {
			return "", err
		}
		candidates = append(candidates, wheels...)
	}
	for _, c := range candidates {
		if path, err := exec.LookPath(c); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no compute-sanitizer in PATH, CUDA_HOME/bin, /usr/local/cuda/bin or the active Python environment (%s)", sanitizerRemedy)
}

// sanitized runs the suite under a tool.
func (d *doctor) sanitized(ctx context.Context, program, tool string, limit time.Duration) finding {
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	dir := filepath.Join(d.temp, tool)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fail(err)
	}
	log := filepath.Join(dir, "log")
	args := []string{"--tool", tool, "--log-file", log, "--target-processes", "application-only", "--error-exitcode", "86"}
	if tool == "memcheck" { // calls that fail: of ours the suite fails, and libraries ask for what there may not be
		args = append(args, "--report-api-errors", "no")
	}
	args = append(args, self, "doctor", "--device", d.device, "--only", sanitizedCheck, "--output", dir)
	if d.quick {
		args = append(args, "--quick")
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	said, ended := runGroup(limited, program, args)
	switch {
	case ctx.Err() != nil:
		return fail(context.Cause(ctx))
	case limited.Err() != nil:
		return fail(fmt.Errorf("it took longer than %v and was stopped", limit))
	}
	text, err := os.ReadFile(log)
	if err != nil {
		return fail(fmt.Errorf("compute-sanitizer wrote nothing (%v): %s", ended, lastLine(said)))
	}
	l := parseSanitizer(string(text))
	d.report.Sanitizer = append(d.report.Sanitizer, sanitizerResult{tool, l.summed, l.errors, l.warnings, l.messages()})
	return judgedSanitizer(l, ended, filepath.Join(dir, "doctor.json"))
}

// A sanitizerResult is what one tool found.
type sanitizerResult struct {
	Tool     string   `json:"tool"`
	Summed   bool     `json:"summed"` // it came to its summary, which gives the numbers
	Errors   int      `json:"errors"`
	Warnings int      `json:"warnings"`
	Messages []string `json:"messages,omitempty"` // that differ
}

// runGroup runs a program and, when its time is up, stops it and all that it has started.
func runGroup(ctx context.Context, program string, args []string) (said string, err error) {
	c := exec.CommandContext(ctx, program, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	err = c.Run()
	return output.String(), err
}

// judgedSanitizer takes the tool's log, how it ended, and the report of the suite under it:
// a tool that finds nothing proves nothing if the suite has not run to its end.
func judgedSanitizer(l sanitizerLog, ended error, report string) finding {
	switch {
	case l.errors > 0:
		return fail(fmt.Errorf("%s:\n%s", count(l.errors, "error"), l.listed()))
	case !l.summed:
		return fail(fmt.Errorf("compute-sanitizer gave no summary (%v): %s", ended, strings.Join(l.messages(), "; ")))
	case len(l.untracked) > 0:
		return fail(fmt.Errorf("no errors, but not all was watched: %s", strings.Join(l.untracked, "; ")))
	}
	var r doctorReport
	b, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return fail(fmt.Errorf("compute-sanitizer found no errors, but the suite under it did not end (%v): %w", ended, err))
	}
	suite := ""
	for _, line := range r.Lines {
		if line.Verdict == string(failed) {
			return fail(fmt.Errorf("compute-sanitizer found no errors, but under it fails %s: %s", line.Name, line.Detail))
		}
		if strings.HasPrefix(line.Name, sanitizedCheck) && line.Verdict == string(passed) {
			suite = line.Detail
		}
	}
	switch {
	case suite == "":
		return fail(errors.New("compute-sanitizer found no errors, but the suite has not run under it"))
	case ended != nil:
		return fail(fmt.Errorf("compute-sanitizer found no errors, but ended with %w", ended))
	case l.warnings > 0:
		return pass("0 errors and %s in %s, for both types:\n%s", count(l.warnings, "warning"), suite, l.listed())
	}
	return pass("0 errors in %s, for both types", suite)
}
