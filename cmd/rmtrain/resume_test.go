package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killSettings make a run that saves after every step and is short enough to be
// killed and started many times.
var killSettings = []string{
	"train.prompts_per_step=2", "data.max_answers=3", "train.max_steps=25", "train.logging_steps=3",
	"train.eval_steps=10", "train.save_steps=1",
}

// However often a run is killed or interrupted, started again it ends with the same
// model and the same log.
func TestStoppedRunsEndWithTheSameBits(t *testing.T) {
	t.Parallel()
	whole := trained(t, killSettings...)
	begin := time.Now()
	trained(t, killSettings...) // finds the data in the cache, as those below
	usual := time.Since(begin)
	for _, c := range []struct {
		signal syscall.Signal
		times  int
	}{{syscall.SIGKILL, 50}, {syscall.SIGINT, 6}} {
		rng := random(50)
		for stopped := 0; stopped < c.times; {
			out := filepath.Join(t.TempDir(), "out")
			for starts := 0; ; starts++ {
				// Longer from time to time, in case the machine has become slower.
				delay := time.Duration((0.1 + 0.8*rng.Float64()) * (1 + float64(starts)/20) * float64(usual))
				if finishes(t, c.signal, delay, training(t, out, killSettings...)) {
					break
				}
				stopped++
			}
			if !bytes.Equal(weights(t, out), weights(t, whole)) {
				t.Fatalf("%v: weights differ from those of a run that was left alone", c.signal)
			}
			if got, want := metrics(t, out), metrics(t, whole); got != want {
				t.Fatalf("%v: metrics\n%s\nwant\n%s", c.signal, got, want)
			}
		}
	}
}

// finishes runs rmtrain, sends it a signal after a delay, and tells whether it was
// finished by then. It must not end otherwise.
func finishes(t *testing.T, signal syscall.Signal, delay time.Duration, args []string) bool {
	t.Helper()
	c, stdout, stderr := start(context.Background(), nil, args...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(delay, func() { _ = c.Process.Signal(signal) }) // it may have ended
	defer timer.Stop()
	err := c.Wait()
	if c.ProcessState.Success() {
		return true
	}
	s := c.ProcessState.Sys().(syscall.WaitStatus)
	if !(s.Signaled() && s.Signal() == signal) && s.ExitStatus() != 128+int(signal) {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	return false
}

// A slow run, for signals to arrive in.
var slow = []string{"train.max_steps=100000", "train.lr_scheduler_type=constant"}

func TestSignalsSaveAndAreReported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		signal syscall.Signal
		name   string
		status int
	}{{syscall.SIGINT, "interrupt", 130}, {syscall.SIGTERM, "terminated", 143}, {syscall.SIGHUP, "hangup", 129}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if signal.Ignored(c.signal) {
				t.Skip("the signal is ignored here, and by every child")
			}
			out := filepath.Join(t.TempDir(), "out")
			p, _, stderr := start(context.Background(), nil, training(t, out, slow...)...)
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			waitForSteps(t, out, 2)
			fails(t, training(t, out, slow...), "another process is training into "+out)
			if err := p.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			_ = p.Wait() // its status is what is tested
			if got := p.ProcessState.ExitCode(); got != c.status {
				t.Errorf("status %d, want %d\n%s", got, c.status, stderr)
			}
			for _, part := range []string{c.name + ": finishing this step", "rmtrain: train: interrupted"} {
				if !strings.Contains(stderr.String(), part) {
					t.Errorf("standard error has no %q:\n%s", part, stderr)
				}
			}
			states, err := filepath.Glob(filepath.Join(out, "checkpoint-*"))
			if err != nil || len(states) != 1 {
				t.Fatalf("states %q, %v", states, err)
			}
			var step int
			if _, err := fmt.Sscanf(filepath.Base(states[0]), "checkpoint-%d", &step); err != nil {
				t.Fatal(err)
			}
			// It goes on from there, to the bits of a run that was never interrupted.
			settings := []string{slow[1], fmt.Sprintf("train.max_steps=%d", step+2)}
			if got := ok(t, training(t, out, settings...)...); !strings.Contains(got, fmt.Sprintf("resuming after step %d", step)) {
				t.Errorf("it did not resume:\n%s", got)
			}
			if !bytes.Equal(weights(t, out), weights(t, trained(t, settings...))) {
				t.Error("weights differ from those of a run without interruption")
			}
		})
	}
}

// waitForSteps waits until the run in out has logged steps.
func waitForSteps(t *testing.T, out string, steps int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(filepath.Join(out, "metrics.jsonl")); err == nil && bytes.Count(b, []byte("\n")) >= steps {
			return
		}
	}
	t.Fatal("no steps")
}

// A second signal ends even a program that is finishing something long.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	// One step of all groups is long enough for two signals that come together.
	p, _, stderr := start(context.Background(), []string{"GOMAXPROCS=1"}, training(t, out, append(slow, "train.prompts_per_step=40", "train.share_prefix=false")...)...)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	waitForSteps(t, out, 1)
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCONT} {
		if err := p.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	_ = p.Wait() // its status is what is tested
	if got := p.ProcessState.ExitCode(); got != 130 && got != 143 {
		t.Errorf("status %d, want 130 or 143\n%s", got, stderr)
	}
	if states, _ := filepath.Glob(filepath.Join(out, "checkpoint-*")); len(states) > 0 {
		t.Errorf("it saved %q although it should have stopped", states)
	}
}

