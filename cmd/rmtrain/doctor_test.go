package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
	"rmtrain/kernels/kerneltest"
)

// examined runs doctor --quick in this process.
func examined(t *testing.T, d doctor) (doctorReport, error) {
	t.Helper()
	d.o.output, d.o.quick = t.TempDir(), true
	d.stdout, d.stderr = io.Discard, io.Discard
	if d.open == nil {
		d.open = openBackend
	}
	err := d.run(t.Context())
	var r doctorReport
	if e := json.Unmarshal(read(t, d.o.output, "doctor.json"), &r); e != nil {
		t.Fatal(e)
	}
	text := string(read(t, d.o.output, "doctor.md"))
	for _, l := range r.Lines {
		if l.Verdict == "" || l.Detail == "" || l.Proves == "" || !strings.Contains(text, "| "+cell(l.Name)+" | "+l.Verdict+" |") {
			t.Errorf("%+v is incomplete, or not in doctor.md", l)
		}
	}
	return r, err
}

// allPass wants a report without a failure and, but for those named, without a skip.
func allPass(t *testing.T, r doctorReport, err error, skips ...string) {
	t.Helper()
	if err != nil || !r.OK {
		t.Errorf("%v, ok %v", err, r.OK)
	}
	for _, l := range r.Lines {
		want := string(passed)
		if slices.Contains(skips, l.Name) {
			want = string(skipped)
		}
		if l.Verdict != want {
			t.Errorf("%s: %s, want %s: %s", l.Name, l.Verdict, want, l.Detail)
		}
	}
}

func TestDoctorPassesTheCPU(t *testing.T) {
	t.Parallel()
	r, err := examined(t, doctor{o: doctorOptions{device: "cpu", bench: true}})
	if haveGPU() {
		allPass(t, r, err)
	} else {
		allPass(t, r, err, "GPU")
	}
	if r.Device != "cpu" || !r.Quick || r.Emulated || len(r.Measured) < 10 {
		t.Errorf("%+v", r)
	}
}

// wrong is a backend with a mistake.
type wrong struct {
	kernels.Backend
	mistake string
	calls   int
}

func (w *wrong) Add(out, a, b kernels.Tensor) {
	switch w.mistake {
	case "last element":
		w.Backend.Add(out, a, b)
		w.Zero(out.Slice(out.Rows()-1, out.Rows()))
	case "every fourth time":
		if w.calls++; w.calls%4 == 0 {
			w.Backend.Add(out, a, a)
			return
		}
		fallthrough
	default:
		w.Backend.Add(out, a, b)
	}
}

func (w *wrong) RMSNorm(out, rstd, x, weight kernels.Tensor, eps float64) {
	if w.mistake == "panics" {
		panic("expected by the test")
	}
	w.Backend.RMSNorm(out, rstd, x, weight, eps)
}

func (w *wrong) AdamW(a kernels.AdamW) {
	if w.mistake == "second moment forgotten" {
		w.Zero(a.V)
	}
	w.Backend.AdamW(a)
}

func TestDoctorFindsMistakes(t *testing.T) {
	t.Parallel()
	for mistake, want := range map[string][]string{
		"last element":            {"conformance suite, float32", "real shapes, float32", "recorded bits, bfloat16", "against float64, float32"},
		"every fourth time":       {"20 times, float32", "20 times, bfloat16"},
		"panics":                  {"conformance suite, float32", "scores in any company, bfloat16"},
		"second moment forgotten": {"conformance suite, float32", "real shapes, bfloat16"},
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			r, err := examined(t, doctor{o: doctorOptions{device: "cpu"}, open: func(_ string, dt kernels.DType) (kernels.Backend, error) {
				b, err := cpu.New(dt)
				return &wrong{Backend: b, mistake: mistake}, err
			}})
			if !errors.Is(err, errSomeBad) || exitStatus(context.Background(), err) != 1 || r.OK {
				t.Errorf("ends with %v, ok %v", err, r.OK)
			}
			for _, l := range r.Lines {
				if slices.Contains(want, l.Name) && l.Verdict != string(failed) {
					t.Errorf("%s: %s: %s", l.Name, l.Verdict, l.Detail)
				}
				if l.Section == "machine" && l.Verdict == string(failed) {
					t.Errorf("%s: %s", l.Name, l.Detail)
				}
			}
		})
	}
}

// A backend that does not open is one failure for each type; what needs it is skipped.
func TestDoctorWithoutABackend(t *testing.T) {
	t.Parallel()
	r, err := examined(t, doctor{o: doctorOptions{device: "cpu"}, open: func(string, kernels.DType) (kernels.Backend, error) {
		return nil, errors.New("expected by the test")
	}})
	if !errors.Is(err, errSomeBad) {
		t.Errorf("ends with %v", err)
	}
	for _, l := range r.Lines {
		want := string(skipped)
		switch {
		case strings.HasPrefix(l.Name, "backend, "):
			want = string(failed)
		case l.Section == "machine" && l.Name != "GPU":
			want = string(passed)
		}
		if l.Verdict != want {
			t.Errorf("%s: %s, want %s: %s", l.Name, l.Verdict, want, l.Detail)
		}
	}
}

