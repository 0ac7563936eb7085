package llama

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rmtrain/data"
	"rmtrain/kernels"
)

// Tolerances against what PyTorch computed in float32. Both sides round, in
// different orders.
const (
	// Relative to the largest of the tensor. float32 has 6e-8; a tiny network adds
	// up some tens of terms in some tens of operations.
	tolActivation = 1e-5
	tolScore      = 1e-5
	tolLoss       = 1e-5
	// Norm of the difference in units of the norm. A gradient is a sum of terms that
	// cancel, and has been through twice as many operations.
	tolGradient = 1e-4
	// The same for weights. Where a gradient is smaller than its error, AdamW's first
	// steps, whose size is the learning rate whatever the gradient, may differ.
	tolSteps = 1e-5
	// In float64 only PyTorch's cosines and sines are left of its float32, and those
	// differ by a last bit here and there.
	tolFloat64 = 5e-7
	// Times PyTorch's own error in bfloat16 against float64.
	tolBF16 = 2.0
)

// A golden is a file that testdata/golden.py wrote.
type golden struct {
	meta    map[string]string
	tensors map[string][]float64
	config  Config
	groups  []data.Group
}

var goldens = []string{"llama_gqa", "llama_bias", "llama_rope_llama3", "llama_rope_linear", "mistral_window", "qwen2_bias"}

func readGolden(t testing.TB, name string) golden {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	n := 8 + binary.LittleEndian.Uint64(raw)
	var header map[string]json.RawMessage
	g := golden{tensors: map[string][]float64{}}
	if err := json.Unmarshal(raw[8:n], &header); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(header["__metadata__"], &g.meta); err != nil {
		t.Fatal(err)
	}
	delete(header, "__metadata__")
	for name, h := range header {
		var e struct {
			DType   string    `json:"dtype"`
			Offsets [2]uint64 `json:"data_offsets"`
		}
		if err := json.Unmarshal(h, &e); err != nil {
			t.Fatal(err)
		}
		g.tensors[name] = decode(raw[n+e.Offsets[0]:n+e.Offsets[1]], e.DType)
	}
	if g.config, err = ParseConfig([]byte(g.meta["config"])); err != nil {
		t.Fatal(err)
	}
	for i := 0; g.tensors[fmt.Sprintf("tokens.%d.0", i)] != nil; i++ {
		var group data.Group
		for k := 0; g.tensors[fmt.Sprintf("tokens.%d.%d", i, k)] != nil; k++ {
			a := data.Answer{Rank: float64(k)}
			for _, id := range g.tensors[fmt.Sprintf("tokens.%d.%d", i, k)] {
				a.Tokens = append(a.Tokens, int32(id))
			}
			group.Answers = append(group.Answers, a)
		}
		g.groups = append(g.groups, group)
	}
	return g
}

func decode(raw []byte, dtype string) []float64 {
	var out []float64
	for len(raw) > 0 {
		switch dtype {
		case "F64":
			out, raw = append(out, math.Float64frombits(binary.LittleEndian.Uint64(raw))), raw[8:]
		case "F32":
			out, raw = append(out, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw)))), raw[4:]
		case "BF16":
			out, raw = append(out, float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw))<<16))), raw[2:]
		case "I32":
			out, raw = append(out, float64(int32(binary.LittleEndian.Uint32(raw)))), raw[4:]
		}
	}
	return out
}

