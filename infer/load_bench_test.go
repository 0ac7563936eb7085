package infer

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sync/errgroup"

	"rmtrain/checkpoints"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
	"rmtrain/kernels/llama"
)

// benchConfig has 8 layers, so that weights are half a gigabyte in float32.
const benchConfig = `{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
	"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 16,
	"num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
	"rope_theta": 10000.0, "tie_word_embeddings": false}`

// BenchmarkLoad compares loading a checkpoint, its file in the page cache, with one
// parallel pass over its bytes, and with taking the model's memory from the system,
// which loading does too.
func BenchmarkLoad(b *testing.B) {
	c, err := llama.ParseConfig([]byte(benchConfig))
	if err != nil {
		b.Fatal(err)
	}
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
		b.Run("memory/"+dt.String(), func(b *testing.B) {
			for b.Loop() {
				takeMemory(b, c, dt)
			}
		})
	}
	for _, stored := range []string{"F32", "BF16", "F16"} {
		path := filepath.Join(b.TempDir(), "model")
		writeModel(b, path, c, stored)
		b.Run(stored+"/pass", func(b *testing.B) {
			info, err := os.Stat(filepath.Join(path, "model.safetensors"))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(info.Size())
			for b.Loop() {
				readOnce(b, filepath.Join(path, "model.safetensors"), info.Size())
			}
		})
		for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
			b.Run(stored+"/"+dt.String(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					loadOnce(b, path, c, dt)
				}
			})
		}
	}
}

// writeModel writes a checkpoint of arbitrary, finite weights of type dt.
func writeModel(b *testing.B, path string, c llama.Config, dt string) {
	b.Helper()
	var tensors []checkpoints.Tensor
	for _, p := range llama.Table(c) {
		tensors = append(tensors, checkpoints.Tensor{Name: p.Name, DType: dt, Shape: p.Shape, Read: func(dst []byte, off int64) error {
			for i := range dst {
				dst[i] = byte(off+int64(i)) & 0x3f
			}
			return nil
		}})
	}
	if err := checkpoints.Write(path, checkpoints.Export{Dialect: checkpoints.HuggingFace, Config: []byte(benchConfig), PadID: -1, Tensors: tensors}); err != nil {
		b.Fatal(err)
	}
}

// readOnce reads a file from beginning to end, a part on each core.
func readOnce(b *testing.B, path string, size int64) {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var g errgroup.Group
	parts := int64(runtime.GOMAXPROCS(0))
	for i := range parts {
		g.Go(func() error {
			lo, hi := i*size/parts, (i+1)*size/parts
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{io.NewSectionReader(f, lo, hi-lo)}, make([]byte, 1<<18))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// takeMemory allocates a model and writes zeros to all of it.
func takeMemory(b *testing.B, c llama.Config, dt kernels.DType) {
	b.Helper()
	be, err := cpu.New(dt)
	if err != nil {
		b.Fatal(err)
	}
	m, err := llama.New(be, c, llama.Options{DType: dt})
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range m.Params() {
		be.Zero(p.Weight)
	}
	m.Close()
	if err := be.Close(); err != nil {
		b.Fatal(err)
	}
}

func loadOnce(b *testing.B, path string, c llama.Config, dt kernels.DType) {
	b.Helper()
	be, err := cpu.New(dt)
	if err != nil {
		b.Fatal(err)
	}
	dir, err := checkpoints.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	m, err := LoadModel(dir, be, c, llama.Options{DType: dt}, nil)
	if err != nil {
		b.Fatal(err)
	}
	m.Close()
	if err := dir.Close(); err != nil {
		b.Fatal(err)
	}
	if err := be.Close(); err != nil {
		b.Fatal(err)
	}
}
