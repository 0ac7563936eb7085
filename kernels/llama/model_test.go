package llama

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/reference"
)

func TestSharedPrefixGivesTheSameScoresAndGradients(t *testing.T) {
	for _, c := range []Config{full, plain} {
		b := reference.New(kernels.F64)
		m := newSeeded(t, b, c, Options{DType: kernels.F64, MaxRows: 128, MaxAnswers: 8, Train: true})
		shared, sharedGrads := gradients(t, b, m, data.Pack(groups(c), true))
		whole, wholeGrads := gradients(t, b, m, data.Pack(groups(c), false))
		if e := worst(shared, whole); !(e < 1e-12) {
			t.Errorf("scores %v shared, %v whole: error %.2g", shared, whole, e)
		}
		for name, g := range wholeGrads {
			if e := relative(sharedGrads[name], g); !(e < 1e-11) {
				t.Errorf("gradient of %s: error %.2g", name, e)
			}
		}
	}
}

// What a backend computes for a row depends on no other row that it does not see.
func TestScoresDoNotDependOnTheBatchToTheBit(t *testing.T) {
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
		for _, b := range backends(t, dt) {
			m := newSeeded(t, b, full, Options{DType: dt, MaxRows: 128, MaxAnswers: 8})
			all := groups(full)
			want := forward(t, m, data.Pack(all, true))
			if got := forward(t, m, data.Pack(all, true)); !slices.Equal(got, want) {
				t.Errorf("%s: again: %v, first %v", b.Name(), got, want)
			}
			if got := forward(t, m, data.Pack(all, false)); !slices.Equal(got, want) {
				t.Errorf("%s: without sharing: %v, with %v", b.Name(), got, want)
			}
			var alone []float64
			for _, g := range all {
				for _, a := range g.Answers {
					alone = append(alone, forward(t, m, data.Pack([]data.Group{{Answers: []data.Answer{a}}}, true))...)
				}
			}
			if !slices.Equal(alone, want) {
				t.Errorf("%s: alone: %v, together %v", b.Name(), alone, want)
			}
		}
	}
}

// The last layer computes scored rows only, wherever they are.
func TestScoresAreReadAtAnyRows(t *testing.T) {
	conversation := []int32{1, 9, 4, 7, 7, 2, 8}
	for _, b := range backends(t, kernels.F64) {
		for _, recompute := range []bool{false, true} {
			m := newSeeded(t, b, full, Options{DType: kernels.F64, Train: true, Recompute: recompute})
			at := []int32{6, 2, 0}
			batch := data.Pack([]data.Group{{Answers: []data.Answer{{Tokens: conversation}}}}, true)
			batch.Scored = at
			scores, grads := gradients(t, b, m, batch)
			_, dscore := objective(scores)
			sum := map[string][]float64{}
			for i, r := range at {
				m.ZeroGrad()
				one := data.Pack([]data.Group{{Answers: []data.Answer{{Tokens: conversation[:r+1]}}}}, true)
				if got := forward(t, m, one); math.Abs(got[0]-scores[i]) > 1e-12 {
					t.Errorf("score at row %d: %v, %v alone", r, scores[i], got[0])
				}
				if err := m.Backward(dscore[i : i+1]); err != nil {
					t.Fatal(err)
				}
				for _, p := range m.Params() {
					add(sum, p.Name, download(b, p.Grad))
				}
			}
			for name, g := range sum {
				if e := relative(grads[name], g); !(e < 1e-11) {
					t.Errorf("gradient of %s: error %.2g", name, e)
				}
			}
		}
	}
}

func add(sum map[string][]float64, name string, v []float64) {
	if sum[name] == nil {
		sum[name] = make([]float64, len(v))
	}
	for i := range v {
		sum[name][i] += v[i]
	}
}

func TestRecomputeGivesTheSameBits(t *testing.T) {
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
		for _, b := range backends(t, dt) {
			o := Options{DType: dt, MaxRows: 64, MaxAnswers: 8, Train: true}
			_, kept := gradients(t, b, newSeeded(t, b, full, o), data.Pack(groups(full), true))
			o.Recompute = true
			m := newSeeded(t, b, full, o)
			for range 2 { // also when the room has been used before
				_, again := gradients(t, b, m, data.Pack(groups(full), true))
				for name, g := range kept {
					if !slices.Equal(again[name], g) {
						t.Errorf("%s: gradient of %s differs", b.Name(), name)
					}
				}
			}
		}
	}
}

