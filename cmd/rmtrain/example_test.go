package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestExampleIsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	var worlds [2]map[string][]byte
	for i := range worlds {
		dir := filepath.Join(t.TempDir(), "new", "world") // the folder above does not exist either
		ok(t, "example", dir)
		worlds[i] = map[string][]byte{}
		err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				worlds[i][path] = read(t, dir, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"model/config.json", "model/tokenizer.json", "model/tokenizer_config.json", "model/model.safetensors", "train.parquet", "test.parquet", "samples.jsonl", "nectar.yaml"} {
		if len(worlds[0][name]) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
	for name, b := range worlds[0] {
		if !bytes.Equal(b, worlds[1][name]) {
			t.Errorf("%s differs between two examples", name)
		}
	}
	if len(worlds[0]) != len(worlds[1]) {
		t.Errorf("%d and %d files", len(worlds[0]), len(worlds[1]))
	}
}

func TestExampleLeavesAnExistingFolderAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fails(t, []string{"example", dir}, dir, "exists")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("folder holds %v, %v", entries, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	fails(t, []string{"example", filepath.Join(file, "world")}, "not a directory")
}

// The example must teach content, not length.
func TestExampleIsNotWonByLength(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "world")
	ok(t, "example", dir)
	var report struct {
		Groups          int            `json:"groups"`
		AnswersPerGroup map[string]int `json:"answers_per_group"`
		LongerWins      struct {
			Characters, Tokens float64
		} `json:"longer_wins"`
		Findings []any `json:"findings"`
	}
	for file, prompts := range map[string]int{"train.parquet": exampleTrain, "test.parquet": exampleTest} {
		out := ok(t, "data", "--json", "--model", filepath.Join(dir, "model"), filepath.Join(dir, file))
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatal(err)
		}
		if report.Groups != prompts || report.AnswersPerGroup["7"] != prompts || len(report.Findings) > 0 {
			t.Errorf("%s: %+v", file, report)
		}
		for _, wins := range []float64{report.LongerWins.Characters, report.LongerWins.Tokens} {
			if wins < 0.45 || wins > 0.55 {
				t.Errorf("%s: the longer answer wins %.3f of pairs", file, wins)
			}
		}
	}
}

// The whole of what `make run` promises, with the numbers that it prints.
func TestExampleIsLearned(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "world")
	ok(t, "example", dir)
	out := ok(t, "--config", filepath.Join(dir, "nectar.yaml"))
	m := regexp.MustCompile(`held-out pairwise accuracy (\S+) \(chance 0\.500, longer answer wins (\S+)\)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no accuracy in\n%s", out)
	}
	accuracy, err1 := strconv.ParseFloat(m[1], 64)
	longer, err2 := strconv.ParseFloat(m[2], 64)
	if err1 != nil || err2 != nil || accuracy < 0.9 || longer < 0.45 || longer > 0.55 {
		t.Errorf("accuracy %s, longer answer wins %s", m[1], m[2])
	}
	scores := ok(t, "infer", "--checkpoint", filepath.Join(dir, "out"), "--input", filepath.Join(dir, "samples.jsonl"))
	if n := strings.Count(scores, `"score`); n != exampleSamples {
		t.Errorf("%d scores of %d samples:\n%s", n, exampleSamples, scores)
	}
	best(t, scores)
}

// best checks that of each prompt's answers the one that was written first, the
// best, wins against the last.
func best(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var s struct{ Scores []float64 }
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		if n := len(s.Scores); n > 0 && s.Scores[0] <= s.Scores[n-1] {
			t.Errorf("the best answer has %v, the worst %v", s.Scores[0], s.Scores[n-1])
		}
	}
}

func TestByteRunesAreGPT2s(t *testing.T) {
	t.Parallel()
	table := byteRunes()
	seen := map[rune]bool{}
	for _, r := range table {
		seen[r] = true
	}
	if len(seen) != 256 || table[' '] != 'Ġ' || table['\n'] != 'Ċ' || table['a'] != 'a' || table[0xad] != 'Ń' {
		t.Errorf("%d different runes; blank is %c, newline %c, soft hyphen %c", len(seen), table[' '], table['\n'], table[0xad])
	}
}

func TestBPEMergesTheMostFrequentPairFirst(t *testing.T) {
	t.Parallel()
	got := trainBPE("low low low lower newest newest", 3)
	want := [][2]string{{"l", "o"}, {"lo", "w"}, {"Ġ", "low"}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("merges %q, want %q", got, want)
	}
	if got := trainBPE("a", 5); len(got) != 0 {
		t.Errorf("merges %q of a single letter", got)
	}
}
