package checkpoints

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rmtrain/checkpoints/safetensors"
)

// golden is the folder of the tiny model that golden.py writes in several layouts.
const golden = "testdata/"

// goldenWant lists the tensors of golden's network.
func goldenWant() []Want {
	want := []Want{
		{Name: "model.embed_tokens.weight", Shape: []int{16, 8}},
		{Name: "model.norm.weight", Shape: []int{8}},
		{Name: headName, Shape: []int{1, 8}, Optional: true},
	}
	for l := range 2 {
		for name, shape := range map[string][]int{
			"self_attn.q_proj": {8, 8}, "self_attn.k_proj": {4, 8}, "self_attn.v_proj": {4, 8}, "self_attn.o_proj": {8, 8},
			"mlp.gate_proj": {12, 8}, "mlp.up_proj": {12, 8}, "mlp.down_proj": {8, 12},
			"input_layernorm": {8}, "post_attention_layernorm": {8},
		} {
			want = append(want, Want{Name: fmt.Sprintf("model.layers.%d.%s.weight", l, name), Shape: shape})
		}
	}
	return want
}

func mustOpen(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// readAll reads every tensor as dtype.
func readAll(t *testing.T, d *Dir, dtype string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name, x := range d.tensors {
		n, err := x.elements()
		if err != nil {
			t.Fatal(err)
		}
		all[name] = make([]byte, n*sizeOf[dtype])
		if err := d.Read(name, dtype, all[name]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// saved is a tensor to save.
type saved struct {
	dtype string
	shape []int
	data  []byte
}

// save writes a safetensors file.
func save(t *testing.T, path string, tensors map[string]saved) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	headers := map[string]safetensors.Header{}
	for name, x := range tensors {
		headers[name] = safetensors.Header{DType: x.dtype, Shape: x.shape}
	}
	w, err := safetensors.Create(f, slices.Sorted(maps.Keys(tensors)), headers, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range tensors {
		if err := w.WriteAt(name, x.data, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func floats(v ...float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func ones(n int) saved { return saved{"F32", []int{n}, floats(make([]float32, n)...)} }

// folder makes a model folder with a config.json.
func folder(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, configName), []byte(config))
	return dir
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func copyFolder(t *testing.T, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), filepath.Base(from))
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
