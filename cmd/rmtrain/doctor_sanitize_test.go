package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Logs as version 2026.4.0 of compute-sanitizer wrote them (without a driver), or as its
// manual shows them.
const (
	logWithoutDriver = `========= COMPUTE-SANITIZER
========= Error: process didn't terminate successfully
=========     The application may have hit an error when dereferencing Unified Memory from the host. Please rerun the application under cuda-gdb or a host debugger to catch host side errors.
========= Error: Target application terminated before first instrumented API call
`
	logClean = `========= COMPUTE-SANITIZER
========= ERROR SUMMARY: 0 errors
`
	logMemcheck = `========= COMPUTE-SANITIZER
Mallocing memory
========= Invalid __global__ write of size 4 bytes
=========     at unaligned_kernel()+0x50
=========     by thread (0,0,0) in block (0,0,0)
=========     Address 0x710fdca00001 is misaligned
=========     and is inside the nearest allocation at 0x710fdca00000 of size 4 bytes
=========     Saved host backtrace up to driver entry point at kernel launch time
=========         Host Frame: run_unaligned() [0xacd4] in memcheck_demo
=========
Running unaligned_kernel: no error
========= Invalid __global__ write of size 4 bytes
=========     at out_of_bounds_kernel()+0x90
=========     by thread (0,0,0) in block (0,0,0)
=========
========= ERROR SUMMARY: 2 errors
`
	logRacecheck = `========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at sumKernel(int *, int *)+0x90 in block_error.cu:41
=========     and Read access at sumKernel(int *, int *)+0x100 in block_error.cu:51 [508 hazards]
=========
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
`
	logWarnings = `========= COMPUTE-SANITIZER
========= Warning: (Warp Level Programming) Potential RAW hazard detected at __shared__ 0x8c in block (0,0,0) :
=========     Write Thread (35,0,0) at sumKernel(int *, int *)+0x90 in warp_error.cu:44
=========     Read Thread (32,0,0) at sumKernel(int *, int *)+0x120 in warp_error.cu:56
=========     Current Value : 35
========= RACECHECK SUMMARY: 2 hazards displayed (0 errors, 2 warnings)
`
	logMany = `========= COMPUTE-SANITIZER
========= Uninitialized __global__ memory read of size 4 bytes
=========     at mult(int *, int *, int)+0x60
=========     by thread (122,0,0) in block (0,0,0)
========= Uninitialized __global__ memory read of size 4 bytes
=========     at mult(int *, int *, int)+0x60
=========     by thread (123,0,0) in block (0,0,0)
========= ERROR SUMMARY: 1,254 errors
========= ERROR SUMMARY: 1154 errors were not printed. Use --print-limit option to adjust the number of printed errors
`
	logUntracked = `========= COMPUTE-SANITIZER
========= Internal Sanitizer Error: The Sanitizer encountered an error while launching kernel_name and didn't track the launch. Errors might go undetected. (Unable to allocate enough memory to perform the requested operation)
=========
========= ERROR SUMMARY: 0 errors
`
)

