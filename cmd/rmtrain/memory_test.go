package main

import (
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rmtrain/configs"
)

func TestRecomputingDependsOnTheMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		setting   string
		available int64
		want      bool
	}{
		{"auto", 1 << 20, true}, {"auto", math.MaxInt64, false},
		{"always", math.MaxInt64, true}, {"never", 1 << 20, false},
	} {
		cfg, err := configs.Load(configs.LoadOptions{
			File: filepath.Join(small(t), "nectar.yaml"),
			Sets: []string{"train.recompute=" + c.setting, "train.output_dir=" + filepath.Join(t.TempDir(), "out")},
		})
		if err != nil {
			t.Fatal(err)
		}
		r := &trainRun{cfg: *cfg, w: io.Discard, started: time.Now()}
		defer r.close()
		for _, step := range []func(context.Context) error{r.preflight, r.openModel, r.openData} {
			if err := step(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.forecast(c.available); err != nil {
			t.Fatal(err)
		}
		if r.options.Recompute != c.want {
			t.Errorf("%s with %s available: recompute is %t", c.setting, mebibytes(c.available), r.options.Recompute)
		}
		if needed := total(r.planned.Memory); needed <= 0 || fits(r.planned.Memory, needed) || !fits(r.planned.Memory, 2*needed) {
			t.Errorf("%d bytes needed", needed)
		}
	}
}

func TestAvailableMemoryIsPlausible(t *testing.T) {
	t.Parallel()
	if free := availableMemory(); free < 1<<20 {
		t.Errorf("%d bytes", free)
	}
}

func TestWhatAControlGroupLeaves(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no limit":      {map[string]string{"memory.max": "max\n", "memory.current": "7\n"}, math.MaxInt64},
		"no group":      {nil, math.MaxInt64},
		"a limit":       {map[string]string{"memory.max": "1000\n", "memory.current": "700\n"}, 300},
		"cached files":  {map[string]string{"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 200\nfile 500\nkernel 0\n"}, 800},
		"over the edge": {map[string]string{"memory.max": "1000\n", "memory.current": "1200\n"}, 0},
	} {
		dir := t.TempDir()
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := groupLeaves(dir); got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
}

func TestMemoryTableIsSortedAndAddedUp(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	writeMemory(&b, map[string]int64{"weights": 3 << 20, "gradients": 1 << 20, "activations": 20 << 30})
	want := "  activations  20.0 GiB\n      weights   3.0 MiB\n    gradients   1.0 MiB\n        total  20.0 GiB\n"
	if b.String() != want {
		t.Errorf("table\n%s\nwant\n%s", b.String(), want)
	}
}

func TestNumbersForPeople(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{7: "7 ", 1234: "1.23 k", 6.7e9: "6.7 G", 1.42e11: "142 G", 2e12: "2 T"} {
		if got := si(x); got != want {
			t.Errorf("si(%v) = %q, want %q", x, got, want)
		}
	}
	for n, want := range map[int]string{0: "0 groups", 1: "1 group", 2: "2 groups"} {
		if got := count(n, "group"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := count(3, "pass"); got != "3 passes" {
		t.Errorf("%q", got)
	}
}
