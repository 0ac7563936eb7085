package cost

import (
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

func config(layers int) llama.Config {
	c := llama.Config{Layers: layers, Hidden: 192, FFN: 320, Heads: 6, KVHeads: 2, HeadDim: 32, Vocab: 100, MaxPositions: 512, Eps: 1e-5, PadTokenID: -1}
	c.InvFreq = make([]float32, c.HeadDim/2)
	return c
}

func groups() []data.Group {
	var all []data.Group
	for g := range 2 {
		prompt := make([]int32, 20+7*g)
		var group data.Group
		for k := range 3 {
			group.Answers = append(group.Answers, data.Answer{Tokens: append(prompt[:len(prompt):len(prompt)], make([]int32, 5+4*k)...), Rank: float64(k)})
		}
		all = append(all, group)
	}
	return all
}

// pass records a forward and a backward pass.
func pass(t *testing.T, c llama.Config, o llama.Options, batch *data.Batch) (*Recorder, *llama.Model) {
	t.Helper()
	o.DType, o.Train, o.MaxRows, o.MaxAnswers = kernels.BF16, true, len(batch.Tokens), len(batch.Scored)
	r := NewRecorder()
	m, err := llama.New(r, c, o)
	if err != nil {
		t.Fatal(err)
	}
	r.Phase("forward")
	scores, err := m.Forward(batch)
	if err != nil {
		t.Fatal(err)
	}
	r.Phase("backward")
	if err := m.Backward(make([]float64, len(scores))); err != nil {
		t.Fatal(err)
	}
	return r, m
}

func flop(r *Recorder, phase string, kinds ...Kind) (sum float64) {
	for _, e := range r.Entries() {
		for _, k := range kinds {
			if e.Phase == phase && e.Kind == k {
				sum += float64(e.Times) * e.FLOP
			}
		}
	}
	return sum
}

// A forward pass is counted as the model itself counts it, and the products of a backward
// pass are twice as many, but for the part of the last layer that Embed cuts off.
func TestArithmeticIsWhatTheModelCounts(t *testing.T) {
	for _, window := range []int{0, 9} {
		for _, shared := range []bool{true, false} {
			c := config(3)
			c.Window = window
			batch := data.Pack(groups(), shared)
			r, m := pass(t, c, llama.Options{}, batch)
			valueHead := 2 * float64(len(batch.Scored)*c.Hidden)
			if got, want := flop(r, "forward", Product, Attention), m.FLOPs(batch)-valueHead; got != want {
				t.Errorf("window %d, shared %v: forward %.0f, the model counts %.0f", window, shared, got, want)
			}
			if got, want := flop(r, "backward", Product), 2*flop(r, "forward", Product); got != want {
				t.Errorf("window %d, shared %v: products backward %.0f, want %.0f", window, shared, got, want)
			}
			if got, want := flop(r, "backward", AttentionBack), 3.5*flop(r, "forward", Attention); got != want {
				t.Errorf("window %d, shared %v: attention backward %.0f, want %.0f", window, shared, got, want)
			}
		}
	}
}

// Recomputing adds the layers' forward passes again, but for the last layer's, which is still
// there, and for the products whose results nobody reads.
func TestRecomputingCostsTheForwardPassOfAllLayersButTheLast(t *testing.T) {
	c, batch := config(4), data.Pack(groups(), true)
	kept, _ := pass(t, c, llama.Options{}, batch)
	again, _ := pass(t, c, llama.Options{Recompute: true}, batch)
	if flop(kept, "forward", Product, Attention) != flop(again, "forward", Product, Attention) {
		t.Error("the forward pass itself differs")
	}
	rows, q := float64(len(batch.Tokens)), float64(c.Heads*c.HeadDim)
	perLayer := 2 * rows * float64(c.Hidden) * (q + 2*float64(c.KVHeads*c.HeadDim) + q + 2*float64(c.FFN))
	if got, want := flop(again, "backward", Product)-flop(kept, "backward", Product), float64(c.Layers-1)*perLayer; got != want {
		t.Errorf("products are %.0f more, want %.0f", got, want)
	}
}

// What nobody trains costs nothing; what lies below it still needs its gradient.
func TestFrozenMatricesHaveNoProductsOfTheirOwn(t *testing.T) {
	c, batch := config(3), data.Pack(groups(), true)
	r, _ := pass(t, c, llama.Options{Frozen: func(p string) bool { return !strings.Contains(p, "norm") }}, batch)
	for _, e := range r.Entries() {
		if e.Name == "MatMul xᵀ·y" {
			t.Errorf("%+v", e)
		}
	}
	if got, want := flop(r, "backward", Product), flop(r, "forward", Product); got != want {
		t.Errorf("products backward %.0f, want %.0f", got, want)
	}
}

// AdamW moves 30 bytes for a bfloat16 parameter with a master, 24 for one without, and 28 for
// one in float32.
func TestAdamWMoves(t *testing.T) {
	for _, c := range []struct {
		dt     kernels.DType
		master bool
		want   float64
	}{{kernels.BF16, true, 30}, {kernels.BF16, false, 24}, {kernels.F32, false, 28}} {
		r := NewRecorder()
		one := func(dt kernels.DType) kernels.Tensor {
			x, _ := r.Alloc("", dt, 10, 100)
			return x
		}
		a := kernels.AdamW{Param: one(c.dt), M: one(kernels.F32), V: one(kernels.F32), Grad: one(kernels.F32)}
		if c.master {
			a.Master = one(kernels.F32)
		}
		r.AdamW(a)
		if got := r.Entries()[0].Bytes / 1000; got != c.want {
			t.Errorf("%v, master %v: %v bytes, want %v", c.dt, c.master, got, c.want)
		}
	}
}

func TestAnOperationTakesAsLongAsItsBoundAndItsLaunches(t *testing.T) {
	card := Card{Peak: 1e12, Bandwidth: 1e11, Static: "sm_90a"}
	likely := Assumptions{Product: .5, Memory: .25, Attention: .5, Launch: 1e-6}
	for _, c := range []struct {
		op   Op
		want float64
	}{
		{Op{Bytes: 1e11, Kernels: 1}, 4 + 1e-6},
		{Op{Kind: Product, FLOP: 1e12, Bytes: 1, Kernels: 2}, 2 + 2e-6},
		{Op{Kind: Product, FLOP: 1, Bytes: 1e11}, 4},
		{Op{Kind: Attention, Channels: 128, FLOP: 1e12}, 2 / .63},
		{Op{Kind: AttentionBack, Channels: 120, FLOP: 7e12}, 2 * (3/.55 + 4/.67)},
		{Op{Kind: Attention, Channels: 300, FLOP: 1}, math.Inf(1)},
	} {
		if got := card.Seconds(c.op, likely); math.Abs(got-c.want) > 1e-12*c.want && got != c.want {
			t.Errorf("%+v: %v, want %v", c.op, got, c.want)
		}
	}
}

// The bounds of attention are those of the table that the compiler's output must agree with.
func TestBoundsAreThoseOfTheStaticTable(t *testing.T) {
	raw, err := os.ReadFile("../cuda/testdata/static.txt")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]float64{} // by kernel and architecture
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 16 && f[0] != "kernel" {
			table[f[0]+" "+f[1]] = min(percent(t, f[14]), percent(t, f[15]))
		}
	}
	for _, arch := range []string{"sm_80", "sm_90a"} {
		for channels, b := range bounds[arch] {
			at := func(kernel string) float64 { return table[kernel+"_"+strconv.Itoa(channels)+" "+arch] }
			queries, keys := at("attention_back_q"), at("attention_back_kv")
			if b.Forward != at("attention") || channels != 128 && (b.Queries != queries || b.Keys != keys) {
				t.Errorf("%s, %d channels: %+v is not the table's %v %v %v", arch, channels, b, at("attention"), queries, keys)
			}
			if b.Queries > queries || b.Keys > keys { // with 128 channels it has the inner loops
				t.Errorf("%s, %d channels: %+v is more than %v and %v of the loops", arch, channels, b, queries, keys)
			}
		}
	}
}

func percent(t *testing.T, s string) float64 {
	t.Helper()
	x, err := strconv.Atoi(strings.TrimSuffix(s, "%"))
	if err != nil {
		t.Fatal(err)
	}
	return float64(x) / 100
}

func TestCardsAreFoundByName(t *testing.T) {
	for _, c := range Cards {
		if got, ok := Named(c.Name); !ok || got != c || bounds[c.Static] == nil || c.Source == "" {
			t.Errorf("%+v", c)
		}
	}
	if _, ok := Named("tpu"); ok {
		t.Error("a tpu was found")
	}
}
