package cpu

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
)

// each runs f on every instruction set that this machine has, in both types.
func each(t *testing.T, f func(t *testing.T, b *backend)) {
	t.Helper()
	for _, isa := range available() {
		for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
			t.Run(isa+"/"+dt.String(), func(t *testing.T) { f(t, newBackend(t, dt, isa)) })
		}
	}
}

// available returns the instruction sets that this machine has, best first.
func available() []string {
	var names []string
	for _, s := range known() {
		if s.f32 != nil {
			names = append(names, s.isa)
		}
	}
	return names
}

func newBackend(t testing.TB, dt kernels.DType, isa string) *backend {
	t.Helper()
	b, err := newFor(dt, isa)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b.(*backend)
}

// TestConformance runs the backends beside each other, so it also shows that they
// share nothing.
func TestConformance(t *testing.T) {
	each(t, func(t *testing.T, b *backend) {
		t.Parallel()
		kerneltest.Run(t, b, b.act)
	})
}

func TestNewChoosesInstructionSet(t *testing.T) {
	names := available()
	if names[len(names)-1] != "portable" {
		t.Fatalf("available() = %v, want portable last", names)
	}
	for _, isa := range append(names, "") {
		t.Setenv(EnvCPU, isa)
		b, err := New(kernels.BF16)
		if err != nil {
			t.Fatal(err)
		}
		want := isa
		if isa == "" {
			want = names[0]
		}
		if got := b.Name(); got != "cpu("+want+", BF16)" {
			t.Errorf("%s=%q gives %s", EnvCPU, isa, got)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		isa  string
		dt   kernels.DType
		want string
	}{
		{"mmx", kernels.F32, "RMTRAIN_CPU=mmx: unknown instruction set (known: amx, avx512, avx2, portable)"},
		{"", kernels.F64, "cannot compute in F64"},
		{"", kernels.I32, "cannot compute in I32"},
	} {
		t.Setenv(EnvCPU, c.isa)
		if _, err := New(c.dt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%v) with %s=%s: %v, want %q", c.dt, EnvCPU, c.isa, err, c.want)
		}
	}
}

func TestChooseRefusesWhatTheCPULacks(t *testing.T) {
	all := known()
	portable := all[len(all)-1]
	all = []sets{{isa: "avx512"}, {isa: "avx2"}, portable}
	_, err := choose(all, "avx2")
	if want := "cpu: RMTRAIN_CPU=avx2: this CPU, or this build, lacks it (usable: portable)"; err == nil || err.Error() != want {
		t.Errorf("choose gives %v, want %s", err, want)
	}
	if s, err := choose(all, ""); err != nil || s != portable {
		t.Errorf("choose gives %s, %v, want portable", s.isa, err)
	}
}

func TestAllocRefusesWhatNoMachineHas(t *testing.T) {
	b := newBackend(t, kernels.F32, "")
	for _, shape := range [][]int{{1 << 31, 1 << 31, 1 << 31}, {1 << 55}} {
		if _, err := b.Alloc("weights", kernels.F32, shape...); err == nil || !strings.Contains(err.Error(), "weights") {
			t.Errorf("Alloc(%v): %v, want an error that names the purpose", shape, err)
		}
	}
	if err := b.Sync(); err != nil || len(b.Used()) != 0 {
		t.Errorf("a refused allocation leaves %v, %v", err, b.Used())
	}
}

// TestScratchIsAccounted asks for the memory in use while operations run, too.
func TestScratchIsAccounted(t *testing.T) {
	each(t, func(t *testing.T, b *backend) {
		ops := suite(t, b, 300)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 100 {
				b.Used()
			}
		}()
		for _, op := range ops {
			op.run()
		}
		<-done
		want := len(b.strips.mem) + len(b.parts.mem)
		for _, w := range b.workers {
			want += len(w.mem)
		}
		if got := b.Used()[kernels.ScratchTag]; want == 0 || got != int64(want) {
			t.Errorf("%d bytes of scratch memory are in use, want %d", got, want)
		}
		b.dropScratch(t)
		want = len(b.strips.mem) + len(b.parts.mem)
		if got := b.Used()[kernels.ScratchTag]; got != int64(want) {
			t.Errorf("%d bytes of scratch memory are in use after that of the workers is freed, want %d", got, want)
		}
	})
}

