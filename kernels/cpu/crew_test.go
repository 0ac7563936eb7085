package cpu

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestCrewRunsEachWorkerOnce(t *testing.T) {
	var c crew
	for i := range 2000 {
		count := 1 + i%5
		if i%400 == 399 {
			time.Sleep(2 * linger) // the workers have gone, or are about to
		}
		runs := make([]atomic.Int32, count)
		c.run(count, func(worker int) { runs[worker].Add(1) })
		for w := range runs {
			if n := runs[w].Load(); n != 1 {
				t.Fatalf("run %d: worker %d of %d ran %d times", i, w, count, n)
			}
		}
	}
}

func TestCrewSeesWhatWasWrittenBetweenRuns(t *testing.T) {
	var c crew
	sums := make([]int, 4)
	step := 0
	for range 1000 {
		step++
		c.run(len(sums), func(worker int) { sums[worker] += step })
	}
	for w, sum := range sums {
		if want := 1000 * 1001 / 2; sum != want {
			t.Errorf("worker %d added up %d, want %d", w, sum, want)
		}
	}
}

func TestCrewEndsWhenNoWorkFollows(t *testing.T) {
	before := runtime.NumGoroutine()
	var c crew
	c.run(4, func(int) {})
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(linger) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines are left, %d were there before", runtime.NumGoroutine(), before)
		}
	}
}
