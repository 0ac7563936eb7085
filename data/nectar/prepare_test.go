package nectar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rmtrain/data"
)

func TestTheCacheIsFoundAgainOnlyForTheSameInput(t *testing.T) {
	encoder, cache := testEncoder(t), t.TempDir()
	text, err := os.ReadFile(filepath.Join("testdata", "rows.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, "rows.jsonl", string(text))
	read := func(o Options) (digest string, made bool) {
		t.Helper()
		o.Encoder, o.CacheDir = encoder, cache
		o.Progress = func(done, total int64) { made = true }
		ds, report, err := Prepare(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer ds.Close()
		if report.Groups != ds.Len() || report.Tokens == nil || report.Tokens.Total == 0 {
			t.Errorf("report %+v", report)
		}
		return ds.Digest(), made
	}
	o := Options{Paths: []string{path}}
	first, made := read(o)
	if !made {
		t.Error("the first call did not read the rows")
	}
	if again, made := read(o); made || again != first {
		t.Error("the second call did not find the cache")
	}
	if other, made := read(Options{Paths: []string{path}, MaxAnswers: 2}); !made || other == first {
		t.Error("other options found the cache")
	}
	if err := os.WriteFile(path, append(text, text...), 0o644); err != nil {
		t.Fatal(err)
	}
	if other, made := read(o); !made || other == first {
		t.Error("a changed file found the cache")
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(files) != 6 {
		t.Fatalf("the cache holds %v", files)
	}
	for _, f := range files {
		if err := os.Truncate(f, 100); err != nil {
			t.Fatal(err)
		}
	}
	if again, made := read(o); !made || again != first {
		t.Error("a damaged cache was not made again")
	}
}

func TestWithoutACacheNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	groups, _ := prepare(t, Options{Paths: []string{filepath.Join("testdata", "rows.jsonl")}, Encoder: testEncoder(t)})
	if left, _ := os.ReadDir(dir); len(left) != 0 || len(groups) != 12 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAFolderIsReadByNameAndNestedFilesKeepTheirRows(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"b.jsonl", "a.jsonl", "notes.txt"} {
		row := fmt.Sprintf("\n{\"prompt\": \"%d?\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n", i)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(row), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ds, report, err := Prepare(t.Context(), Options{Paths: []string{dir}, Encoder: testEncoder(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer ds.Close()
	if ds.Len() != 2 || ds.Group(0).Source != filepath.Join(dir, "a.jsonl")+":2" || ds.Group(1).Source != filepath.Join(dir, "b.jsonl")+":2" {
		t.Errorf("groups %+v, %+v", ds.Group(0), ds.Group(1))
	}
	if len(report.Files) != 2 || report.Files[1].Groups != 1 {
		t.Errorf("files %+v", report.Files)
	}
}

func TestMarginsAndMaxAnswersReachTheGroups(t *testing.T) {
	path := write(t, "a.jsonl", `{"prompt": "a", "chosen": "b", "rejected": "c", "margin": 0.25}
{"prompt": "a", "answers": ["r2", "r1", "r3"], "ranks": [2, 1, 3]}`)
	groups, report := prepare(t, Options{Paths: []string{path}, Encoder: testEncoder(t), MaxAnswers: 2})
	if groups[0].Margin != 0.25 || groups[1].Margin != 0 || len(groups[1].Answers) != 2 || groups[1].Answers[0].Rank != 1 {
		t.Errorf("groups %+v", groups)
	}
	if report.Totals[OddRanks] != 0 {
		t.Errorf("ranks are odd that were not before max_answers: %+v", report.Findings)
	}
}

func TestATranscriptIsTheSameTokensInEveryForm(t *testing.T) {
	a, b := `\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why?\n\nAssistant: so`, `\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why?\n\nAssistant: no`
	before := `[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Why?"}`
	path := write(t, "a.jsonl", strings.Join([]string{
		`{"texts": ["` + a + `", "` + b + `"], "ranks": [1, 2]}`,
		`{"chosen": "` + a + `", "rejected": "` + b + `"}`,
		`{"prompt": "` + strings.TrimSuffix(a, "so") + `", "answers": [{"answer": "so", "rank": 1}, {"answer": "no", "rank": 2}]}`,
		`{"prompt": ` + before + `], "chosen": "so", "rejected": [{"role": "assistant", "content": "no"}]}`,
		`{"chosen": ` + before + `, {"role": "assistant", "content": "so"}], "rejected": ` + before + `, {"role": "assistant", "content": "no"}]}`,
	}, "\n"))
	groups, _ := prepare(t, Options{Paths: []string{path}, Encoder: testEncoder(t)})
	for i, g := range groups {
		if !reflect.DeepEqual(g.Answers, groups[0].Answers) {
			t.Errorf("row %d has other tokens", i+1)
		}
		if i > 1 && g.Prompt != groups[1].Prompt {
			t.Errorf("row %d has another prompt", i+1)
		}
	}
}

func TestProgressEndsAtTheTotal(t *testing.T) {
	paths := []string{filepath.Join("testdata", "zstd_v1.parquet"), filepath.Join("testdata", "rows.jsonl")}
	total := int64(0)
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	last, calls := int64(0), 0
	prepare(t, Options{Paths: paths, Encoder: testEncoder(t), Progress: func(done, of int64) {
		if done < last || done > of || of != total {
			t.Errorf("progress %d of %d after %d", done, of, last)
		}
		last = done
		calls++
	}})
	if last != total || calls < 24 {
		t.Errorf("progress ended at %d of %d after %d calls", last, total, calls)
	}
}

func TestPrepareCanBeInterrupted(t *testing.T) {
	for _, name := range []string{"rows.jsonl", "zstd_v1.parquet"} {
		ctx, cancel := context.WithCancel(t.Context())
		cache := t.TempDir()
		_, _, err := Prepare(ctx, Options{Paths: []string{filepath.Join("testdata", name)}, Encoder: testEncoder(t), CacheDir: cache,
			Progress: func(done, total int64) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v", name, err)
		}
		if left, _ := os.ReadDir(cache); len(left) != 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestPrepareRefusesOptionsThatCannotBe(t *testing.T) {
	good := filepath.Join("testdata", "rows.jsonl")
	for want, o := range map[string]Options{
		"no tokenizer":              {Paths: []string{good}},
		"max_answers is 1":          {Paths: []string{good}, Encoder: testEncoder(t), MaxAnswers: 1},
		"no data files":             {Encoder: testEncoder(t)},
		"every prompt is also in":   {Paths: []string{good}, Encoder: testEncoder(t), Exclude: func(string) bool { return true }},
		"create the cache":          {Paths: []string{good}, Encoder: testEncoder(t), CacheDir: good},
		"none of 1 rows is usable;": {Paths: []string{write(t, "a.jsonl", "{}")}, Encoder: testEncoder(t), SkipBad: true},
	} {
		if _, _, err := Prepare(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
}

// shared counts the prompts that are in both.
func shared(a, b *data.Dataset) (n int) {
	in := a.Prompts()
	for k := range b.Prompts() {
		if in[k] {
			n++
		}
	}
	return n
}

func TestNoPromptIsInTrainingAndEvaluation(t *testing.T) {
	var rows, evalRows strings.Builder
	for i := range 30 {
		fmt.Fprintf(&rows, `{"prompt": "%d?", "chosen": "yes", "rejected": "no %d"}`+"\n", i%10, i)
	}
	for i := range 4 {
		fmt.Fprintf(&evalRows, `{"prompt": "\n\nHuman: %d?\n\nAssistant: ", "answers": ["a", "b"], "ranks": [1, 2]}`+"\n", 8+i)
	}
	o := Options{Paths: []string{write(t, "train.jsonl", rows.String())}, Encoder: testEncoder(t), CacheDir: t.TempDir()}
	for name, c := range map[string]struct {
		eval                            []string
		prompts, wantTrain, wantEval    int
		wantExcluded, wantHeld, evalAll int
	}{
		"no evaluation":     {nil, 0, 30, 0, 0, 0, 0},
		"held-out prompts":  {nil, 3, 21, 9, 0, 9, 0},
		"a file of its own": {[]string{write(t, "eval.jsonl", evalRows.String())}, 0, 24, 4, 6, 0, 4},
	} {
		s, err := PrepareSplit(t.Context(), o, c.eval, c.prompts, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.Train.Len() != c.wantTrain || s.TrainReport.Excluded != c.wantExcluded || s.TrainReport.HeldOut != c.wantHeld {
			t.Errorf("%s: %d groups, report %+v", name, s.Train.Len(), s.TrainReport)
		}
		if (s.Eval == nil) != (c.wantEval == 0) || (s.EvalReport == nil) != (c.evalAll == 0) {
			t.Errorf("%s: evaluation %v, report %v", name, s.Eval, s.EvalReport)
		}
		if s.Eval != nil && (s.Eval.Len() != c.wantEval || shared(s.Train, s.Eval) != 0) {
			t.Errorf("%s: %d groups, %d prompts on both sides", name, s.Eval.Len(), shared(s.Train, s.Eval))
		}
	}
	if _, err := PrepareSplit(t.Context(), o, nil, 10, 1); err == nil {
		t.Error("all prompts were held out")
	}
}

func TestGroupsDoNotDependOnTheNumberOfCores(t *testing.T) {
	var rows strings.Builder
	for i := range 500 {
		fmt.Fprintf(&rows, `{"prompt": "%d?", "chosen": "%s", "rejected": "no"}`+"\n", i, strings.Repeat("yes ", i%17))
	}
	o := Options{Paths: []string{write(t, "a.jsonl", rows.String())}, Encoder: testEncoder(t)}
	many, _ := prepare(t, o)
	defer setCores(setCores(1))
	one, _ := prepare(t, o)
	if !reflect.DeepEqual(many, one) {
		t.Error("groups differ")
	}
}