func TestSanitizerLogs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log              string
		summed           bool
		errors, warnings int
		untracked        int
		records          []sanitizerRecord
	}{
		"nothing": {},
		"without a driver": {log: logWithoutDriver, records: []sanitizerRecord{
			{"Error: process didn't terminate successfully The application may have hit an error when dereferencing Unified Memory from the host. Please rerun the application under cuda-gdb or a host debugger to catch host side errors.", 1},
			{"Error: Target application terminated before first instrumented API call", 1}}},
		"clean": {log: logClean, summed: true},
		"memcheck": {log: logMemcheck, summed: true, errors: 2, records: []sanitizerRecord{
			{"Invalid __global__ write of size 4 bytes at unaligned_kernel()+0x50", 1},
			{"Invalid __global__ write of size 4 bytes at out_of_bounds_kernel()+0x90", 1}}},
		"racecheck": {log: logRacecheck, summed: true, errors: 1, records: []sanitizerRecord{
			{"Error: Race reported between Write access at sumKernel(int *, int *)+0x90 in block_error.cu:41 and Read access at sumKernel(int *, int *)+0x100 in block_error.cu:51 [508 hazards]", 1}}},
		"warnings": {log: logWarnings, summed: true, warnings: 2, records: []sanitizerRecord{
			{"Warning: (Warp Level Programming) Potential RAW hazard detected at __shared__ 0x8c in block (0,0,0) : Write Thread (35,0,0) at sumKernel(int *, int *)+0x90 in warp_error.cu:44", 1}}},
		"not all printed": {log: logMany, summed: true, errors: 1254, records: []sanitizerRecord{
			{"Uninitialized __global__ memory read of size 4 bytes at mult(int *, int *, int)+0x60", 2}}},
		"not all watched": {log: logUntracked, summed: true, untracked: 1},
	} {
		l := parseSanitizer(c.log)
		if l.summed != c.summed || l.errors != c.errors || l.warnings != c.warnings || len(l.untracked) != c.untracked || !slices.Equal(l.records, c.records) {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// fakeSanitizer is a program that leaves a log and, if there is one, the suite's report.
func fakeSanitizer(t *testing.T, log, report, rest string) string {
	t.Helper()
	save := ""
	if report != "" {
		save = "printf '%s' '" + report + "' >\"$out/doctor.json\"\n"
	}
	return script(t, "compute-sanitizer", `while [ $# -gt 0 ]; do
	case $1 in --log-file) log=$2 ;; --output) out=$2 ;; esac
	shift
done
cat >"$log" <<'END'
`+log+"END\n"+save+rest)
}

// script writes a program for the shell and returns its path.
func script(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSanitizerVerdicts(t *testing.T) {
	t.Parallel()
	const (
		good = `{"checks": [{"name": "conformance suite, float32", "verdict": "pass", "detail": "841 of 841 checks"}]}`
		bad  = `{"checks": [{"name": "conformance suite, float32", "verdict": "fail", "detail": "3 of 841 fail"}]}`
		none = `{"checks": [{"name": "conformance suite, float32", "verdict": "skipped", "detail": "why"}]}`
	)
	for _, c := range []struct {
		log, report, rest string
		verdict           doctorVerdict
		want              string
	}{
		{logClean, good, "", passed, "0 errors in 841 of 841 checks, for both types"},
		{logWarnings, good, "", passed, "0 errors and 2 warnings in 841 of 841 checks, for both types:\n1 times: Warning: (Warp Level"},
		{logMemcheck, good, "exit 86", failed, "2 errors:\n1 times: Invalid __global__ write of size 4 bytes at unaligned_kernel()+0x50"},
		{logMany, good, "exit 86", failed, "1254 errors:\n2 times: Uninitialized"},
		{logWithoutDriver, "", "exit 255", failed, "no summary (exit status 255): Error: process didn't terminate"},
		{logUntracked, good, "", failed, "not all was watched: Internal Sanitizer Error"},
		{logClean, bad, "exit 1", failed, "under it fails conformance suite, float32: 3 of 841 fail"},
		{logClean, none, "", failed, "the suite has not run"},
		{logClean, "", "exit 1", failed, "did not end (exit status 1)"},
		{logClean, "{", "", failed, "did not end"},
		{logClean, good, "exit 3", failed, "ended with exit status 3"},
		{logClean, good, "sleep 60", failed, "took longer than 3s"},
	} {
		d := doctor{device: "cuda:0", temp: t.TempDir()}
		f := d.sanitized(t.Context(), fakeSanitizer(t, c.log, c.report, c.rest), "memcheck", 3*time.Second)
		if f.verdict != c.verdict || !strings.Contains(f.detail, c.want) {
			t.Errorf("%.60q, %q, %q: %+v, want %q", c.log, c.report, c.rest, f, c.want)
		}
	}
}

// The tool gets the suite itself to watch, of both types, and nothing else.
func TestSanitizerWatchesTheSuiteOfCPUAndGPU(t *testing.T) {
	t.Setenv(asProgram, "1")
	program := script(t, "compute-sanitizer", `[ "$1 $2 $3" = "--tool racecheck --log-file" ] || exit 9
printf '========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n' >"$4"
while [ "$1" != doctor ]; do program=$1; shift; done
exec "$program" "$@"`)
	for _, device := range []string{"cpu", "cuda:0"} {
		d := doctor{device: device, temp: t.TempDir(), quick: true}
		f := d.sanitized(t.Context(), program, "racecheck", time.Minute)
		want := "0 errors in "
		if device != "cpu" && !haveGPU() {
			want = "compute-sanitizer found no errors, but under it fails GPU"
		}
		if !strings.HasPrefix(f.detail, want) {
			t.Errorf("%s: %+v, want %q", device, f, want)
		}
		if got := fmt.Sprintf("%+v", d.report.Sanitizer); got != "[{Tool:racecheck Summed:true Errors:0 Warnings:0 Messages:[]}]" {
			t.Errorf("%s: %s", device, got)
		}
		if report := read(t, filepath.Join(d.temp, "racecheck"), "doctor.md"); strings.Contains(string(report), "20 times") || !strings.Contains(string(report), `names begin with "conformance suite"`) {
			t.Errorf("%s", report)
		}
	}
}

func TestSanitizerIsFound(t *testing.T) {
	empty := t.TempDir()
	program := script(t, "compute-sanitizer", "")
	cuda, wheel := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(cuda, "bin"), filepath.Join(wheel, "lib/python3.11/site-packages/nvidia/cu13/bin")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "compute-sanitizer"), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ named, path, cuda, environment, want string }{
		{program, empty, "", "", program},
		{"", filepath.Dir(program), cuda, wheel, program},
		{"", empty, cuda, wheel, filepath.Join(cuda, "bin/compute-sanitizer")},
		{"", empty, "", wheel, filepath.Join(wheel, "lib/python3.11/site-packages/nvidia/cu13/bin/compute-sanitizer")},
		{"/none/sanitizer", filepath.Dir(program), cuda, wheel, ""},
		{"", empty, empty, empty, ""},
	} {
		if _, err := os.Stat("/usr/local/cuda/bin/compute-sanitizer"); err == nil && c.named == "" && !strings.HasPrefix(c.want, filepath.Dir(program)) {
			continue // a toolkit of this machine is found before the wheel
		}
		t.Setenv("PATH", c.path)
		t.Setenv("CUDA_HOME", c.cuda)
		t.Setenv("VIRTUAL_ENV", c.environment)
		got, err := findSanitizer(c.named)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "pip install nvidia-cuda-sanitizer-api") {
			t.Errorf("no remedy in %v", err)
		}
	}
}

