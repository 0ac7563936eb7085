package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"path/filepath"
	"testing"
)

// What must not change a single bit of the trained model.
func TestTrainingHasTheSameBits(t *testing.T) {
	t.Parallel()
	want := trained(t)
	for name, groups := range map[string]int{"data.json": smallTrain, "eval_data.json": smallTest} {
		var report struct{ Groups int }
		if err := json.Unmarshal(read(t, want, name), &report); err != nil || report.Groups != groups {
			t.Errorf("%s: %d groups, %v", name, report.Groups, err)
		}
	}
	data := "data.train=" + filepath.Join(small(t), "train.jsonl")
	for name, c := range map[string]struct {
		variables []string
		settings  []string
	}{
		"again":               {},
		"recompute always":    {settings: []string{"train.recompute=always"}},
		"recompute never":     {settings: []string{"train.recompute=never"}},
		"one thread":          {variables: []string{"GOMAXPROCS=1"}},
		"four threads":        {variables: []string{"GOMAXPROCS=4"}},
		"JSON lines":          {settings: []string{data}},
		"states":              {settings: []string{"train.save_steps=1", "train.eval_steps=2"}},
		"starling tensors":    {settings: []string{"train.export_dialect=starling"}},
		"environment instead": {variables: []string{"RMTRAIN_TRAIN_RECOMPUTE=always"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			if r := runWith(t, c.variables, training(t, out, c.settings...)...); r.status != 0 {
				t.Fatalf("status %d\n%s", r.status, r.stderr)
			}
			got, whole := weights(t, out), weights(t, want)
			if name == "starling tensors" { // other names: only the numbers can be compared
				got, whole = numbers(t, got), numbers(t, whole)
			}
			if !bytes.Equal(got, whole) {
				t.Error("weights differ")
			}
			if name != "states" && metrics(t, out) != metrics(t, want) {
				t.Errorf("metrics\n%s\nwant\n%s", metrics(t, out), metrics(t, want))
			}
		})
	}
}

// What changes only the order of sums.
func TestTrainingAgreesWithinRounding(t *testing.T) {
	t.Parallel()
	want := floats(t, weights(t, trained(t)))
	for name, setting := range map[string]string{
		"smaller micro-batches": "train.max_tokens_per_batch=256",
		"one micro-batch":       "train.max_tokens_per_batch=100000",
		"prompts not shared":    "train.share_prefix=false",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := floats(t, weights(t, trained(t, setting)))
			if d := distance(got, want); d == 0 || d > 2e-3 {
				t.Errorf("relative distance of the weights' changes %g, want rounding, which is neither 0 nor above 2e-3", d)
			}
		})
	}
}

// numbers is a safetensors file without its header.
func numbers(t *testing.T, file []byte) []byte {
	t.Helper()
	if len(file) < 8 {
		t.Fatal("not a safetensors file")
	}
	return file[8+binary.LittleEndian.Uint64(file):]
}

// floats returns all numbers of a safetensors file of float32.
func floats(t *testing.T, file []byte) []float64 {
	t.Helper()
	b := numbers(t, file)
	out := make([]float64, len(b)/4)
	for i := range out {
		out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
	}
	return out
}

// distance is |a-b|/|b|.
func distance(a, b []float64) float64 {
	var diff, norm float64
	for i := range b {
		diff += (a[i] - b[i]) * (a[i] - b[i])
		norm += b[i] * b[i]
	}
	return math.Sqrt(diff / norm)
}

func TestBfloat16TrainsAndExportsBfloat16(t *testing.T) {
	t.Parallel()
	const dtype = "model.dtype=bfloat16"
	want := trained(t, dtype)
	var s struct {
		DTypes    map[string]int64 `json:"dtypes"`
		Integrity string           `json:"integrity"`
	}
	if err := json.Unmarshal([]byte(ok(t, "inspect", "--json", want)), &s); err != nil {
		t.Fatal(err)
	}
	if s.DTypes["F32"] != 0 || s.DTypes["BF16"] == 0 || s.Integrity != "verified" {
		t.Errorf("holds %+v", s)
	}
	// A run that stops in the middle goes on to the same bits.
	out := filepath.Join(t.TempDir(), "out")
	ok(t, training(t, out, dtype, "train.max_steps=2", "train.lr_scheduler_type=constant")...)
	fails(t, training(t, out, dtype), "another run", "lr_scheduler_type")
	whole := trained(t, dtype, "train.lr_scheduler_type=constant")
	ok(t, training(t, out, dtype, "train.lr_scheduler_type=constant")...)
	if !bytes.Equal(weights(t, out), weights(t, whole)) {
		t.Error("a resumed bfloat16 run has other weights")
	}
	scores := ok(t, "infer", "--checkpoint", want, "--input", filepath.Join(small(t), "samples.jsonl"))
	if wide := ok(t, "infer", "--checkpoint", want, "--dtype", "float32", "--input", filepath.Join(small(t), "samples.jsonl")); wide == scores {
		t.Error("--dtype float32 changes no score of a bfloat16 model")
	}
}