func TestBackwardAccumulates(t *testing.T) {
	b := reference.New(kernels.F64)
	m := newSeeded(t, b, full, Options{DType: kernels.F64, MaxRows: 64, MaxAnswers: 8, Train: true})
	batch := data.Pack(groups(full), true)
	scores, once := gradients(t, b, m, batch)
	_, d := objective(scores)
	if err := m.Backward(d); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		twice := download(b, p.Grad)
		for i := range twice {
			twice[i] /= 2
		}
		if e := relative(twice, once[p.Name]); !(e < 1e-14) {
			t.Errorf("gradient of %s: error %.2g", p.Name, e)
		}
	}
}

func TestPadTokenHasNoGradient(t *testing.T) {
	b := reference.New(kernels.F64)
	row := func(pad int32) []float64 {
		c := full
		c.PadTokenID = pad
		m := newSeeded(t, b, c, Options{DType: kernels.F64, MaxRows: 64, MaxAnswers: 8, Train: true})
		_, grads := gradients(t, b, m, data.Pack(groups(c), true))
		return grads["model.embed_tokens.weight"][3*c.Hidden : 4*c.Hidden]
	}
	zero := make([]float64, full.Hidden)
	if got := row(3); !slices.Equal(got, zero) {
		t.Errorf("gradient of the pad token: %v", got)
	}
	if got := row(-1); slices.Equal(got, zero) {
		t.Error("token 3 has no gradient although there is no pad token")
	}
}

func TestFrozenParametersHaveNoGradientsAndOthersTheirOwn(t *testing.T) {
	every := []string{"norm", "proj", "embed", "score"}
	for name, frozen := range map[string][]string{
		"embedding":               {"embed_tokens"},
		"embedding and two lower": {"embed_tokens", "layers.0.", "layers.1."},
		"middle layer":            {"layers.1."},
		"all but the head":        {"embed_tokens", "layers.", "model.norm"},
		"all but the last norm":   {"embed_tokens", "layers.", "score"},
		"norms":                   {"norm"},
		"biases":                  {"bias"},
		"some of a stack":         {"k_proj", "up_proj"},
		"head":                    {"score.weight"},
		"everything":              every,
	} {
		t.Run(name, func(t *testing.T) {
			for _, recompute := range []bool{false, true} {
				b := reference.New(kernels.F32)
				o := Options{DType: kernels.F32, MaxRows: 64, MaxAnswers: 8, Train: true}
				_, want := gradients(t, b, newSeeded(t, b, full, o), data.Pack(groups(full), true))
				o.Recompute = recompute
				o.Frozen = func(p string) bool {
					return slices.ContainsFunc(frozen, func(f string) bool { return strings.Contains(p, f) })
				}
				_, got := gradients(t, b, newSeeded(t, b, full, o), data.Pack(groups(full), true))
				for _, p := range Table(full) {
					g, ok := got[p.Name]
					if ok == o.Frozen(p.Name) {
						t.Errorf("%s: frozen %v, has a gradient %v", p.Name, o.Frozen(p.Name), ok)
					}
					if ok && !slices.Equal(g, want[p.Name]) {
						t.Errorf("%s: another gradient than without freezing", p.Name)
					}
				}
			}
		})
	}
}

func TestFrozenLayersTakeNoMemory(t *testing.T) {
	o := Options{DType: kernels.F32, MaxRows: 64, MaxAnswers: 8, Train: true}
	all := Plan(full, o)
	o.Frozen = func(p string) bool { return p != "score.weight" }
	head := Plan(full, o)
	if head["gradients"] != int64(4*full.Hidden) {
		t.Errorf("%d bytes of gradients for a head of %d", head["gradients"], full.Hidden)
	}
	o.Train = false
	scoring := Plan(full, o)
	if !(scoring["activations"] < head["activations"] && head["activations"] < all["activations"]) {
		t.Errorf("activations: %d scoring, %d head only, %d everything", scoring["activations"], head["activations"], all["activations"])
	}
}

