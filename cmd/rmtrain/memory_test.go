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
	"rmtrain/kernels"
	"rmtrain/train"
)

// opened returns a run of the small example on the CPU that has read its data.
func opened(t *testing.T, sets ...string) *trainRun {
	t.Helper()
	cfg, err := configs.Load(configs.LoadOptions{
		File: filepath.Join(small(t), "nectar.yaml"),
		Sets: append(sets, "device=cpu", "train.output_dir="+filepath.Join(t.TempDir(), "out")),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &trainRun{cfg: *cfg, w: io.Discard, started: time.Now()}
	t.Cleanup(r.close)
	for _, step := range []func(context.Context) error{r.preflight, r.openModel, r.openData} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

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
		r := opened(t, "train.recompute="+c.setting)
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

// Packed weights take what is left, and only where a step has enough passes.
func TestWeightsStayPackedWhereMemoryIsLeft(t *testing.T) {
	t.Parallel()
	r := opened(t, "train.max_tokens_per_batch=300", "train.recompute=auto")
	plan := func(limit int64) (kept, all int64, recompute bool) {
		r.options.Keeper = nil
		if err := r.forecast(limit); err != nil {
			t.Fatal(err)
		}
		kept = r.planned.Memory[kernels.KeptTag]
		if (kept > 0) != (r.options.Keeper != nil) {
			t.Errorf("%d bytes are planned to stay packed, and the model's keeper is %v", kept, r.options.Keeper)
		}
		return kept, total(r.planned.Memory), r.options.Recompute
	}
	kept, all, _ := plan(math.MaxInt64)
	if kept == 0 || len(r.planned.MicroBatches) < train.KeptPasses {
		t.Fatalf("%d bytes stay packed in steps of %d passes", kept, len(r.planned.MicroBatches))
	}
	if n, sum, _ := plan(all); n != kept || sum != all {
		t.Errorf("%d of %d bytes stay packed where just all fits, want %d of %d", n, sum, kept, all)
	}
	if n, sum, recompute := plan(all - 1); n != 0 || sum != all-kept || recompute {
		t.Errorf("%d of %d bytes stay packed where a byte is short, recomputing is %t", n, sum, recompute)
	}
	if n, _, recompute := plan(all - kept - 1); n != 0 || !recompute {
		t.Errorf("%d bytes stay packed where results do not fit, recomputing is %t", n, recompute)
	}
	r.cfg.Train.MaxTokensPerBatch = 0
	if n, _, _ := plan(math.MaxInt64); n != 0 {
		t.Errorf("%d bytes stay packed in steps of %d passes", n, len(r.planned.MicroBatches))
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
