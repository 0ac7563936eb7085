package checkpoints

import (
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"rmtrain/checkpoints/safetensors"
)

const (
	defaultShard = 5_000_000_000 // bytes, as transformers' max_shard_size "5GB"
	pieceBytes   = 16 << 20      // of a tensor in memory while it is written
)

// A Tensor is something to write. Read fills dst with the bytes that start at off,
// so that no tensor need ever be whole in memory.
type Tensor struct {
	Name  string
	DType string // F32, BF16, I64, ...
	Shape []int
	Read  func(dst []byte, off int64) error
	// Gathered tells that reading a part takes as long as reading all.
	Gathered bool
}

// A shard is a weight file to write.
type shard struct {
	name    string
	tensors []Tensor
	size    int64 // of the tensors, in bytes
}

// planShards deals tensors, in their order, to files of at most limit bytes. A
// tensor that is larger has a file of its own. stem is "model" for model.safetensors
// and model-00001-of-00002.safetensors.
func planShards(stem string, tensors []Tensor, limit int64) ([]shard, error) {
	if limit <= 0 {
		limit = defaultShard
	}
	seen := map[string]bool{}
	plan := []shard{{}}
	for _, t := range tensors {
		if seen[t.Name] {
			return nil, fmt.Errorf("tensor %s is there twice", t.Name)
		}
		seen[t.Name] = true
		size, err := safetensors.Size(t.DType, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		last := &plan[len(plan)-1]
		if len(last.tensors) > 0 && last.size+size > limit {
			plan = append(plan, shard{})
			last = &plan[len(plan)-1]
		}
		last.tensors = append(last.tensors, t)
		last.size += size
	}
	for i := range plan {
		plan[i].name = stem + ".safetensors"
		if len(plan) > 1 {
			plan[i].name = fmt.Sprintf("%s-%05d-of-%05d.safetensors", stem, i+1, len(plan))
		}
	}
	return plan, nil
}

// write writes the shard to path and feeds sum with all of its bytes.
func (s shard) write(path string, meta map[string]string, sum hash.Hash) error {
	return createSynced(path, func(f *os.File) error {
		order := make([]string, len(s.tensors))
		headers := map[string]safetensors.Header{}
		for i, t := range s.tensors {
			order[i] = t.Name
			headers[t.Name] = safetensors.Header{DType: t.DType, Shape: t.Shape}
		}
		w, err := safetensors.Create(&sequentialFile{w: io.MultiWriter(f, sum)}, order, headers, meta)
		if err != nil {
			return err
		}
		for _, t := range s.tensors {
			if err := copyTensor(w, t); err != nil {
				return err
			}
		}
		return w.Close()
	})
}

// copyTensor streams a tensor from its source, a piece at a time.
func copyTensor(w *safetensors.Writer, t Tensor) error {
	size, err := safetensors.Size(t.DType, t.Shape)
	if err != nil {
		return err
	}
	piece := make([]byte, min(size, pieceBytes))
	for off := int64(0); off < size; off += int64(len(piece)) {
		piece = piece[:min(size-off, int64(len(piece)))]
		if err := t.Read(piece, off); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		if err := w.WriteAt(t.Name, piece, off); err != nil {
			return err
		}
	}
	return nil
}

// writeIndex writes the index of several shards.
func writeIndex(path string, plan []shard) error {
	weightMap := map[string]string{}
	total := int64(0)
	for _, s := range plan {
		total += s.size
		for _, t := range s.tensors {
			weightMap[t.Name] = s.name
		}
	}
	meta, err := json.Marshal(map[string]int64{"total_size": total})
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(index{Metadata: meta, WeightMap: weightMap}, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return writeSynced(path, append(b, '\n'))
}
