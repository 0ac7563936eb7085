package checkpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Meta is rmtrain.json: how a model was trained and how it is scored.
type Meta struct {
	Version string            `json:"rmtrain_version"`
	Format  json.RawMessage   `json:"format"`     // tokenizer.Format
	DType   string            `json:"dtype"`      // of training
	Base    string            `json:"base_model"` // name or path it started from
	Recipe  json.RawMessage   `json:"recipe"`     // effective configuration
	Data    json.RawMessage   `json:"data"`       // report of the training data
	Metrics json.RawMessage   `json:"metrics"`    // last and best evaluation
	Digests map[string]string `json:"digests"`    // sha256 of tokenizer, data, weights files
	Step    int               `json:"step"`
}

// readMeta returns nil for a folder without rmtrain.json.
func readMeta(dir string) (*Meta, error) {
	b, err := readSmall(filepath.Join(dir, metaName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := new(Meta)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s: %w", metaName, err)
	}
	return m, nil
}
