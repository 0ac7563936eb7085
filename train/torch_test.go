package train

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"testing"

	"rmtrain/checkpoints"
	"rmtrain/checkpoints/safetensors"
	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/kernels/reference"
)

// A run of three steps over both groups of a golden file ends with the weights that
// PyTorch's AdamW and clip_grad_norm_ ended with.
func TestARunIsPyTorchs(t *testing.T) {
	t.Parallel()
	file, err := os.Open("../kernels/llama/testdata/llama_gqa.safetensors")
	check(t, err)
	defer file.Close()
	info, err := file.Stat()
	check(t, err)
	golden, err := safetensors.Open(file.Name(), file, info.Size())
	check(t, err)
	read := func(name string) []byte {
		section, err := golden.Section(name)
		check(t, err)
		raw, err := io.ReadAll(section)
		check(t, err)
		return raw
	}
	var o struct {
		LR          float64 `json:"lr"`
		Beta1       float64 `json:"beta1"`
		Beta2       float64 `json:"beta2"`
		Eps         float64 `json:"eps"`
		WeightDecay float64 `json:"weight_decay"`
		MaxGradNorm float64 `json:"max_grad_norm"`
		Steps       int     `json:"steps"`
	}
	check(t, json.Unmarshal([]byte(golden.Meta["adamw"]), &o))
	var norms []float64
	check(t, json.Unmarshal([]byte(golden.Meta["grad_norms"]), &norms))
	config, err := llama.ParseConfig([]byte(golden.Meta["config"]))
	check(t, err)

	b := reference.New(kernels.F32)
	m, err := llama.New(b, config, llama.Options{DType: kernels.F32, MaxRows: 64, MaxAnswers: 8, Train: true})
	check(t, err)
	defer m.Close()
	check(t, m.Load(func(name string, _ kernels.DType, _ []int, dst []byte) error {
		copy(dst, read("param."+name))
		return nil
	}))
	c := baseConfig(t.TempDir())
	c.Train.PromptsPerStep, c.Train.MaxSteps, c.Train.LoggingSteps = 2, o.Steps, 1
	c.Train.LRSchedulerType, c.Train.WarmupSteps, c.Train.LearningRate = "constant", 0, o.LR
	c.Train.AdamBeta1, c.Train.AdamBeta2, c.Train.AdamEpsilon = o.Beta1, o.Beta2, o.Eps
	c.Train.WeightDecay, c.Train.MaxGradNorm = o.WeightDecay, o.MaxGradNorm
	_, err = Run(context.Background(), Inputs{
		Config: c, Backend: b, Model: m, Train: dataset(t, goldenGroups(golden, read)),
		Export: func(string, []checkpoints.Tensor, Summary) error { return nil },
	})
	check(t, err)
	for _, p := range m.Params() {
		raw := make([]byte, p.Weight.Bytes())
		b.Download(raw, p.Weight)
		want := numbers(read("step3."+p.Name), kernels.F32)
		for i, got := range numbers(raw, kernels.F32) {
			if d := math.Abs(got - want[i]); d > 2e-5 {
				t.Fatalf("%s differs by %g", p.Name, d)
			}
		}
	}
	for i, line := range metrics(t, c.Train.OutputDir) {
		var got metricsLine
		check(t, json.Unmarshal([]byte(line), &got))
		if math.Abs(got.GradNorm/norms[i]-1) > 1e-4 {
			t.Errorf("step %d: gradient norm %g, want %g", i+1, got.GradNorm, norms[i])
		}
	}
}

// goldenGroups returns the conversations of the golden, the best of a group first.
func goldenGroups(golden *safetensors.File, read func(string) []byte) []data.Group {
	var out []data.Group
	for g := 0; ; g++ {
		var group data.Group
		for a := 0; ; a++ {
			name := fmt.Sprintf("tokens.%d.%d", g, a)
			if _, err := golden.Section(name); err != nil {
				break
			}
			answer := data.Answer{Rank: float64(a)}
			raw := read(name)
			for i := 0; i < len(raw); i += 4 {
				answer.Tokens = append(answer.Tokens, int32(raw[i]))
			}
			group.Answers = append(group.Answers, answer)
		}
		if group.Answers == nil {
			return out
		}
		out = append(out, group)
	}
}
