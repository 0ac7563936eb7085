package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/train"
)

// tinySteps are those of a run; a state is saved in the middle.
const tinySteps = 20

// A tinySize is a model and the lengths of what it reads.
type tinySize struct {
	config          llama.Config
	prompts         int // groups
	prompt, answers int // tokens, at most
}

func (d *doctor) tinySize() tinySize {
	c := llama.Config{Layers: 2, Hidden: 32, FFN: 64, Heads: 4, KVHeads: 2, HeadDim: 8, Vocab: 64, MaxPositions: 64, Eps: 1e-5, PadTokenID: -1}
	s := tinySize{prompts: 3, prompt: 6, answers: 5}
	if !d.quick {
		c.Hidden, c.FFN, c.HeadDim = 64, 128, 16
		s = tinySize{prompts: 4, prompt: 24, answers: 20}
	}
	for i := range c.HeadDim / 2 {
		c.InvFreq = append(c.InvFreq, float32(math.Pow(1e4, -2*float64(i)/float64(c.HeadDim))))
	}
	s.config = c
	return s
}

// groups makes ranked answers: the better, the more often token 1 is in one.
func (s tinySize) groups() []data.Group {
	r := rand.New(rand.NewPCG(20, 5))
	tokens := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(2 + r.IntN(s.config.Vocab-2))
		}
		return out
	}
	out := make([]data.Group, s.prompts)
	for i := range out {
		prompt := tokens(1 + r.IntN(s.prompt))
		for k := range 3 {
			answer := tokens(3 + r.IntN(s.answers-2))
			for j := range k {
				answer[j] = 1
			}
			out[i].Answers = append(out[i].Answers, data.Answer{Tokens: append(append([]int32{}, prompt...), answer...), Rank: float64(3 - k)})
		}
	}
	return out
}

// tinyWeights gives every backend the numbers that type dt holds.
func tinyWeights(dt kernels.DType) func(string, kernels.DType, []int, []byte) error {
	return func(name string, to kernels.DType, shape []int, dst []byte) error {
		if to == dt {
			return benchWeights(name, dt, shape, dst)
		}
		narrow := make([]byte, len(dst)/to.Size()*dt.Size())
		if err := benchWeights(name, dt, shape, narrow); err != nil {
			return err
		}
		for i, x := range decoded(dt, narrow) {
			binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(x))
		}
		return nil
	}
}

// decoded returns the elements of a tensor.
func decoded(dt kernels.DType, mem []byte) []float64 {
	out := make([]float64, len(mem)/dt.Size())
	for i := range out {
		switch dt {
		case kernels.F64:
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(mem[8*i:]))
		case kernels.BF16:
			out[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(mem[2*i:])) << 16))
		default:
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(mem[4*i:])))
		}
	}
	return out
}

// A tinyRun is what a training run left.
type tinyRun struct {
	dir            string
	losses         []float64
	start, weights []float64
}

// trained returns the run of that name, which it makes once.
func (d *doctor) trained(ctx context.Context, name string, b kernels.Backend, dt kernels.DType, change func(*configs.Run)) (*tinyRun, error) {
	key := name + "-" + dtypeName(dt)
	if r := d.tiny[key]; r != nil {
		return r, nil
	}
	r, err := d.train(ctx, filepath.Join(d.temp, key), b, dt, change)
	if err == nil {
		d.tiny[key] = r
	}
	return r, err
}

func (d *doctor) train(ctx context.Context, dir string, b kernels.Backend, dt kernels.DType, change func(*configs.Run)) (*tinyRun, error) {
	size := d.tinySize()
	set, err := writeGroups(dir+".cache", size)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	computeType := dt
	if b.Name() == "reference(F64)" {
		computeType = kernels.F64
	}
	m, err := llama.New(b, size.config, llama.Options{DType: computeType, Train: true})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := m.Load(tinyWeights(dt)); err != nil {
		return nil, err
	}
	r := &tinyRun{dir: dir, start: parametersOf(b, m)}
	c := tinyConfig(dir, dt)
	if change != nil {
		change(&c)
	}
	_, err = train.Run(ctx, train.Inputs{Config: c, Backend: b, Model: m, Train: set, Identity: map[string]string{"model": "random"},
		Export: func(string, []checkpoints.Tensor, train.Summary) error { return nil }})
	if err != nil {
		return nil, err
	}
	r.weights = parametersOf(b, m)
	r.losses, err = lossesOf(dir)
	return r, err
}

// tinyConfig has an epsilon of about the size of gradients, or AdamW would turn the
// rounding of gradients near zero into steps of full size.
func tinyConfig(dir string, dt kernels.DType) configs.Run {
	return configs.Run{
		Model: configs.Model{DType: dtypeName(dt)},
		Loss:  configs.Loss{Type: "plackett_luce", Ties: "efron", Normalization: "pairs"},
		Train: configs.Train{
			OutputDir: dir, PromptsPerStep: 2, MaxTokensPerBatch: 4096, MaxSteps: tinySteps, NumTrainEpochs: 1,
			LearningRate: 1e-3, LRSchedulerType: "constant", WeightDecay: 0.1, AdamBeta1: 0.9, AdamBeta2: 0.95, AdamEpsilon: 1e-2,
			MaxGradNorm: 1, LoggingSteps: 1, SaveSteps: tinySteps / 2, SaveTotalLimit: 3, MetricForBestModel: "eval_loss", ResumeFrom: "auto", SharePrefix: true,
		},
	}
}

func writeGroups(path string, size tinySize) (*data.Dataset, error) {
	w, err := data.Create(path, size.config.Vocab)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	for i, g := range size.groups() {
		if err := w.Add(g, "doctor", i); err != nil {
			return nil, err
		}
	}
	if err := w.Commit(); err != nil {
		return nil, err
	}
	return data.OpenDataset(path)
}

// parametersOf returns all weights.
func parametersOf(b kernels.Backend, m *llama.Model) (all []float64) {
	for _, p := range m.Params() {
		mem := make([]byte, p.Weight.Bytes())
		b.Download(mem, p.Weight)
		all = append(all, decoded(p.Weight.DType, mem)...)
	}
	return all
}

// lossesOf reads the loss of every step from a run's log.
func lossesOf(dir string) (losses []float64, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var l struct{ Loss *float64 }
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("metrics.jsonl: %w", err)
		}
		if l.Loss == nil {
			return nil, fmt.Errorf("the loss of step %d is no finite number", len(losses)+1)
		}
		losses = append(losses, *l.Loss)
	}
	return losses, nil
}