func TestFloat32TracksFloat64(t *testing.T) {
	b64 := reference.New(kernels.F64)
	exact, exactGrads := gradients(t, b64, newSeeded(t, b64, full, Options{DType: kernels.F64, MaxRows: 64, MaxAnswers: 8, Train: true}),
		data.Pack(groups(full), true))
	for _, b := range backends(t, kernels.F32) {
		m := newSeeded(t, b, full, Options{DType: kernels.F32, MaxRows: 64, MaxAnswers: 8, Train: true})
		scores, grads := gradients(t, b, m, data.Pack(groups(full), true))
		if e := worst(scores, exact); !(e <= tolScore) {
			t.Errorf("%s: scores: error %.2g", b.Name(), e)
		}
		for name, g := range exactGrads {
			if e := relative(grads[name], g); !(e <= tolGradient) {
				t.Errorf("%s: gradient of %s: error %.2g", b.Name(), name, e)
			}
		}
	}
}

func TestKeptWeightsGiveTheSameBits(t *testing.T) {
	for _, b := range backends(t, kernels.F32) {
		o := Options{DType: kernels.F32, MaxRows: 128, MaxAnswers: 8}
		batch := data.Pack(groups(full), true)
		want := forward(t, newSeeded(t, b, full, o), batch)
		o.Keeper, _ = b.(kernels.Keeper)
		m := newSeeded(t, b, full, o)
		if o.Keeper != nil && b.Used()[kernels.KeptTag] == 0 {
			t.Errorf("%s keeps nothing", b.Name())
		}
		for range 2 {
			if got := forward(t, m, batch); !slices.Equal(got, want) {
				t.Errorf("%s: %v with kept weights, %v without", b.Name(), got, want)
			}
		}
		perturb(b, m)
		if got := forward(t, m, batch); slices.Equal(got, want) {
			t.Errorf("%s: weights have changed, scores have not", b.Name())
		}
	}
}

func TestTrainingKeepsTheWeightsThatItsPassesRead(t *testing.T) {
	for _, b := range backends(t, kernels.F32) {
		keeper, ok := b.(kernels.Keeper)
		if !ok {
			continue
		}
		kept := func(train bool, trained ...string) int64 {
			return Plan(full, Options{DType: kernels.F32, Train: train, Keeper: keeper, Frozen: func(p string) bool {
				return !slices.ContainsFunc(trained, func(s string) bool { return strings.Contains(p, s) })
			}})[kernels.KeptTag]
		}
		forward := kept(false)
		backward := kept(true, "") - forward
		if forward <= 0 || backward <= 0 {
			t.Fatalf("%s: %d bytes are kept for forward passes, %d for backward passes", b.Name(), forward, backward)
		}
		for trained, reached := range map[string]int64{"embed": 3, "layers.1.mlp": 2, "layers.2.input_layernorm": 1, "score": 0} {
			if got, want := kept(true, trained, "model.norm"), forward+backward/int64(full.Layers)*reached; got != want {
				t.Errorf("%s: %s is trained: %d bytes are kept, want %d", b.Name(), trained, got, want)
			}
		}
	}
}

// perturb doubles the matrices of the first layer.
func perturb(b kernels.Backend, m *Model) {
	for _, w := range m.matrices(0) {
		b.Add(w, w, w)
	}
}

func TestRoomGrowsWithTheBatch(t *testing.T) {
	for _, b := range backends(t, kernels.F32) {
		roomy := newSeeded(t, b, full, Options{DType: kernels.F32, MaxRows: 256, MaxAnswers: 16, Train: true})
		tight := newSeeded(t, b, full, Options{DType: kernels.F32, MaxRows: 3, MaxAnswers: 1, Train: true})
		unplanned := newSeeded(t, b, full, Options{DType: kernels.F32, Train: true})
		small := data.Pack(groups(full)[1:], true)
		for _, batch := range []*data.Batch{small, data.Pack(groups(full), false), small} {
			scores, grads := gradients(t, b, roomy, batch)
			for _, m := range []*Model{tight, unplanned} {
				s, g := gradients(t, b, m, batch)
				if !slices.Equal(s, scores) || !maps.EqualFunc(g, grads, slices.Equal) {
					t.Errorf("%s: another result than with enough room from the start", b.Name())
				}
			}
		}
	}
}

