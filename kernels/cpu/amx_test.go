package cpu

import (
	"bytes"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
)

func needAMX(t *testing.T) {
	t.Helper()
	if available()[0] != "amx" {
		t.Skip("this CPU, or this build, has no AMX")
	}
}

// TestTilesOfLongSums multiplies along more than one block of k, which the conformance
// suite is too small for, and compares with the kernels for AVX-512 and with rows alone.
func TestTilesOfLongSums(t *testing.T) {
	needAMX(t)
	const m, n, k = 34, 45, 2*2048 + 5
	tol := kerneltest.Tol[kernels.BF16][kerneltest.Product]
	for mode, name := range []string{"NT", "NN", "TN"} {
		mode := kernels.Trans(mode)
		product := func(isa string, rows int) []float32 {
			b, r := newBackend(t, kernels.BF16, isa), rand.New(rand.NewPCG(15, 16))
			x, w, y := filled(t, b, r, b.act, m, k), filled(t, b, r, b.act, n, k), filled(t, b, nil, b.act, m, n)
			switch mode {
			case kernels.NN:
				w.Shape = [3]int{k, n, 1}
			case kernels.TN:
				x.Shape, w.Shape, y = [3]int{k, m, 1}, [3]int{k, n, 1}, filled(t, b, nil, kernels.F32, m, n)
			}
			if mode == kernels.TN {
				b.MatMul(y, x, w, mode, false)
				return float32s(y)
			}
			b.MatMul(y.Slice(0, rows), x.Slice(0, rows), w, mode, false)
			out := make([]float32, rows*n)
			for i, h := range halves(raw(y))[:rows*n] {
				out[i] = math.Float32frombits(uint32(h) << 16)
			}
			return out
		}
		got, want := product("amx", m), product("avx512", m)
		var difference, size float64
		for i := range want {
			d := float64(got[i] - want[i])
			difference, size = difference+d*d, size+float64(want[i])*float64(want[i])
		}
		if e := math.Sqrt(difference / size); !(e <= tol) {
			t.Errorf("%s: amx differs from avx512 by %.2g > %.2g", name, e, tol)
		}
		for _, rows := range []int{1, 16, 17} {
			if mode != kernels.TN && !slices.Equal(product("amx", rows), got[:rows*n]) {
				t.Errorf("%s: the first %d rows differ when alone", name, rows)
			}
		}
	}
}

// TestTilesSurvivePreemption multiplies on more threads than cores, while the garbage
// collector interrupts them with signals: the tile registers of a thread must come
// through signals and switches unchanged.
func TestTilesSurvivePreemption(t *testing.T) {
	needAMX(t)
	const workers, duration = 8, 2 * time.Second
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range workers {
		b := newBackend(t, kernels.BF16, "amx")
		r := rand.New(rand.NewPCG(13, uint64(i)))
		x, w, y := filled(t, b, r, b.act, 70, 600), filled(t, b, r, b.act, 100, 600), filled(t, b, nil, b.act, 70, 100)
		b.MatMul(y, x, w, kernels.NT, false)
		want := bytes.Clone(raw(y))
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				b.Zero(y)
				b.MatMul(y, x, w, kernels.NT, false)
				if !bytes.Equal(raw(y), want) {
					t.Errorf("worker %d: product %d differs from the first", i, n)
					return
				}
			}
		})
	}
	for end := time.Now().Add(duration); time.Now().Before(end); {
		runtime.GC()
	}
	close(stop)
	wg.Wait()
}