// model returns the golden's model on b, with its weights.
func (g golden) model(t testing.TB, b kernels.Backend, o Options) *Model {
	t.Helper()
	m, err := New(b, g.config, o)
	if err != nil {
		t.Fatal(err)
	}
	err = m.Load(func(name string, dt kernels.DType, shape []int, dst []byte) error {
		v, ok := g.tensors["param."+name]
		if !ok || len(v)*dt.Size() != len(dst) {
			return fmt.Errorf("the golden has %d elements for %v", len(v), shape)
		}
		copy(dst, encode(v, dt))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// plackettLuce returns the loss of golden.py and its gradient.
func plackettLuce(scores []float64, groups []data.Group) (loss float64, grad []float64) {
	grad = make([]float64, len(scores))
	lo := 0
	for _, g := range groups {
		k := len(g.Answers)
		s, d := scores[lo:lo+k], grad[lo:lo+k]
		scale := 1 / (float64(k*(k-1)/2) * float64(len(groups)))
		for i := range k - 1 {
			sum := 0.0
			for _, x := range s[i:] {
				sum += math.Exp(x - s[i])
			}
			loss += scale * math.Log(sum)
			d[i] -= scale
			for j := i; j < k; j++ {
				d[j] += scale * math.Exp(s[j]-s[i]) / sum
			}
		}
		lo += k
	}
	return loss, grad
}

// worst is the largest difference in units of the largest of want.
func worst(got, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var d, n float64
	for i := range want {
		if math.IsNaN(got[i]) {
			return math.Inf(1)
		}
		d, n = max(d, math.Abs(got[i]-want[i])), max(n, math.Abs(want[i]))
	}
	return d / n
}

// columns returns columns [lo, hi) of a tensor on the host.
func columns(v []float64, cols, lo, hi int) []float64 {
	var out []float64
	for r := 0; r < len(v); r += cols {
		out = append(out, v[r+lo:r+hi]...)
	}
	return out
}

func TestFrequenciesAreThoseOfTransformers(t *testing.T) {
	for _, name := range goldens {
		g := readGolden(t, name)
		for i, want := range g.tensors["inv_freq"] {
			// PyTorch's vectorized pow is not always the nearest float32.
			if got := float64(g.config.InvFreq[i]); math.Abs(got-want) > 1.2e-7*want {
				t.Errorf("%s: frequency %d is %.9g, want %.9g", name, i, got, want)
			}
		}
		if len(g.tensors["inv_freq"]) != len(g.config.InvFreq) {
			t.Errorf("%s: %d frequencies", name, len(g.config.InvFreq))
		}
	}
}

func TestFirstBlockIsThatOfTransformers(t *testing.T) {
	for _, name := range goldens {
		g := readGolden(t, name)
		for _, b := range backends(t, kernels.F32) {
			t.Run(name+"/"+b.Name(), func(t *testing.T) {
				first := data.Group{Answers: g.groups[0].Answers[:1]}
				m := g.model(t, b, Options{DType: kernels.F32, MaxRows: 64, MaxAnswers: 1, Train: true})
				forward(t, m, data.Pack([]data.Group{first}, false))
				a, v, w, c := m.acts(0), m.view.all, m.w.Blocks[0], m.Config
				q, kv, qkv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim, m.h.QKV()
				got := map[string][]float64{
					"in": download(b, m.res(0)),
					"q":  columns(download(b, a.QKV), qkv, 0, q), "k": columns(download(b, a.QKV), qkv, q, q+kv),
					"v": columns(download(b, a.QKV), qkv, q+kv, qkv), "attn": download(b, a.Att),
					"mid":  download(b, a.Mid),
					"gate": columns(download(b, a.GU), 2*c.FFN, 0, c.FFN), "up": columns(download(b, a.GU), 2*c.FFN, c.FFN, 2*c.FFN),
					"out": download(b, m.res(1)),
				}
				b.RMSNorm(v.N, a.R1, m.res(0), w.AttnNorm, c.Eps) // as the backward pass does
				got["input_norm"] = download(b, v.N)
				b.RMSNorm(v.N, a.R2, a.Mid, w.MLPNorm, c.Eps)
				got["mlp_norm"] = download(b, v.N)
				b.SwiGLU(v.S, a.GU)
				got["swiglu"] = download(b, v.S)
				for stage, v := range got {
					if e := worst(v, g.tensors["block0."+stage]); !(e <= tolActivation) {
						t.Errorf("%s: error %.2g", stage, e)
					}
				}
			})
		}
	}
}

func TestScoresLossAndGradientsAreThoseOfPyTorch(t *testing.T) {
	for _, name := range goldens {
		g := readGolden(t, name)
		for _, b := range backends(t, kernels.F32) {
			t.Run(name+"/"+b.Name(), func(t *testing.T) {
				m := g.model(t, b, Options{DType: kernels.F32, MaxRows: 128, MaxAnswers: 8, Train: true})
				scores := forward(t, m, data.Pack(g.groups, true))
				if e := worst(scores, g.tensors["scores"]); !(e <= tolScore) {
					t.Errorf("scores %v, want %v: error %.2g", scores, g.tensors["scores"], e)
				}
				loss, dscore := plackettLuce(scores, g.groups)
				if e := worst([]float64{loss}, g.tensors["loss"]); !(e <= tolLoss) {
					t.Errorf("loss %v, want %v", loss, g.tensors["loss"])
				}
				if err := m.Backward(dscore); err != nil {
					t.Fatal(err)
				}
				params := m.Params()
				for _, p := range params {
					if e := relative(download(b, p.Grad), g.tensors["grad."+p.Name]); !(e <= tolGradient) {
						t.Errorf("gradient of %s: error %.2g", p.Name, e)
					}
				}
				if n := count(g.tensors, "grad."); n != len(params) {
					t.Errorf("%d parameters, PyTorch has %d", len(params), n)
				}
			})
		}
	}
}

func count(tensors map[string][]float64, prefix string) (n int) {
	for name := range tensors {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

func TestFloat64ScoresAreThoseOfPyTorch(t *testing.T) {
	for _, name := range goldens {
		g := readGolden(t, name)
		for _, b := range backends(t, kernels.F64) {
			m := g.model(t, b, Options{DType: kernels.F64, MaxRows: 128, MaxAnswers: 8})
			scores := forward(t, m, data.Pack(g.groups, true))
			if e := worst(scores, g.tensors["scores.f64"]); !(e <= tolFloat64) {
				t.Errorf("%s: scores %v, want %v: error %.2g", name, scores, g.tensors["scores.f64"], e)
			}
		}
	}
}

// A golden has too few scores for their errors to be compared one by one; all of
// them together have enough.
func TestBF16ScoresAreAsGoodAsPyTorchs(t *testing.T) {
	for _, b := range backends(t, kernels.BF16) {
		var ours, theirs float64
		for _, name := range goldens {
			g := readGolden(t, name)
			m := g.model(t, b, Options{DType: kernels.BF16, MaxRows: 128, MaxAnswers: 8})
			scores := forward(t, m, data.Pack(g.groups, true))
			exact := g.tensors["bf16.f64"]
			ours += math.Pow(relative(scores, exact), 2)
			theirs += math.Pow(relative(g.tensors["bf16.scores"], exact), 2)
		}
		if ratio := math.Sqrt(ours / theirs); !(ratio <= tolBF16) {
			t.Errorf("%s: the error is %.2f times PyTorch's", b.Name(), ratio)
		}
	}
}

func TestAdamWStepsAreThoseOfPyTorch(t *testing.T) {
	for _, name := range goldens {
		g := readGolden(t, name)
		for _, b := range backends(t, kernels.F32) {
			t.Run(name+"/"+b.Name(), func(t *testing.T) {
				m := g.model(t, b, Options{DType: kernels.F32, MaxRows: 128, MaxAnswers: 8, Train: true})
				norms := g.train(t, b, m)
				var want []float64
				if err := json.Unmarshal([]byte(g.meta["grad_norms"]), &want); err != nil {
					t.Fatal(err)
				}
				if e := worst(norms, want); !(e <= tolGradient) {
					t.Errorf("gradient norms %v, want %v", norms, want)
				}
				for _, p := range m.Params() {
					if e := relative(download(b, p.Weight), g.tensors["step3."+p.Name]); !(e <= tolSteps) {
						t.Errorf("%s after the steps: error %.2g", p.Name, e)
					}
				}
			})
		}
	}
}

// train makes the golden's AdamW steps and returns the norms of the gradients.
func (g golden) train(t *testing.T, b kernels.Backend, m *Model) (norms []float64) {
	t.Helper()
	var o struct {
		LR, Beta1, Beta2, Eps float64
		WeightDecay           float64 `json:"weight_decay"`
		MaxGradNorm           float64 `json:"max_grad_norm"`
		Steps                 int
	}
	if err := json.Unmarshal([]byte(g.meta["adamw"]), &o); err != nil {
		t.Fatal(err)
	}
	alloc := func(dt kernels.DType, like kernels.Tensor) kernels.Tensor {
		x, err := b.Alloc("optimizer", dt, slices.Clone(like.Shape[:])...)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	params, batch := m.Params(), data.Pack(g.groups, true)
	var first, second []kernels.Tensor
	for _, p := range params {
		first, second = append(first, alloc(kernels.F32, p.Grad)), append(second, alloc(kernels.F32, p.Grad))
	}
	sum := alloc(kernels.F64, kernels.Tensor{Shape: [3]int{1, 1, 1}})
	for step := 1; step <= o.Steps; step++ {
		_, dscore := plackettLuce(forward(t, m, batch), g.groups)
		m.ZeroGrad()
		if err := m.Backward(dscore); err != nil {
			t.Fatal(err)
		}
		b.Zero(sum)
		for _, p := range params {
			b.SumSq(sum, p.Grad)
		}
		norm := math.Sqrt(download(b, sum)[0])
		norms = append(norms, norm)
		for i, p := range params {
			a := kernels.AdamW{Param: p.Weight, M: first[i], V: second[i], Grad: p.Grad, LR: o.LR, Beta1: o.Beta1, Beta2: o.Beta2,
				Eps: o.Eps, GradScale: min(1, o.MaxGradNorm/(norm+1e-6)), Step: step}
			if p.Decay {
				a.WeightDecay = o.WeightDecay
			}
			b.AdamW(a)
		}
	}
	return norms
}
