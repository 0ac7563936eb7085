package train

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/kernels/reference"
)

const vocab = 19

// A storage is how trained weights are kept.
type storage struct {
	dtype      kernels.DType
	stochastic bool // without a master
}

var storages = []storage{{kernels.F32, false}, {kernels.BF16, false}, {kernels.BF16, true}}

var tiny = llama.Config{
	Layers: 2, Hidden: 8, FFN: 12, Heads: 2, KVHeads: 1, HeadDim: 4, Vocab: vocab, MaxPositions: 32, Eps: 1e-5,
	PadTokenID: -1, InvFreq: []float32{1, 0.01},
}

// baseConfig is a short run: 10 groups, 3 to a step, 4 steps to an epoch.
func baseConfig(dir string) configs.Run {
	return configs.Run{
		Model: configs.Model{DType: "float32"},
		Loss:  configs.Loss{Type: "plackett_luce", Ties: "efron", Normalization: "pairs"},
		Train: configs.Train{
			OutputDir: dir, PromptsPerStep: 3, MaxTokensPerBatch: 60, NumTrainEpochs: 1.5, MaxSteps: -1,
			LearningRate: 1e-2, LRSchedulerType: "linear", WarmupSteps: 1, WeightDecay: 0.1,
			AdamBeta1: 0.9, AdamBeta2: 0.95, AdamEpsilon: 1e-8, MaxGradNorm: 1,
			LoggingSteps: 2, SaveTotalLimit: 2, MetricForBestModel: "eval_loss", ResumeFrom: "auto", SharePrefix: true,
		},
	}
}

// groups makes ranked answers to n prompts: an answer is the better the more often
// token 1 is in it, whatever its length. Some groups have ties.
func groups(n int, seed uint64) []data.Group {
	r := rand.New(rand.NewPCG(seed, 0))
	out := make([]data.Group, n)
	for i := range out {
		prompt := tokens(r, 3+r.IntN(4))
		for k := range 3 + r.IntN(2) {
			answer := tokens(r, 3+r.IntN(4))
			good := min(k, 2)
			for j := range good {
				answer[j] = 1
			}
			out[i].Answers = append(out[i].Answers, data.Answer{
				Tokens: append(append([]int32{}, prompt...), answer...), Rank: float64(3 - good),
			})
		}
	}
	return out
}

func tokens(r *rand.Rand, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(2 + r.IntN(vocab-2))
	}
	return out
}

func dataset(t testing.TB, gs []data.Group) *data.Dataset {
	t.Helper()
	path := filepath.Join(t.TempDir(), "groups.cache")
	w, err := data.Create(path, vocab)
	check(t, err)
	defer w.Close()
	for i, g := range gs {
		check(t, w.Add(g, "rows.jsonl", i+1))
	}
	check(t, w.Commit())
	d, err := data.OpenDataset(path)
	check(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A world is everything that the runs of a test share.
type world struct {
	t       testing.TB
	dtype   kernels.DType
	train   *data.Dataset
	eval    *data.Dataset
	frozen  func(string) bool
	log     bytes.Buffer
	backend func(kernels.Backend) kernels.Backend // wraps the backend, if not nil
	options func(*llama.Options)                  // changes those of the model, if not nil
}

func newWorld(t testing.TB, dtype kernels.DType) *world {
	return &world{t: t, dtype: dtype, train: dataset(t, groups(10, 1)), eval: dataset(t, groups(4, 2))}
}

// inputs puts a run together as a fresh process would.
func (w *world) inputs(c configs.Run) Inputs {
	w.t.Helper()
	b := reference.New(w.dtype)
	if w.backend != nil {
		b = w.backend(b)
	}
	o := llama.Options{DType: w.dtype, MaxRows: 16, MaxAnswers: 4, Train: true, Frozen: w.frozen}
	if w.options != nil {
		w.options(&o)
	}
	m, err := llama.New(b, tiny, o)
	check(w.t, err)
	w.t.Cleanup(m.Close)
	check(w.t, m.Load(seeded))
	return Inputs{
		Config: c, Backend: b, Model: m, Train: w.train, Eval: w.eval, Identity: map[string]string{"model": "tiny"},
		Export: exportTo(b), Log: &w.log,
	}
}

// run trains to the end and returns the final weights.
func (w *world) run(c configs.Run) (Summary, map[string][]byte) {
	w.t.Helper()
	in := w.inputs(c)
	s, err := Run(context.Background(), in)
	check(w.t, err)
	return s, weightsOf(w.t, in)
}

func weightsOf(t testing.TB, in Inputs) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	for _, p := range in.Model.Params() {
		raw := make([]byte, p.Weight.Bytes())
		in.Backend.Download(raw, p.Weight)
		out[p.Name] = raw
	}
	check(t, in.Backend.Sync())
	return out
}

// exportTo writes a final model as cmd/rmtrain does.
func exportTo(kernels.Backend) func(string, []checkpoints.Tensor, Summary) error {
	config, _ := json.Marshal(map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_size": tiny.Hidden,
		"num_hidden_layers": tiny.Layers, "num_attention_heads": tiny.Heads, "num_key_value_heads": tiny.KVHeads,
		"intermediate_size": tiny.FFN, "vocab_size": vocab, "rms_norm_eps": tiny.Eps,
	})
	return func(dir string, tensors []checkpoints.Tensor, s Summary) error {
		return checkpoints.Write(dir, checkpoints.Export{
			Dialect: "huggingface", Config: config, PadID: 0, DType: "float32", Tensors: tensors, Into: true, Overwrite: true,
			Meta: checkpoints.Meta{Step: s.Exported, Format: json.RawMessage("{}")},
		})
	}
}

