package main

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
	"rmtrain/kernels/llama"
)

// envTorch names a Python with torch, by which the script itself is tested:
//
//	RMTRAIN_TORCH=.venv/bin/python go test ./cmd/rmtrain -run Torch
//
// Other tests need no Python.
const envTorch = "RMTRAIN_TORCH"

// measuredStep is a step of the tiny model on the CPU.
func measuredStep(t *testing.T, d *doctor, dt kernels.DType) stepRun {
	t.Helper()
	b, err := cpu.New(dt)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := stepRun{config: d.tinySize().config, groups: d.tinySize().groups(), dt: dt}
	batch := data.Pack(s.groups, true)
	o := llama.Options{DType: dt, Train: true, MaxRows: len(batch.Tokens), MaxAnswers: len(batch.Scored)}
	if _, err := d.timeStep(b, &s, o, batch, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

// In every layout and with all kinds of weights PyTorch's step is rmtrain's.
func TestTorchStepIsOurs(t *testing.T) {
	t.Parallel()
	python := os.Getenv(envTorch)
	if python == "" {
		t.Skip(envTorch + " names no Python with torch")
	}
	for dt, runs := range map[kernels.DType]int{kernels.F32: 4, kernels.BF16: 8} {
		d := &doctor{device: "cpu", quick: true, o: doctorOptions{python: python}}
		ours := measuredStep(t, d, dt)
		a, err := d.askTorch(t.Context(), ours, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Runs) != runs {
			t.Errorf("%d runs", len(a.Runs))
		}
		limit := trainingLimits[dt]
		for _, r := range a.Runs {
			if !(relative(r.Loss, ours.loss) <= limit.loss) || !(relative(r.GradNorm, ours.gradNorm) <= limit.weights) || r.Error != "" {
				t.Errorf("%s, %s: %+v, rmtrain's loss is %v, the norm %v", dt, r.How, r, ours.loss, ours.gradNorm)
			}
		}
	}
}

// The line of a Python that computes, that computes something else, or that fails; the last
// says what it lacks.
func TestTorchVerdicts(t *testing.T) {
	t.Parallel()
	run := func(loss float64, seconds ...float64) string {
		var runs []string
		for i, s := range seconds {
			runs = append(runs, fmt.Sprintf(`{"how": "layout %d", "seconds": %v, "loss": %v, "grad_norm": 2}`, i, s, loss))
		}
		return `echo '{"versions": {"torch": "9.9"}, "runs": [{"how": "large", "error": "out of memory"}` + ", " + strings.Join(runs, ", ") + `]}' >"$3"`
	}
	for _, c := range []struct {
		python  string
		verdict doctorVerdict
		want    string
		numbers int
	}{
		{run(0.5, 4, 2, 3), passed, "layout 1, the fastest of 4 ways; torch 9.9, not compiled: 2 s, rmtrain 0.5 s", 2},
		{run(0.6, 2), failed, "computes another step: its loss is 0.6, rmtrain's 0.5", 0},
		{`echo '{"runs": [{"how": "a", "error": "out of memory"}]}' >"$3"`, skipped, "out of memory in every layout", 0},
		{`echo '{"runs": [{"how": "a"}]}' >"$3"`, failed, "incomplete answer", 0},
		{`echo '{}' >"$3"`, failed, "incomplete answer", 0},
		{`echo '{' >"$3"`, failed, "cannot be read", 0},
		{`echo '{"error": "this Python cannot import torch"}' >"$3"`, failed, "cannot import torch", 0},
		{`echo Killed >&2; exit 137`, failed, "(exit status 137): Killed", 0},
	} {
		d := &doctor{device: "cpu", o: doctorOptions{python: script(t, "python", c.python)}, steps: map[string]stepRun{}}
		d.steps["tiny"] = stepRun{config: d.tinySize().config, groups: d.tinySize().groups(), dt: kernels.BF16, seconds: 0.5, loss: 0.5, gradNorm: 2}
		f := d.torchStep(t.Context(), "tiny")
		if f.verdict != c.verdict || !strings.Contains(f.detail, c.want) || len(d.report.Measured) != c.numbers {
			t.Errorf("%s: %+v, %d numbers, want %q", c.python, f, len(d.report.Measured), c.want)
		}
	}
}

func TestTorchIsStopped(t *testing.T) {
	t.Parallel()
	d := &doctor{device: "cpu", o: doctorOptions{python: script(t, "python", "exec sleep 60")}}
	if _, err := d.askTorch(t.Context(), stepRun{}, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "took longer than 100ms and was stopped") {
		t.Error(err)
	}
}

// What PyTorch lacks is one failure; the rest of the report is there.
func TestDoctorWithoutTorch(t *testing.T) {
	t.Parallel()
	python := script(t, "python", `echo '{"error": "this Python cannot import torch: pip install torch"}' >"$3"`)
	r, err := examined(t, doctor{o: doctorOptions{device: "cpu", bench: true, only: "training step", python: python}})
	var bad []string
	for _, l := range r.Lines {
		if l.Verdict == string(failed) {
			bad = append(bad, l.Name+": "+l.Detail)
		}
	}
	if err == nil || len(bad) != 1 || !strings.Contains(bad[0], "training step in PyTorch, tiny shape: "+python+": this Python cannot import torch") || len(r.Measured) != 3 {
		t.Errorf("%v: %q, %d numbers", err, bad, len(r.Measured))
	}
	fails(t, []string{"doctor", "--device", "cpu", "--python", python}, "doctor: --python", "--bench")
	fails(t, []string{"doctor", "--device", "cpu", "--bench", "--python", "/none/python"}, `doctor: there is no Python "/none/python"`)
}

func TestBestConversationsComeFirst(t *testing.T) {
	t.Parallel()
	g := data.Group{Answers: []data.Answer{{Tokens: []int32{3}, Rank: 3}, {Tokens: []int32{1}, Rank: 1}, {Tokens: []int32{2}, Rank: 2}}}
	if got := bestFirst([]data.Group{g}); !reflect.DeepEqual(got, [][][]int32{{{1}, {2}, {3}}}) {
		t.Errorf("%v", got)
	}
}
