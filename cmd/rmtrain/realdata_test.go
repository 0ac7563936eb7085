package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// realData returns the folder of real models and data, which are not part of the
// repository: $RMTRAIN_REALDATA, or shared/data beside it.
func realData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("RMTRAIN_REALDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no real data: set RMTRAIN_REALDATA")
	} else if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A real pretrained model learns from real rankings what PyTorch learns with the same
// recipe: accuracy 0.713 and loss 0.3576 on the test file, where the longer answer
// wins 0.70 of the pairs. Three seeds are in docs/realdata.md; this is one of them,
// within the spread of seeds.
func TestRealModelLearnsRealRankings(t *testing.T) {
	dir := realData(t)
	out := filepath.Join(t.TempDir(), "out")
	config := filepath.Join("testdata", "alpacaeval.yaml")
	ok(t, "--config", config, "--set", "train.output_dir="+out,
		"--set", "model.name_or_path="+filepath.Join(dir, "models", "tinystories-656k"),
		"--set", "data.train="+filepath.Join(dir, "preference", "alpacaeval_nectar_train.parquet"),
		"--set", "data.eval="+filepath.Join(dir, "preference", "alpacaeval_nectar_test.jsonl"))
	var s struct {
		Last struct {
			Loss     float64 `json:"eval_loss"`
			Accuracy float64 `json:"eval_pairwise_accuracy"`
		} `json:"last_evaluation"`
	}
	if err := json.Unmarshal(read(t, out, "summary.json"), &s); err != nil {
		t.Fatal(err)
	}
	t.Logf("test accuracy %.4f, loss %.4f", s.Last.Accuracy, s.Last.Loss)
	if s.Last.Accuracy < 0.695 || s.Last.Loss > 0.365 {
		t.Errorf("test accuracy %.4f and loss %.4f, want at least 0.695 and at most 0.365", s.Last.Accuracy, s.Last.Loss)
	}
}
