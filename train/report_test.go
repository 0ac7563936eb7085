package train

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/train/report"
)

// spelled shows ids as text: a prompt on a line of its own cannot be told by its ids,
// so every id is a line.
func spelled(ids []int32) (string, error) {
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, "<%d>\n", id)
	}
	return b.String(), nil
}

func readText(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	check(t, err)
	return string(text)
}

// events returns TensorBoard's files in dir, one after the other.
func events(t *testing.T, dir string) (count int, text []byte) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "tensorboard", "*tfevents*"))
	check(t, err)
	for _, path := range paths {
		part, err := os.ReadFile(path)
		check(t, err)
		text = append(text, part...)
	}
	return len(paths), text
}

func TestARunWritesItsReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Model.NameOrPath = "org/base"
	c.Train.ReportTo = []string{"jsonl", "tensorboard"}
	in := w.inputs(c)
	in.Text, in.DataReport = spelled, "ten groups & more"
	_, err := Run(t.Context(), in)
	check(t, err)
	page := readText(t, c.Train.OutputDir, report.PageFile)
	for _, part := range []string{
		"org/base on 10 groups of ranked answers, evaluated on 4", "Held-out accuracy", "<svg", "ten groups &amp; more", "learning_rate: 0.01",
		"Samples of the evaluation data", "rows.jsonl:1", "rows.jsonl:4", "&lt;1&gt;",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("%q is missing", part)
		}
	}
	if n := strings.Count(page, `class="prompt"`); n != 4 {
		t.Errorf("%d samples, want the 4 groups of the evaluation data", n)
	}
	if text := readText(t, c.Train.OutputDir, report.RunFile); !strings.Contains(text, `"total_steps": 6`) || !strings.Contains(text, `"eval_groups": 4`) {
		t.Errorf("run.json is %s", text)
	}
	if n, text := events(t, c.Train.OutputDir); n != 1 || !bytes.Contains(text, []byte("eval/pairwise_accuracy")) || !bytes.Contains(text, []byte("train/per_rank_accuracy/3")) {
		t.Errorf("%d event files: %q", n, text)
	}
}

func TestWithoutTextThereAreNoSamples(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	w.run(c)
	if page := readText(t, c.Train.OutputDir, report.PageFile); strings.Contains(page, "Samples of the") {
		t.Error("there are samples")
	}
	if n, _ := events(t, c.Train.OutputDir); n != 0 {
		t.Errorf("%d event files, and report_to does not ask for them", n)
	}
}

func TestAResumedRunHasOneEventFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	c.Train.ReportTo, c.Train.LoggingSteps = []string{"tensorboard"}, 1
	ctx, wrap := stopAfter(3)
	w.backend = wrap
	if _, err := Run(ctx, w.inputs(c)); !errors.Is(err, ErrInterrupted) {
		t.Fatalf("error is %v", err)
	}
	w.backend = nil
	w.run(c)
	n, text := events(t, c.Train.OutputDir)
	lines := strings.Count(readText(t, c.Train.OutputDir, metricsFile), "\n")
	if got := bytes.Count(text, []byte("/loss")); n != 1 || lines != 7 || got != lines {
		t.Errorf("%d event files with %d losses for %d lines", n, got, lines)
	}
}

func TestTrainingDoesNotDependOnItsReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	_, want := w.run(c)

	c.Train.OutputDir, c.Train.ReportTo = t.TempDir(), []string{"tensorboard"}
	check(t, os.WriteFile(filepath.Join(c.Train.OutputDir, "tensorboard"), nil, 0o644))
	for _, name := range []string{report.RunFile, report.PageFile} {
		check(t, os.Mkdir(filepath.Join(c.Train.OutputDir, name), 0o777))
	}
	_, got := w.run(c)
	sameBits(t, got, want)
	for _, part := range []string{"event file is not written any more", "run.json is not written", "report.html is not written"} {
		if strings.Count(w.log.String(), part) != 1 {
			t.Errorf("%q is not said once in\n%s", part, &w.log)
		}
	}
}

func TestScoringSamplesDoesNotChangeTheModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kernels.F32)
	c := baseConfig(t.TempDir())
	_, want := w.run(c)
	c.Train.OutputDir = t.TempDir()
	in := w.inputs(c)
	in.Text = spelled
	_, err := Run(t.Context(), in)
	check(t, err)
	sameBits(t, weightsOf(t, in), want)
}
