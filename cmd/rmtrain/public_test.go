package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"
)

// What is exported goes to other people, who need no paths of this machine.
func TestExportsNameNoFolderOfThisMachine(t *testing.T) {
	t.Parallel()
	out := trained(t)
	for _, name := range []string{"rmtrain.json", "README.md", "config.json"} {
		b := read(t, out, name)
		for _, dir := range []string{small(t), filepath.Dir(out)} {
			if i := bytes.Index(b, []byte(dir)); i >= 0 {
				t.Errorf("%s contains a path: ...%.80s...", name, b[max(0, i-20):])
			}
		}
	}
	var meta struct {
		Base   string `json:"base_model"`
		Recipe struct {
			Data  struct{ Train []string }
			Train struct {
				LearningRate float64 `json:"learning_rate"`
			}
		}
	}
	if err := json.Unmarshal(read(t, out, "rmtrain.json"), &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Base != "model" || len(meta.Recipe.Data.Train) != 1 || meta.Recipe.Data.Train[0] != "train.parquet" || meta.Recipe.Train.LearningRate != 1e-3 {
		t.Errorf("rmtrain.json says %+v", meta)
	}
}
