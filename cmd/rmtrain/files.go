package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"rmtrain/checkpoints"
	"rmtrain/data/tokenizer"
	"rmtrain/kernels/llama"
)

// tokenizerFiles returns the tokenizer's files, byte for byte, to write beside weights.
func tokenizerFiles(t *tokenizer.Tokenizer) []checkpoints.File {
	var out []checkpoints.File
	for _, f := range t.Files() {
		out = append(out, checkpoints.File{Name: f.Name, Data: f.Data})
	}
	return out
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func parameters(c llama.Config) (n int) {
	for _, p := range llama.Table(c) {
		n += elements(p.Shape)
	}
	return n
}

// si writes a number with three digits and a decimal prefix.
func si(x float64) string {
	for _, u := range []struct {
		unit   float64
		prefix string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if x >= u.unit {
			return fmt.Sprintf("%.3g %s", x/u.unit, u.prefix)
		}
	}
	return fmt.Sprintf("%.3g ", x)
}

// wanted lists the tensors of a model; newHead says that its value head is made here.
func wanted(c llama.Config, newHead bool) []checkpoints.Want {
	var want []checkpoints.Want
	for _, p := range llama.Table(c) {
		want = append(want, checkpoints.Want{Name: p.Name, Shape: p.Shape, Optional: newHead && p.Name == headName})
	}
	return want
}

// curvesFile is the picture of a run's losses that package train draws.
const curvesFile = "curves.png"

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// sameFile tells whether two paths lead to one file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
