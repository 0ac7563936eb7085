package cost

import (
	"math"
	"testing"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

// One layer of Yi-34B's width on 5,680 rows, whose activations are 81.4 MB: additions move three,
// the norm's gradient four and two again, SwiGLU three of 20,480 channels and its gradient five.
func TestFusionsSaveWhatTheirKernelsNeedNotMove(t *testing.T) {
	const rows, hidden, ffn = 5680, 7168, 20480
	r := NewRecorder()
	act := func(cols int) kernels.Tensor {
		x, err := r.Alloc("test", kernels.BF16, rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	vector, stat := act(1), kernels.Tensor{DType: kernels.F32, Shape: [3]int{rows, 1, 1}, Buf: nowhere}
	x, gates, up := act(hidden), act(2*ffn), act(ffn)
	r.Add(x, x, x)
	r.RMSNorm(x, stat, x, vector, 1e-5)
	r.RMSNormBack(x, stat, x, x, vector, stat)
	r.SwiGLU(up, gates)
	r.SwiGLUBack(gates, up, gates)
	card := Card{Bandwidth: 1e12}
	assume := Assumptions{Memory: 1, Launch: 1}
	for i, want := range []struct {
		bytes    float64
		launches float64
	}{
		{3 * 2 * rows * hidden, 1},
		{2 * rows * hidden, 1},
		{2 * 2 * rows * hidden, 1},
		{3 * 2 * rows * ffn, 1},
		{2 * 2 * rows * ffn, 1},
	} {
		f := Fusions[i]
		got := card.Saved(f, r.Entries(), assume)
		if s := want.bytes/1e12 + want.launches; math.Abs(got-s) > 1e-9 {
			t.Errorf("%s saves %.9g s, want %.9g", f.Name, got, s)
		}
	}
}

// Names of operations are texts, which the network could cease to issue.
func TestEveryFusionConcernsAStep(t *testing.T) {
	r, _ := pass(t, config(2), llama.Options{}, data.Pack(groups(), true))
	for _, f := range Fusions {
		if saved := Cards[0].Saved(f, r.Entries(), Likely); !(saved > 0 && saved < Cards[0].Total(r.Entries(), "", Likely)) {
			t.Errorf("%s saves %g s", f.Name, saved)
		}
	}
}