func TestPlanIsWhatNewAllocates(t *testing.T) {
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
		for _, b := range backends(t, dt) {
			for _, c := range []Config{full, plain} {
				for _, o := range []Options{
					{}, {MaxRows: 50, MaxAnswers: 5}, {Train: true, MaxRows: 100, MaxAnswers: 3},
					{Train: true, Recompute: true, MaxRows: 31, MaxAnswers: 7},
					{Train: true, MaxRows: 9, MaxAnswers: 7, Frozen: func(p string) bool { return !strings.Contains(p, "layers.1") }},
				} {
					o.DType = dt
					o.Keeper, _ = b.(kernels.Keeper)
					before := b.Used()
					m, err := New(b, c, o)
					if err != nil {
						t.Fatal(err)
					}
					got := map[string]int64{}
					for tag, n := range b.Used() {
						if n != before[tag] {
							got[tag] = n - before[tag]
						}
					}
					if want := Plan(c, o); !maps.Equal(got, want) {
						t.Errorf("%s: %+v: allocated %v, planned %v", b.Name(), o, got, want)
					}
					m.Close()
					m.Close()
					for tag, n := range b.Used() {
						if n != before[tag] {
							t.Errorf("%s: Close leaves %d bytes of %s", b.Name(), n-before[tag], tag)
						}
					}
				}
			}
		}
	}
}

// scarce is a backend that has memory for a number of tensors.
type scarce struct {
	kernels.Backend
	left int
}

var errNoMemory = errors.New("out of memory")

func (s *scarce) Alloc(tag string, dt kernels.DType, shape ...int) (kernels.Tensor, error) {
	if s.left--; s.left < 0 {
		return kernels.Tensor{}, errNoMemory
	}
	return s.Backend.Alloc(tag, dt, shape...)
}

func TestLackOfMemoryIsAnErrorAndLeavesNothing(t *testing.T) {
	o := Options{DType: kernels.F32, MaxRows: 8, MaxAnswers: 2, Train: true}
	for n := 0; ; n += 5 {
		b := &scarce{reference.New(kernels.F32), n}
		m, err := New(b, full, o)
		if err == nil {
			m.Close()
			break
		}
		if !errors.Is(err, errNoMemory) {
			t.Fatalf("after %d tensors: %v", n, err)
		}
		for tag, used := range b.Used() {
			if used != 0 {
				t.Fatalf("after %d tensors %d bytes of %s are left", n, used, tag)
			}
		}
	}
}

func TestAModelSurvivesABatchThatDoesNotFit(t *testing.T) {
	b := &scarce{reference.New(kernels.F32), math.MaxInt}
	m := newSeeded(t, b, full, Options{DType: kernels.F32, MaxRows: 64, MaxAnswers: 8, Train: true})
	small := data.Pack(groups(full)[:1], true)
	want := forward(t, m, small)
	b.left = 10
	if _, err := m.Forward(data.Pack(groups(full), false)); !errors.Is(err, errNoMemory) {
		t.Fatalf("error %v", err)
	}
	if err := m.Backward(make([]float64, 7)); err == nil {
		t.Error("backward of a failed forward")
	}
	b.left = math.MaxInt
	if got := forward(t, m, small); !slices.Equal(got, want) {
		t.Errorf("scores %v, before %v", got, want)
	}
}

