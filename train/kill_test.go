package train

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"rmtrain/configs"
	"rmtrain/kernels"
)

// killedDir is set in the processes that TestKilledRunsEndWithTheSameBits kills.
const killedDir = "RMTRAIN_TEST_OUTPUT_DIR"

func killedConfig(dir string) configs.Run {
	c := baseConfig(dir)
	c.Train.LRSchedulerType, c.Train.MaxSteps = "cosine", 40
	c.Train.SaveSteps, c.Train.LoggingSteps, c.Train.EvalSteps = 1, 3, 20
	return c
}

// kill -9 at random points, in steps, saves and the export.
func TestKilledRunsEndWithTheSameBits(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" { // this process is to be killed
		newWorld(t, kernels.BF16).run(killedConfig(dir))
		return
	}
	t.Parallel()
	w := newWorld(t, kernels.BF16)
	c := killedConfig(t.TempDir())
	whole, want := w.run(c)
	wantMoments, wantMetrics := moments(t, w.inputs(c), whole.Step), metrics(t, c.Train.OutputDir)

	c.Train.OutputDir = t.TempDir()
	r := rand.New(rand.NewPCG(3, 3))
	for range 12 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+r.IntN(150))*time.Millisecond)
		process := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$")
		process.Env = append(os.Environ(), killedDir+"="+c.Train.OutputDir)
		out, err := process.CombinedOutput()
		if err != nil && ctx.Err() == nil {
			t.Fatalf("a resumed run failed: %v\n%s", err, out)
		}
		cancel()
	}
	s, _ := w.run(c)
	if s.Step != whole.Step || s.TrainLoss != whole.TrainLoss || *s.Last != *whole.Last {
		t.Errorf("summary %+v, want %+v", s, whole)
	}
	sameBits(t, moments(t, w.inputs(c), s.Step), wantMoments) // the weights are among them
	if m := metrics(t, c.Train.OutputDir); !slices.Equal(m, wantMetrics) {
		t.Errorf("metrics\n%s\nwant\n%s", strings.Join(m, "\n"), strings.Join(wantMetrics, "\n"))
	}
	sameBits(t, exported(t, c.Train.OutputDir, kernels.BF16, want), want)
}
