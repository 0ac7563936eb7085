package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBenchRepeatsAWorkloadPerLine(t *testing.T) {
	config := `{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_act":"silu","num_hidden_layers":2,"hidden_size":16,
		"intermediate_size":24,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":32,"max_position_embeddings":64,"rms_norm_eps":1e-5}`
	model := `"config":` + config + `,"groups":[[[3,4,5],[3,4,6,7]],[[8,9],[8,10]]],"rows":8`
	for name, c := range map[string]struct {
		spec string
		keys []string
	}{
		"train": {`{"kind":"train","dtype":"float32",` + model + `}`, []string{"seconds", "loss", "grad_norm"}},
		"score": {`{"kind":"score","dtype":"bfloat16",` + model + `}`, []string{"seconds", "peak_bytes"}},
		"gemm":  {`{"kind":"gemm","dtype":"float32","form":"TN","M":5,"K":3,"N":4,"times":2}`, []string{"seconds"}},
	} {
		file := filepath.Join(t.TempDir(), name+".json")
		if err := os.WriteFile(file, []byte(c.spec), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		bench := benchCommand()
		bench.SetArgs([]string{file})
		bench.SetIn(strings.NewReader("\n\n"))
		bench.SetOut(&out)
		if err := bench.Execute(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 {
			t.Fatalf("%s: %d lines for 2: %q", name, len(lines), out.String())
		}
		for _, line := range lines {
			var rep map[string]any
			if err := json.Unmarshal([]byte(line), &rep); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, key := range c.keys {
				if v, ok := rep[key].(float64); !ok || !(v > 0) || math.IsInf(v, 0) {
					t.Errorf("%s: %s is %v", name, key, rep[key])
				}
			}
		}
	}
}

func TestBenchRefusesUnknownWorkloads(t *testing.T) {
	for spec, want := range map[string]string{
		`{"kind":"play","dtype":"float32"}`:                                         "none of train, score, gemm",
		`{"kind":"gemm","dtype":"float32","form":"XX","M":1,"K":1,"N":1}`:           "none of NT, NN, TN",
		`{"kind":"gemm","dtype":"float16","form":"NT","M":1,"K":1,"N":1,"times":1}`: "dtype",
		`{`: "bench: read",
	} {
		file := filepath.Join(t.TempDir(), "spec.json")
		if err := os.WriteFile(file, []byte(spec), 0o600); err != nil {
			t.Fatal(err)
		}
		bench := benchCommand()
		bench.SilenceUsage, bench.SilenceErrors = true, true
		bench.SetArgs([]string{file})
		if err := bench.Execute(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", spec, err, want)
		}
	}
}