// seeded gives every parameter its own random numbers, the same for every type.
func seeded(name string, dt kernels.DType, shape []int, dst []byte) error {
	h := uint64(7)
	for _, c := range name {
		h = h*31 + uint64(c)
	}
	r := rand.New(rand.NewPCG(h, 1))
	var raw []byte
	for range len(dst) / dt.Size() {
		x := r.NormFloat64() * 0.3
		if strings.Contains(name, "norm") {
			x++
		}
		raw = appendAs(raw, dt, float64(narrow(x))) // the same number in all types
	}
	if len(raw) != len(dst) {
		return fmt.Errorf("%s: %d bytes for %v", name, len(dst), shape)
	}
	copy(dst, raw)
	return nil
}

// narrow rounds to bfloat16.
func narrow(x float64) float32 {
	u := math.Float32bits(float32(x))
	return math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff)
}

func appendAs(to []byte, dt kernels.DType, x float64) []byte {
	switch dt {
	case kernels.F64:
		return binary.LittleEndian.AppendUint64(to, math.Float64bits(x))
	case kernels.BF16:
		return binary.LittleEndian.AppendUint16(to, uint16(math.Float32bits(narrow(x))>>16))
	}
	return binary.LittleEndian.AppendUint32(to, math.Float32bits(float32(x)))
}

// numbers decodes a tensor's bytes.
func numbers(raw []byte, dt kernels.DType) []float64 {
	var out []float64
	for i := 0; i < len(raw); i += dt.Size() {
		switch dt {
		case kernels.F64:
			out = append(out, math.Float64frombits(binary.LittleEndian.Uint64(raw[i:])))
		case kernels.BF16:
			out = append(out, float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[i:]))<<16)))
		default:
			out = append(out, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[i:]))))
		}
	}
	return out
}

// sameBits fails unless two models are equal to the bit.
func sameBits(t testing.TB, got, want map[string][]byte) {
	t.Helper()
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Fatalf("%s differs", name)
		}
	}
}

// distance returns the largest difference of two models' weights.
func distance(got, want map[string][]byte, dt kernels.DType) float64 {
	worst := 0.0
	for name := range want {
		a, b := numbers(got[name], dt), numbers(want[name], dt)
		for i := range b {
			worst = math.Max(worst, math.Abs(a[i]-b[i]))
		}
	}
	return worst
}

// metrics returns the lines of metrics.jsonl without what depends on the clock.
func metrics(t testing.TB, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, metricsFile))
	check(t, err)
	var out []string
	for line := range strings.Lines(string(text)) {
		var m map[string]any
		check(t, json.Unmarshal([]byte(line), &m))
		for k := range m {
			if strings.HasSuffix(k, "_per_second") || k == "model_flops_utilization" {
				delete(m, k)
			}
		}
		clean, err := json.Marshal(m)
		check(t, err)
		out = append(out, string(clean))
	}
	return out
}

// exported reads the final model in dir: the tensors of like, in type dt.
func exported(t testing.TB, dir string, dt kernels.DType, like map[string][]byte) map[string][]byte {
	t.Helper()
	model, err := checkpoints.Open(dir)
	check(t, err)
	defer model.Close()
	out := make(map[string][]byte)
	for name, raw := range like {
		out[name] = make([]byte, len(raw))
		check(t, model.Read(name, dt.String(), out[name]))
	}
	return out
}
