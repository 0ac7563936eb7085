package checkpoints

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"

	"rmtrain/checkpoints/safetensors"
)

// HeadFile reads a value head from a safetensors file with one tensor of shape
// [1, hidden] or [hidden], whatever its name.
func HeadFile(path string, hidden int) ([]float32, error) {
	head, err := headFile(path, hidden)
	if err != nil {
		return nil, fmt.Errorf("checkpoints: read value head %s: %w", path, err)
	}
	return head, nil
}

func headFile(path string, hidden int) ([]float32, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s, err := safetensors.Open(info.Name(), f, info.Size())
	if err != nil {
		return nil, err
	}
	if len(s.Names) != 1 {
		return nil, fmt.Errorf("it holds %d tensors, not one: %s", len(s.Names), listNames(s.Names))
	}
	name := s.Names[0]
	h := s.Tensors[name]
	if !slices.Equal(h.Shape, []int{hidden}) && !slices.Equal(h.Shape, []int{1, hidden}) {
		return nil, fmt.Errorf("%s has shape %v, and the model needs [1 %d]", name, h.Shape, hidden)
	}
	section, err := s.Section(name)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 4*hidden)
	t := tensor{file: info.Name(), dtype: h.DType, shape: h.Shape, bytes: section}
	if err := t.read("F32", b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	head := make([]float32, hidden)
	for i := range head {
		head[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if v := float64(head[i]); math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%s: element %d is %v", name, i, head[i])
		}
	}
	return head, nil
}
