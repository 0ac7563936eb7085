package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/loss"
	"rmtrain/train"
)

// A benchSpec is one workload of docs/benchmarks, which another program may run
// too: weights and operands are functions of their names and positions alone.
type benchSpec struct {
	Kind   string          `json:"kind"` // train, score, gemm
	DType  string          `json:"dtype"`
	Config json.RawMessage `json:"config"` // config.json of train and score
	Groups [][][]int32     `json:"groups"` // conversations as ids, best first
	// Rows bounds those of one forward pass.
	Rows int `json:"rows"`
	// GEMM is a form (NT, NN, TN) and what x [M, K], w [N, K] and y [M, N] have; Times
	// is how often a repetition computes it.
	Form    string `json:"form"`
	M, K, N int
	Times   int `json:"times"`

	result map[string]any // of a repetition
}

// benchCommand is hidden: docs/benchmarks/run.py drives it.
func benchCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "bench FILE",
		Short:  "Repeat the workload of a JSON file once per line of standard input",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			spec := &benchSpec{}
			if err := json.Unmarshal(raw, spec); err != nil {
				return fmt.Errorf("bench: read %s: %w", args[0], err)
			}
			return spec.run(c.InOrStdin(), c.OutOrStdout())
		},
	}
}

// run writes a line of JSON for every line of in.
func (s *benchSpec) run(in io.Reader, out io.Writer) error {
	dt, err := parseDType(s.DType)
	if err != nil {
		return err
	}
	b, err := openBackend("cpu", dt)
	if err != nil {
		return err
	}
	defer b.Close()
	prepare, ok := map[string]func(kernels.Backend, kernels.DType) (func() error, error){
		"train": s.prepareModel, "score": s.prepareModel, "gemm": s.prepareGEMM,
	}[s.Kind]
	if !ok {
		return fmt.Errorf("bench: kind %q is none of train, score, gemm", s.Kind)
	}
	repeat, err := prepare(b, dt)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		s.result = map[string]any{"backend": b.Name()}
		start, before := time.Now(), usage()
		if err := repeat(); err != nil {
			return err
		}
		s.result["seconds"] = time.Since(start).Seconds()
		after := usage()
		s.result["cpu_seconds"] = after.seconds - before.seconds
		s.result["peak_bytes"] = after.peak
		if err := encoder.Encode(s.result); err != nil {
			return err
		}
	}
	return nil
}

type benchUsage struct {
	seconds float64 // of all cores
	peak    int64   // most resident bytes
}

func usage() benchUsage {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return benchUsage{}
	}
	return benchUsage{float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, u.Maxrss << 10}
}

// prepareModel returns a training step, or a scoring of all groups.
func (s *benchSpec) prepareModel(b kernels.Backend, dt kernels.DType) (func() error, error) {
	c, err := llama.ParseConfig(s.Config)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	var groups []data.Group
	var sizes []int
	for _, conversations := range s.Groups {
		g := data.Group{Source: "bench"}
		for i, ids := range conversations {
			g.Answers = append(g.Answers, data.Answer{Tokens: ids, Rank: float64(i)})
		}
		groups, sizes = append(groups, g), append(sizes, data.PackRows(g, true))
	}
	bins := data.Bins(sizes, s.Rows)
	o := llama.Options{DType: dt, Train: s.Kind == "train"}
	if !o.Train || len(bins) >= train.KeptPasses {
		o.Keeper, _ = b.(kernels.Keeper)
	}
	m, err := llama.New(b, c, o)
	if err != nil {
		return nil, err
	}
	if err := m.Load(benchWeights); err != nil {
		return nil, err
	}
	w := &benchWork{b: b, m: m, groups: groups, bins: bins}
	if s.Kind == "score" {
		return func() error { return w.pass(s.result, nil) }, nil
	}
	if err := w.prepareTraining(); err != nil {
		return nil, err
	}
	return func() error { return w.step(s.result) }, nil
}

// benchWeights fills a parameter: 1 in norms, elsewhere uniform with the standard
// deviation of Hugging Face's initialization, by a hash of name and position.
func benchWeights(name string, dt kernels.DType, _ []int, dst []byte) error {
	h := fnv.New32a()
	_, _ = h.Write([]byte(strings.TrimPrefix(name, "model.")))
	seed, norm, size := h.Sum32(), strings.Contains(name, "norm"), dt.Size()
	for i := range len(dst) / size {
		x := float32(1)
		if !norm {
			x = benchUniform(uint32(i)*2654435761+seed) * 0.07
		}
		putBench(dst[i*size:], dt, x)
	}
	return nil
}

// benchUniform maps x to (-0.5, 0.5).
func benchUniform(x uint32) float32 {
	x ^= x >> 16
	x *= 0x45d9f3b
	x ^= x >> 16
	return float32(float64(x)/(1<<32) - 0.5)
}

// putBench writes x, rounded to nearest even.
func putBench(dst []byte, dt kernels.DType, x float32) {
	u := math.Float32bits(x)
	switch dt {
	case kernels.BF16:
		u += 0x7fff + u>>16&1
		binary.LittleEndian.PutUint16(dst, uint16(u>>16))
	default:
		binary.LittleEndian.PutUint32(dst, u)
	}
}

// benchWork is a model, its groups and what a training step needs beside them.
type benchWork struct {
	b      kernels.Backend
	m      *llama.Model
	groups []data.Group
	bins   [][]int
	loss   loss.Loss
	params []kernels.AdamW
	norm   kernels.Tensor
}