func TestAFinishedRunIsNotTrainedAgain(t *testing.T) {
	t.Parallel()
	out := trained(t)
	before, err := os.Stat(filepath.Join(out, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	again := ok(t, training(t, out)...)
	for _, part := range []string{"already holds this run", "held-out pairwise accuracy", "rmtrain infer --checkpoint " + out} {
		if !strings.Contains(again, part) {
			t.Errorf("output has no %q:\n%s", part, again)
		}
	}
	after, err := os.Stat(filepath.Join(out, "model.safetensors"))
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the model was written again (%v)", err)
	}
	fails(t, training(t, out, "train.resume_from_checkpoint=never"), "holds a run")
}

// A run may go on from a state that it names, in another folder.
func TestResumingFromANamedState(t *testing.T) {
	t.Parallel()
	whole := trained(t, "train.save_steps=2")
	state := "train.resume_from_checkpoint=" + filepath.Join(whole, "checkpoint-2")
	if got := trained(t, state); !bytes.Equal(weights(t, got), weights(t, whole)) {
		t.Error("weights differ")
	}
	fails(t, training(t, filepath.Join(t.TempDir(), "out"), state, "train.seed=1"), "another run", "train.seed is 0 there and 1 here")
}

// Whatever output_dir holds that is not this run is refused before data is read, and
// stays as it is.
func TestAnotherRunsFolderIsLeftAlone(t *testing.T) {
	t.Parallel()
	run := trained(t)
	model := filepath.Join(t.TempDir(), "model")
	ok(t, "export", "--model", run, "--output", model)
	other := filepath.Join(t.TempDir(), "other")
	if err := os.CopyFS(other, os.DirFS(filepath.Join(small(t), "model"))); err != nil {
		t.Fatal(err)
	}
	b := read(t, other, "model.safetensors")
	b[len(b)-1]++ // the last number of the last tensor
	if err := os.WriteFile(filepath.Join(other, "model.safetensors"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir     string
		setting string
		part    string
	}{
		"another seed":     {run, "train.seed=1", "train.seed is 0 there and 1 here"},
		"another loss":     {run, "loss.type=bradley_terry", "loss.type is plackett_luce there and bradley_terry here"},
		"another template": {run, "data.chat_template=transcript", "format of conversations"},
		"other data":       {run, "data.max_answers=3", "training data"},
		"other weights":    {run, "model.name_or_path=" + other, "base model's weights"},
		"a model":          {model, "train.seed=0", "holds a model"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := list(t, c.dir)
			r := fails(t, training(t, c.dir, c.setting), c.part, c.dir)
			if early := name != "other data"; early && strings.Contains(r.stdout, "training data") {
				t.Errorf("refused only after the data was read:\n%s", r.stdout)
			}
			if after := list(t, c.dir); after != before {
				t.Errorf("folder was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// list describes the files of a folder.
func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&out, e.Name(), info.Size(), info.ModTime())
	}
	return out.String()
}

func TestAFolderThatCannotBeWrittenIsRefused(t *testing.T) {
	t.Parallel()
	locked := filepath.Join(t.TempDir(), "locked")
	if err := os.Mkdir(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{locked, filepath.Join(locked, "below", "it")} {
		r := runWith(t, []string{asUser + "=1"}, training(t, dir)...)
		mustFail(t, r, "train.output_dir", locked, "permission denied")
		if r.stdout != "" {
			t.Errorf("it began:\n%s", r.stdout)
		}
	}
	fails(t, training(t, filepath.Join(small(t), "nectar.yaml")), "is a file, not a folder")
	fails(t, training(t, filepath.Join(small(t), "nectar.yaml", "out")), "not a directory")
}

// A full disk ends a run with an error and costs no state; with room it goes on.
func TestAFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	settings := []string{"train.save_steps=1", "train.lr_scheduler_type=constant"}
	ok(t, training(t, out, append(settings, "train.max_steps=2")...)...)
	size := len(read(t, out, "checkpoint-2", "state.safetensors"))
	whole := trained(t, settings...)
	for _, limit := range []int{size / 2, 2000} {
		r := runWith(t, []string{fmt.Sprintf("%s=%d", maxFileSize, limit)}, training(t, out, settings...)...)
		mustFail(t, r, "file too large")
		if strings.Contains(r.stderr, "goroutine") {
			t.Errorf("it crashed:\n%s", r.stderr)
		}
		if states, err := filepath.Glob(filepath.Join(out, "checkpoint-*", "COMPLETE")); err != nil || len(states) != 2 {
			t.Errorf("states left: %q, %v", states, err)
		}
	}
	ok(t, training(t, out, settings...)...)
	if !bytes.Equal(weights(t, out), weights(t, whole)) {
		t.Error("weights differ from those of a run with enough room")
	}
}