func TestWrongUseIsAnError(t *testing.T) {
	b := reference.New(kernels.F32)
	m := newSeeded(t, b, plain, Options{DType: kernels.F32, MaxRows: 64, MaxAnswers: 8, Train: true})
	good := data.Pack(groups(plain), true)
	for name, damage := range map[string]func(*data.Batch){
		"token -1 is not":    func(x *data.Batch) { x.Tokens[4] = -1 },
		"token 23 is not":    func(x *data.Batch) { x.Tokens[4] = 23 },
		"position -2":        func(x *data.Batch) { x.Positions[1] = -2 },
		"position 16777216":  func(x *data.Batch) { x.Positions[1] = 1 << 24 },
		"positions for":      func(x *data.Batch) { x.Positions = x.Positions[1:] },
		"segment 1":          func(x *data.Batch) { x.Segments[1].PrefixHi = 1000 },
		"segments cover":     func(x *data.Batch) { x.Segments = x.Segments[1:] },
		"both read at row":   func(x *data.Batch) { x.Scored[1] = x.Scored[0] },
		"score 2 is read at": func(x *data.Batch) { x.Scored[2] = 1000 },
	} {
		bad := *good
		bad.Tokens, bad.Positions = slices.Clone(good.Tokens), slices.Clone(good.Positions)
		bad.Segments, bad.Scored = slices.Clone(good.Segments), slices.Clone(good.Scored)
		damage(&bad)
		if _, err := m.Forward(&bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := m.Backward(nil); err == nil {
		t.Error("backward without a forward")
	}
	forward(t, m, good)
	if err := m.Backward([]float64{1}); err == nil {
		t.Error("backward of one score of seven")
	}
	if s, err := m.Forward(&data.Batch{}); err != nil || len(s) != 0 {
		t.Errorf("an empty batch: %v, %v", s, err)
	}
	if err := m.Backward(nil); err != nil {
		t.Errorf("backward of an empty batch: %v", err)
	}
	scorer := newSeeded(t, b, plain, Options{DType: kernels.F32, MaxRows: 64, MaxAnswers: 8})
	forward(t, scorer, good)
	if err := scorer.Backward(make([]float64, 7)); err == nil {
		t.Error("backward of a model that only scores")
	}
	if _, err := New(b, plain, Options{DType: kernels.I32}); err == nil {
		t.Error("a model of integers")
	}
	if _, err := New(b, Config{}, Options{}); err == nil {
		t.Error("a model without sizes")
	}
	broken := errors.New("broken file")
	err := m.Load(func(string, kernels.DType, []int, []byte) error { return broken })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "model.embed_tokens.weight") {
		t.Errorf("load: %v", err)
	}
}

func TestParametersAreThoseOfTheConfiguration(t *testing.T) {
	var names []string
	total := 0
	for _, p := range Table(full) {
		n := 1
		for _, s := range p.Shape {
			n *= s
		}
		total += n
		if strings.Contains(p.Name, "layers.1.") || !strings.Contains(p.Name, "layers.") {
			names = append(names, p.Name)
		}
		if matrix := len(p.Shape) == 2; p.Decay != matrix {
			t.Errorf("%s of shape %v: decay %v", p.Name, p.Shape, p.Decay)
		}
	}
	const layer = "model.layers.1."
	want := []string{"model.embed_tokens.weight", layer + "input_layernorm.weight",
		layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight", layer + "self_attn.v_proj.weight",
		layer + "self_attn.q_proj.bias", layer + "self_attn.k_proj.bias", layer + "self_attn.v_proj.bias",
		layer + "self_attn.o_proj.weight", layer + "self_attn.o_proj.bias", layer + "post_attention_layernorm.weight",
		layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight", layer + "mlp.gate_proj.bias", layer + "mlp.up_proj.bias",
		layer + "mlp.down_proj.weight", layer + "mlp.down_proj.bias", "model.norm.weight", "score.weight"}
	if !slices.Equal(names, want) {
		t.Errorf("parameters %q", names)
	}
	if planned := Plan(full, Options{DType: kernels.F32})["weights"]; planned != int64(4*total) {
		t.Errorf("%d elements of shapes, %d bytes of weights", total, planned)
	}
}

func TestFLOPsCountProductsAndTheKeysThatRowsSee(t *testing.T) {
	c := full // window 5
	m := newSeeded(t, reference.New(kernels.F32), c, Options{DType: kernels.F32})
	batch := data.Pack([]data.Group{{Answers: []data.Answer{{Tokens: []int32{1, 2, 3, 4, 5, 6}}, {Tokens: []int32{1, 2, 3, 4, 7}}}}}, true)
	// Rows see 1 2 3 4 | 5 5 | 5 keys.
	const rows, keys, answers = 7, 25, 2
	qkv, q := 48, 24
	perRow := 2 * (16*qkv + q*16 + 16*40 + 20*16)
	// Of the last of 3 layers two rows have queries; each sees 5 keys.
	last := rows*2*16*(qkv-q) + answers*(perRow-2*16*(qkv-q)) + 2*5*4*q
	want := float64(2*(rows*perRow+keys*4*q) + last + answers*2*16)
	if got := m.FLOPs(batch); got != want {
		t.Errorf("%v operations, want %v", got, want)
	}
}