func (w *benchWork) prepareTraining() (err error) {
	w.loss, err = loss.New(loss.Config{Type: "plackett_luce", Ties: "efron", Normalization: "pairs"})
	if err != nil {
		return err
	}
	alloc := func(dt kernels.DType, shape [3]int) (t kernels.Tensor) {
		if err == nil {
			t, err = w.b.Alloc("optimizer", dt, shape[:]...)
		}
		return t
	}
	for _, p := range w.m.Params() {
		a := kernels.AdamW{Param: p.Weight, Grad: p.Grad, Beta1: .9, Beta2: .95, Eps: 1e-8, LR: 1e-6}
		a.M, a.V = alloc(kernels.F32, p.Weight.Shape), alloc(kernels.F32, p.Weight.Shape)
		if p.Weight.DType == kernels.BF16 {
			a.Master = alloc(kernels.F32, p.Weight.Shape)
		}
		w.params = append(w.params, a)
	}
	w.norm = alloc(kernels.F64, [3]int{1, 1, 1})
	if err == nil {
		w.copyMasters()
	}
	return err
}

// copyMasters widens bfloat16 weights into their masters.
func (w *benchWork) copyMasters() {
	for _, a := range w.params {
		if a.Master.Buf == nil {
			continue
		}
		narrow, wide := make([]byte, a.Param.Bytes()), make([]byte, a.Master.Bytes())
		w.b.Download(narrow, a.Param)
		for i := range len(narrow) / 2 {
			binary.LittleEndian.PutUint32(wide[4*i:], uint32(binary.LittleEndian.Uint16(narrow[2*i:]))<<16)
		}
		w.b.Upload(a.Master, wide)
	}
}

// step is one optimizer step: all micro-batches, clipping, AdamW.
func (w *benchWork) step(result map[string]any) error {
	w.m.ZeroGrad()
	if err := w.pass(result, w.loss); err != nil {
		return err
	}
	w.b.Zero(w.norm)
	for _, a := range w.params {
		w.b.SumSq(w.norm, a.Grad)
	}
	var raw [8]byte
	w.b.Download(raw[:], w.norm)
	sum := math.Float64frombits(binary.LittleEndian.Uint64(raw[:]))
	result["grad_norm"] = math.Sqrt(sum)
	for i := range w.params {
		a := &w.params[i]
		a.Step++
		a.GradScale = math.Min(1, 1/(math.Sqrt(sum)+1e-6))
		w.b.AdamW(*a)
	}
	return w.b.Sync()
}

// pass scores all groups and, with a loss, runs them backward.
func (w *benchWork) pass(result map[string]any, l loss.Loss) error {
	total := 0.0
	scores := make([][]float64, len(w.groups))
	for _, bin := range w.bins {
		var groups []data.Group
		for _, i := range bin {
			groups = append(groups, w.groups[i])
		}
		all, err := w.m.Forward(data.Pack(groups, true))
		if err != nil {
			return err
		}
		var ranked []loss.Group
		var grads [][]float64
		dscore := make([]float64, len(all))
		at := 0
		for j, g := range groups {
			end := at + len(g.Answers)
			scores[bin[j]] = all[at:end]
			ranked = append(ranked, loss.Group{Scores: all[at:end], Ranks: ranksOf(g)})
			grads = append(grads, dscore[at:end])
			at = end
		}
		if l == nil {
			continue
		}
		losses, err := l.Eval(ranked, grads)
		if err != nil {
			return err
		}
		for _, x := range losses {
			total += x / float64(len(w.groups))
		}
		for i := range dscore {
			dscore[i] /= float64(len(w.groups))
		}
		if err := w.m.Backward(dscore); err != nil {
			return err
		}
	}
	result["scores"], result["loss"] = scores[0], total
	return nil
}

func ranksOf(g data.Group) []float64 {
	ranks := make([]float64, len(g.Answers))
	for i, a := range g.Answers {
		ranks[i] = a.Rank
	}
	return ranks
}

// prepareGEMM returns Times products of one form.
func (s *benchSpec) prepareGEMM(b kernels.Backend, dt kernels.DType) (func() error, error) {
	filled := func(dt kernels.DType, rows, cols int, seed uint32) (kernels.Tensor, error) {
		t, err := b.Alloc("operands", dt, rows, cols)
		if err != nil {
			return t, err
		}
		raw := make([]byte, t.Bytes())
		for i := range t.Len() {
			putBench(raw[i*dt.Size():], dt, benchUniform(uint32(i)*2654435761+seed))
		}
		b.Upload(t, raw)
		return t, nil
	}
	var t [4]kernels.Tensor
	for i, o := range []struct {
		dt         kernels.DType
		rows, cols int
	}{{dt, s.M, s.K}, {dt, s.N, s.K}, {dt, s.M, s.N}, {kernels.F32, s.N, s.K}} {
		var err error
		if t[i], err = filled(o.dt, o.rows, o.cols, uint32(i+1)); err != nil {
			return nil, err
		}
	}
	x, w, y, dw := t[0], t[1], t[2], t[3]
	product, ok := map[string]func(){
		"NT": func() { b.MatMul(y, x, w, kernels.NT, false) },
		"NN": func() { b.MatMul(x, y, w, kernels.NN, false) },
		"TN": func() { b.MatMul(dw, y, x, kernels.TN, false) },
	}[s.Form]
	if !ok {
		return nil, fmt.Errorf("bench: form %q is none of NT, NN, TN", s.Form)
	}
	return func() error {
		for range max(1, s.Times) {
			product()
		}
		return b.Sync()
	}, nil
}