// Which lines there are, and how they end without the program running.
func TestSanitizerLines(t *testing.T) {
	t.Parallel()
	broken := script(t, "compute-sanitizer", "echo cannot start; exit 13")
	for name, c := range map[string]struct {
		d     doctor
		lines string // the program's and the four tools', by their first letters
		text  string
	}{
		"of a CPU":         {doctor{}, "", ""},
		"of a CPU, wanted": {doctor{o: doctorOptions{sanitize: true}}, "sssss", "kernels on a GPU"},
		"not wanted":       {doctor{gpu: true}, "ssss", "--sanitize was not given"},
		"emulated":         {doctor{gpu: true, emulated: true, o: doctorOptions{sanitize: true}}, "sssss", "NVIDIA's driver"},
		"not there":        {doctor{gpu: true, gpuOpens: true, o: doctorOptions{sanitizer: "/none/sanitizer"}}, "fssss", "pip install"},
		"broken":           {doctor{gpu: true, gpuOpens: true, o: doctorOptions{sanitizer: broken}}, "fssss", "exit status 13: cannot start"},
		"no GPU":           {doctor{gpu: true, o: doctorOptions{sanitizer: script(t, "s", "echo Version 1.2")}}, "pssss", "version 1.2"},
	} {
		lines, text := "", ""
		for _, check := range append(c.d.machineChecks(), c.d.sanitizeChecks()...) {
			if check.section == machineSection && check.name != "compute-sanitizer" {
				continue
			}
			f := check.run(t.Context())
			lines += string(f.verdict[0])
			text += f.detail
		}
		if lines != c.lines || !strings.Contains(text, c.text) {
			t.Errorf("%s: %q, %s", name, lines, text)
		}
	}
}

func TestOnlyTakesChecksByName(t *testing.T) {
	t.Parallel()
	r, err := examined(t, doctor{o: doctorOptions{device: "cpu", only: "recorded bits, f"}})
	var names []string
	for _, l := range r.Lines {
		if l.Section != machineSection {
			names = append(names, l.Name)
		}
	}
	if err != nil || fmt.Sprint(names) != "[recorded bits, float32]" || r.Only != "recorded bits, f" {
		t.Errorf("%q, %v: %+v", names, err, r)
	}
	fails(t, []string{"doctor", "--device", "cpu", "--only", "no such", "--output", t.TempDir()}, `--only "no such"`, "choose from processor; memory;")
}
