package bench

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rmtrain/infer"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
)

// realData is a folder of real files; tests that need it are skipped without.
func realData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("RMTRAIN_REALDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	if _, err := os.Stat(filepath.Join(dir, "eval")); err != nil {
		t.Skip("no real data here")
	}
	return dir
}

// tiny opens the smallest reward model of package infer's tests.
func tiny(t *testing.T) *infer.Scorer {
	t.Helper()
	b, err := cpu.New(kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	s, err := infer.Open(filepath.Join("..", "testdata", "huggingface"), infer.Options{Backend: b, DType: kernels.F32})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRealFilesAreMeasured(t *testing.T) {
	dir := realData(t)
	scorer := tiny(t)
	for _, test := range []struct {
		bench, file           string
		rows, prompts, leave  int // of the file
		note                  string
		pairsAtLeast, metrics int
	}{
		{Human, "eval/chatbot_arena_single_turn.jsonl", 146, 113, 30, "left out, 30 rows: tie", 40, 10},
		{Truth, "raw/truthfulqa/TruthfulQA.csv", 790, 790, 0, "a sample of 40 of 790 prompts", 400, 10},
		{Truth, "raw/truthfulqa/TruthfulQA_v1_817.csv", 817, 817, 0, "a sample of 40 of 817 prompts", 400, 10},
		{Safety, "eval/pku_saferlhf_3rows.jsonl", 3, 1, 2, "both answers are safe", 1, 3},
		{RewardBench, "eval/rewardbench_partial.jsonl", 949, 949, 0, "not the published benchmark", 40, 6},
		{RewardBench, "eval/rewardbench_llmbar.jsonl", 419, 419, 0, "not the published benchmark", 40, 4},
	} {
		t.Run(test.file, func(t *testing.T) {
			s := quick()
			s.Limit = 40
			set := load(t, test.bench, s, filepath.Join(dir, test.file))
			left := 0
			for _, n := range set.LeftOut {
				left += n
			}
			if set.Rows != test.rows || set.Prompts != test.prompts || left != test.leave {
				t.Errorf("%d rows, %d prompts, %d left out", set.Rows, set.Prompts, left)
			}
			r := measured(t, set, scoreSet(t, set, scorer), nil, s)
			if r.Used > 40 || r.Pairs < test.pairsAtLeast || len(r.Metrics) < test.metrics {
				t.Errorf("%d prompts, %d pairs, %d numbers", r.Used, r.Pairs, len(r.Metrics))
			}
			if !strings.Contains(strings.Join(r.Notes, "\n"), test.note) {
				t.Errorf("notes %q", r.Notes)
			}
			for _, m := range r.Metrics {
				if m.Low > m.High || m.Name != "loss" && (m.Value < -1 || m.Value > 1) {
					t.Errorf("%+v", m)
				}
			}
		})
	}
}

// TestRealParquetEqualsItsLines reads the same rows from both formats.
func TestRealParquetEqualsItsLines(t *testing.T) {
	dir := filepath.Join(realData(t), "preference")
	lines := values(t, filepath.Join(dir, "alpacaeval_nectar_test.jsonl"))
	columns := values(t, filepath.Join(dir, "alpacaeval_nectar_test.parquet"))
	if len(lines) != 150 || len(columns) != len(lines) {
		t.Fatalf("%d lines, %d rows", len(lines), len(columns))
	}
	for i := range lines {
		if !reflect.DeepEqual(lines[i], columns[i]) {
			t.Fatalf("row %d is\n%v\nand\n%v", i+1, lines[i], columns[i])
		}
	}
}
