package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// deps is the import policy: each package and the packages of this module that
// its non-test files may import. To change the architecture, change this table
// first. Read it from top to bottom: nothing imports what is below it. data/rows stands
// by itself so that training and evaluation, which must not import each other, read
// foreign files with the same code.
var deps = map[string]string{
	"loss":                    "",
	"configs":                 "",
	"kernels":                 "",
	"data/tokenizer":          "",
	"checkpoints/safetensors": "",
	"data":                    "data/tokenizer",
	"data/rows":               "",
	"data/nectar":             "data data/rows data/tokenizer",
	"checkpoints":             "checkpoints/safetensors",
	"checkpoints/hub":         "",
	"kernels/reference":       "kernels",
	"kernels/cost":            "kernels",
	"kernels/cpu":             "kernels",
	"kernels/cuda":            "kernels",
	"kernels/emulator":        "",
	"kernels/kerneltest":      "kernels kernels/reference",
	"kernels/llama":           "kernels data",
	"train":                   "checkpoints configs data kernels kernels/llama loss train/report",
	"train/report":            "",
	"infer":                   "checkpoints data data/tokenizer kernels kernels/llama",
	"infer/bench":             "infer data data/rows data/tokenizer",
	"infer/serve":             "infer data/tokenizer",
	"cmd/rmtrain":             "*",
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags=nvidia", "-json=ImportPath,Imports", "rmtrain/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "rmtrain/")
		allowed, ok := deps[name]
		if !ok {
			t.Errorf("%s is not in the import policy", name)
			continue
		}
		for _, imp := range p.Imports {
			if imp, ok := strings.CutPrefix(imp, "rmtrain/"); ok && allowed != "*" && !slices.Contains(strings.Fields(allowed), imp) {
				t.Errorf("%s may not import %s", name, imp)
			}
		}
	}
	if seen != len(deps) {
		t.Errorf("policy names %d packages, module has %d", len(deps), seen)
	}
}