func TestDoctorOnTheCommandLine(t *testing.T) {
	t.Parallel()
	fails(t, []string{"doctor", "--device", "gpu"}, "doctor: --device", "unknown")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	fails(t, []string{"doctor", "--device", "cpu", "--output", filepath.Join(dir, "file")}, "choose another --output")
	fails(t, []string{"doctor", "--device", "cpu", "--quick", "--only", "nothing", "--output", dir}, "choose from processor; ", "; 20 times, float32; ")
	if haveGPU() {
		return
	}
	r := run(t, "doctor", "--device", "cuda", "--quick", "--output", dir)
	if r.status != 1 || !strings.Contains(r.stdout, "3 failed") || !strings.Contains(r.stderr, "machine: GPU ... fail") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

// Where no report can be written no check is taken: they take minutes.
func TestDoctorWantsAFolderThatItCanWrite(t *testing.T) {
	t.Parallel()
	const dir = "/proc/self" // where not even root may write
	if _, err := os.Stat(dir); err != nil {
		t.Skip(err)
	}
	r := run(t, "doctor", "--device", "cpu", "--quick", "--output", dir)
	if r.status != 1 || !strings.Contains(r.stderr, "choose another --output") || strings.Contains(r.stderr, "machine:") {
		t.Errorf("status %d\n%s", r.status, r.stderr)
	}
}

// A check that is stopped has found nothing, and a part of a report would look like one.
func TestDoctorStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var progress bytes.Buffer
	d := doctor{o: doctorOptions{device: "cpu", quick: true, output: t.TempDir()}, stdout: io.Discard, stderr: &progress}
	d.open = func(_ string, dt kernels.DType) (kernels.Backend, error) {
		cancel()
		return cpu.New(dt)
	}
	if err := d.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ends with %v", err)
	}
	if !strings.HasSuffix(progress.String(), "backend, float32 ... stopped; there is no report\n") {
		t.Errorf("progress:\n%s", progress.String())
	}
	if files, err := os.ReadDir(d.o.output); err != nil || len(files) > 0 {
		t.Errorf("left are %v, %v", files, err)
	}
}

// Every operation that memory bounds has a number.
func TestDoctorMeasuresEveryOperationThatMemoryBounds(t *testing.T) {
	t.Parallel()
	r, err := examined(t, doctor{o: doctorOptions{device: "cpu", bench: true, only: "operations bound by memory"}})
	if err != nil {
		t.Fatal(err)
	}
	measured := map[string]bool{}
	for _, m := range r.Measured {
		operation, dtype, _ := strings.Cut(strings.TrimPrefix(m.Name, "bandwidth of "), ", ")
		measured[operation] = measured[operation] || dtype == "bfloat16"
	}
	ops := reflect.TypeFor[kernels.Ops]()
	for i := range ops.NumMethod() {
		name := ops.Method(i).Name
		if bound := !strings.HasPrefix(name, "Attention") && name != "MatMul"; measured[name] != bound {
			t.Errorf("%s: measured %v, bound by memory %v", name, measured[name], bound)
		}
	}
}

// The recorded bits are those of every instruction set.
func TestRecordedBitsOnEveryInstructionSet(t *testing.T) {
	for _, set := range []string{"portable", "avx2", "avx512"} {
		t.Run(set, func(t *testing.T) {
			t.Setenv(cpu.EnvCPU, set)
			for _, dt := range doctorTypes {
				b, err := cpu.New(dt)
				if err != nil {
					t.Skip(err)
				}
				d := doctor{device: "cpu"}
				if f := d.recorded(t.Context(), b, dt); f.verdict != passed {
					t.Error(f.detail)
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestQuickTakesEveryOperation(t *testing.T) {
	t.Parallel()
	first := firstOfEach(kerneltest.Names())
	for _, want := range []string{"values/Add/5x7", "exact/repeated/MatMul/NT/5x7x3", "memory/starts zeroed"} {
		if !slices.Contains(first, want) {
			t.Errorf("%s is not among %q", want, first)
		}
	}
	if n := len(kerneltest.Names()); len(first) > n/3 {
		t.Errorf("%d of %d checks are not quick", len(first), n)
	}
}

// Or its emulator.
func TestDoctorPassesTheGPU(t *testing.T) {
	if !haveGPU() {
		if gpuRequired() {
			t.Fatal("RMTRAIN_REQUIRE is cuda, and there is no device")
		}
		_, err := describeGPU(0)
		t.Skip(err)
	}
	r, err := examined(t, doctor{o: doctorOptions{device: "auto", bench: true}})
	allPass(t, r, err, "memcheck", "racecheck", "initcheck", "synccheck")
	if r.Device != "cuda:0" || len(r.Kernels) < 50 {
		t.Errorf("%+v", r)
	}
}

var updateDigests = flag.Bool("update-digests", false, "write doctor_digests.json anew, on the emulator")

const digestRecipe = "source build/cuda/env; LD_LIBRARY_PATH=$PWD/build/emulator go test -tags nvidia ./cmd/rmtrain -run TestRecordedBitsAreComplete -update-digests"

// Every case of an exact operation is recorded; with -update-digests it is now.
func TestRecordedBitsAreComplete(t *testing.T) {
	var file digestFile
	if *updateDigests {
		file = record(t)
		var text bytes.Buffer
		if err := writeJSON(&text, file); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("doctor_digests.json", text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if err := json.Unmarshal(recordedDigests, &file); err != nil {
		t.Fatal(err)
	}
	if want := len(exactCases()) * len(doctorTypes); len(file.Entries) != want || file.Recipe != digestRecipe {
		t.Errorf("%d digests, want %d; recipe %q", len(file.Entries), want, file.Recipe)
	}
}

func record(t *testing.T) digestFile {
	file := digestFile{Recipe: digestRecipe}
	for _, dt := range doctorTypes {
		gpu, err := openBackend("cuda", dt)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(gpu.Name(), emulatedName) {
			t.Fatalf("%s is not the emulator", gpu.Name())
		}
		for _, name := range exactCases() {
			digest, err := kerneltest.DigestOf(gpu, dt, name)
			if err != nil {
				t.Fatal(err)
			}
			file.Entries = append(file.Entries, digestEntry{name, dtypeName(dt), digest.Before, digest.After})
		}
		if err := gpu.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return file
}