func TestFirstFailureStopsEverything(t *testing.T) {
	b := newBackend(t, kernels.F32, "")
	r := rand.New(rand.NewPCG(1, 2))
	x, y, sum := filled(t, b, r, kernels.F32, 20, 20), filled(t, b, r, kernels.F32, 20, 20), filled(t, b, nil, kernels.F64, 1)
	before := bytes.Clone(raw(y))
	first := errors.New("first")
	b.fail(first)
	b.fail(errors.New("second"))
	b.MatMul(y, x, x, kernels.TN, false)
	b.Add(y, x, x)
	b.Zero(y)
	b.SumSq(sum, x)
	b.Upload(y, raw(x))
	if !bytes.Equal(raw(y), before) || !bytes.Equal(raw(sum), make([]byte, 8)) {
		t.Error("an operation ran after the failure")
	}
	if err := b.Sync(); err != first {
		t.Errorf("Sync() = %v, want the first failure", err)
	}
	b.err = nil
}

// TestOperationsAllocateNothingPerRow measures the Go memory of operations on many
// rows, once scratch memory has grown.
func TestOperationsAllocateNothingPerRow(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	each(t, func(t *testing.T, b *backend) {
		const rows = 1000
		ops := suite(t, b, rows)
		for _, op := range ops {
			op.run()
		}
		for _, op := range ops {
			least := uint64(math.MaxUint64) // of several, since the runtime allocates now and then
			for range 5 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				op.run()
				runtime.ReadMemStats(&after)
				least = min(least, after.TotalAlloc-before.TotalAlloc)
			}
			if least > 4*rows {
				t.Errorf("%s allocates %d bytes for %d rows", op.name, least, rows)
			}
		}
	})
}

// TestExponential checks exp through silu: for very negative x, x*sigmoid(x) is
// x*exp(x), whose relative error is that of exp.
func TestExponential(t *testing.T) {
	const n = 1 << 15
	for _, isa := range available() {
		b := newBackend(t, kernels.F32, isa)
		gateUp, out := filled(t, b, nil, kernels.F32, 1, 2*n), filled(t, b, nil, kernels.F32, 1, n)
		v := float32s(gateUp)
		for i := range n {
			v[i], v[n+i] = -20-67*float32(i)/n, 1
		}
		special := []float32{float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), -200, 200}
		copy(v[n-len(special):n], special)
		b.SwiGLU(out, gateUp)
		got := float32s(out)
		for i := range n - len(special) {
			x := float64(v[i])
			want := x / (1 + math.Exp(-x))
			if e := math.Abs(float64(got[i])-want) / math.Abs(want); !(e < 4e-7) {
				t.Fatalf("%s: silu(%g) = %g, want %g", isa, x, got[i], want)
			}
		}
		tail := got[n-len(special):]
		if !math.IsInf(float64(tail[0]), 1) || tail[1] == tail[1] || tail[2] == tail[2] || tail[3] != 0 || tail[4] != 200 {
			t.Errorf("%s: silu(%v) = %v", isa, special, tail)
		}
	}
}

func TestBF16RoundsToNearestEven(t *testing.T) {
	values := []float32{0, float32(math.Copysign(0, -1)), 1, 1.0078125, -3.5, 1.17549435e-38, 9.2e-41, 3.3895314e38, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		values = append(values, float32(r.NormFloat64())*float32(math.Exp2(float64(r.IntN(12)))))
	}
	n := len(values)
	for _, isa := range available() {
		b := newBackend(t, kernels.BF16, isa)
		x, y, out := filled(t, b, nil, kernels.BF16, n), filled(t, b, nil, kernels.BF16, n), filled(t, b, nil, kernels.BF16, n)
		b.Upload(x, encode(kernels.BF16, values))
		for shift := range n {
			rotated := append(slices.Clone(values[shift:]), values[:shift]...)
			b.Upload(y, encode(kernels.BF16, rotated))
			b.Add(out, x, y)
			for i, got := range halves(raw(out)) {
				sum := cut(values[i]) + cut(rotated[i])
				if want := nearestEven(sum); got != want && (sum == sum || isNumber(got)) {
					t.Fatalf("%s: %g + %g = %#04x, want %#04x", isa, cut(values[i]), cut(rotated[i]), got, want)
				}
			}
		}
	}
}

func halves(p []byte) []uint16 {
	v := make([]uint16, len(p)/2)
	for i := range v {
		v[i] = uint16(p[2*i]) | uint16(p[2*i+1])<<8
	}
	return v
}

func cut(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ 0xffff) }

// isNumber reports whether a bfloat16 is not a NaN.
func isNumber(h uint16) bool { return h&0x7f80 != 0x7f80 || h&0x7f == 0 }

func nearestEven(x float32) uint16 {
	u := math.Float32bits(x)
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}
