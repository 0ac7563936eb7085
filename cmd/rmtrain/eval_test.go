package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rmtrain/infer/bench"
)

// Reward models of package infer's tests.
var (
	tinyModel  = filepath.Join("..", "..", "infer", "testdata", "huggingface")
	otherModel = filepath.Join("..", "..", "infer", "testdata", "starling")
)

// evalLine is a line of scores.jsonl.
type evalLine struct {
	ID      string    `json:"id"`
	Scores  []float64 `json:"scores"`
	Correct float64   `json:"correct"`
}

// evalData writes a ranked file and the same rows as requests of infer.
func evalData(t *testing.T) (ranked, requests string) {
	t.Helper()
	var rows, lines bytes.Buffer
	for _, r := range newWorld(1).rows(samplesOf(1, 12)) {
		var answers []string
		for _, a := range r.Answers {
			answers = append(answers, a.Answer)
		}
		if err := json.NewEncoder(&rows).Encode(r); err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(&lines).Encode(map[string]any{"prompt": r.Prompt, "answers": answers}); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	ranked, requests = filepath.Join(dir, "ranked.jsonl"), filepath.Join(dir, "requests.jsonl")
	for path, b := range map[string][]byte{ranked: rows.Bytes(), requests: lines.Bytes()} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return ranked, requests
}

// samplesOf returns n samples of a world.
func samplesOf(seed uint64, n int) []sample {
	w := newWorld(seed)
	out := make([]sample, n)
	for i := range out {
		out[i] = w.sample()
	}
	return out
}

func evalLines(t *testing.T, dir string) []evalLine {
	t.Helper()
	var out []evalLine
	for line := range bytes.Lines(read(t, dir, bench.LinesFile)) {
		var l evalLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func TestEvalScoresLikeInfer(t *testing.T) {
	ranked, requests := evalData(t)
	dir := filepath.Join(t.TempDir(), "report")
	table := ok(t, "eval", "--checkpoint", tinyModel, "--data", "nectar="+ranked, "--output", dir, "--resamples", "20")
	if !strings.Contains(table, "Ranked answers (Nectar's schema): 12 prompts, 12 rows") || !strings.Contains(table, "Kendall's tau") {
		t.Errorf("table:\n%s", table)
	}
	lines := evalLines(t, dir)
	i := 0
	sum := 0.0
	for answer := range strings.Lines(ok(t, "infer", "--checkpoint", tinyModel, "--input", requests)) {
		var want struct{ Scores []float32 }
		if err := json.Unmarshal([]byte(answer), &want); err != nil {
			t.Fatal(err)
		}
		var got []float32
		for _, s := range lines[i].Scores {
			got = append(got, float32(s))
		}
		if !slices.Equal(got, want.Scores) {
			t.Errorf("row %d: %v, infer says %v", i+1, got, want.Scores)
		}
		sum += lines[i].Correct
		i++
	}
	var result bench.Report
	if err := json.Unmarshal(read(t, dir, bench.ResultFile), &result); err != nil {
		t.Fatal(err)
	}
	if m := result.Results[0].Metrics[0]; i != 12 || m.Name != "accuracy" || fmt.Sprintf("%.9f", m.Value) != fmt.Sprintf("%.9f", sum/12) {
		t.Errorf("%d rows, %+v, mean of rows %v", i, m, sum/12)
	}
	if exists(filepath.Join(dir, "scores.partial.jsonl")) {
		t.Error("the journal is still there")
	}
	fails(t, []string{"eval", "--checkpoint", tinyModel, "--data", "nectar=" + ranked, "--output", dir}, "holds a result", "--overwrite")
}

func TestEvalGoesOnBehindAJournal(t *testing.T) {
	ranked, _ := evalData(t)
	first, second := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second")
	args := []string{"eval", "--checkpoint", tinyModel, "--data", "pairs=" + ranked, "--resamples", "20", "--output"}
	ok(t, append(args, first)...)
	var result bench.Report
	if err := json.Unmarshal(read(t, first, bench.ResultFile), &result); err != nil {
		t.Fatal(err)
	}
	was := evalLines(t, first)
	marked := slices.Clone(was[0].Scores)
	marked[0] = 1234.5 // no model says so: it must come from the journal
	identity, _ := json.Marshal(map[string]any{"identity": result.Model.Identity})
	row, _ := json.Marshal(bench.Row{Bench: "pairs", ID: was[0].ID, Scores: marked, Tokens: make([]int, len(marked)), Truncated: make([]bool, len(marked))})
	if err := os.MkdirAll(second, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(second, "scores.partial.jsonl"), []byte(string(identity)+"\n"+string(row)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustFail(t, run(t, append(append(slices.Clone(args), second), "--max-length", "9")...), "another run began it", `max length was`)
	r := run(t, append(args, second)...)
	if r.status != 0 || !strings.Contains(r.stderr, "going on behind 1 rows") {
		t.Fatalf("status %d\n%s", r.status, r.stderr)
	}
	now := evalLines(t, second)
	for i := range now {
		want := was[i].Scores
		if i == 0 {
			want = marked
		}
		if !slices.Equal(now[i].Scores, want) {
			t.Errorf("row %d: %v, want %v", i+1, now[i].Scores, want)
		}
	}
}

func TestEvalCompares(t *testing.T) {
	ranked, _ := evalData(t)
	for other, differs := range map[string]bool{tinyModel: false, otherModel: true} {
		dir := filepath.Join(t.TempDir(), "report")
		table := ok(t, "eval", "--checkpoint", tinyModel, "--compare", other, "--data", "nectar="+ranked, "--output", dir, "--resamples", "20")
		var result bench.Report
		if err := json.Unmarshal(read(t, dir, bench.ResultFile), &result); err != nil {
			t.Fatal(err)
		}
		m := result.Results[0].Metrics[0]
		if strings.Contains(table, "note: both models give every conversation the same score") == differs {
			t.Errorf("%s: the note on equal models is wrong:\n%s", other, table)
		}
		if m.Difference == nil || (m.Difference.Value != 0 || m.Difference.High != 0) != differs || !strings.Contains(table, "difference") {
			t.Errorf("%s: %+v\n%s", other, m, table)
		}
	}
}

func TestEvalTakesTheCardsThree(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"arena.jsonl":  `{"winner":"model_a","conversation_a":[{"role":"user","content":"hi"},{"role":"assistant","content":"yes"}],"conversation_b":[{"role":"user","content":"hi"},{"role":"assistant","content":"no"}]}`,
		"truth.csv":    "Question,Best Answer,Correct Answers,Incorrect Answers\nIs it?,Yes,Yes; Sure,No\n",
		"safety.jsonl": `{"prompt":"hi","response_0":"a","response_1":"b","is_response_0_safe":true,"is_response_1_safe":false}`,
		"chat.jinja":   "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"eval", "--checkpoint", tinyModel, "--bench", "human,truth,safety", "--resamples", "20",
		"--data", "human=" + dir + "/arena.jsonl", "--data", "truth=" + dir + "/truth.csv", "--data", "safety=" + dir + "/safety.jsonl"}
	for _, template := range []string{"stored", "transcript", dir + "/chat.jinja"} {
		table := ok(t, append(slices.Clone(args), "--template", template)...)
		for _, want := range []string{"human  truth  safety  average", "Starling-RM-34B (its card)", "0.807  0.712  0.782   0.767"} {
			if !strings.Contains(table, want) {
				t.Errorf("%s: no %q in\n%s", template, want, table)
			}
		}
	}
	fails(t, append(slices.Clone(args), "--template", dir+"/absent"), "--template", "stored or transcript")
}

func TestEvalRefusesMistakesBeforeItOpensAModel(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.jsonl")
	if err := os.WriteFile(bad, []byte(`{"prompt":"p","chosen":"c"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	arena := tempFile(t, "arena.jsonl", `{"winner":"model_a","conversation_a":[]}`)
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "nothing to measure"},
		{[]string{"--bench", "mmlu"}, `"mmlu" is unknown`},
		{[]string{"--bench", "human"}, "lmsys/chatbot_arena_conversations"},
		{[]string{"--data", "human"}, "is not bench=PATH"},
		{[]string{"--data", "x=y"}, `"x" is unknown`},
		{[]string{"--data", "pairs=" + bad, "--bench", "nectar"}, "nectar has no file"},
		{[]string{"--data", "pairs=" + bad, "--data", "nectar=" + bad, "--bench", "nectar"}, "pairs is not measured"},
		{[]string{"--data", "rewardbench-prior=" + bad, "--bench", "pairs", "--data", "pairs=" + bad}, "rewardbench is not measured"},
		{[]string{"--data", "pairs=" + dir + "/absent.jsonl"}, "no such file"},
		{[]string{"--data", "pairs=" + bad}, "bad.jsonl:1: rejected is missing"},
		{[]string{"--data", "pairs=" + bad, "--on-bad-row", "skip"}, "no usable row"},
		{[]string{"--data", "pairs=" + arena}, "neither answers, nor chosen and rejected, nor texts (the row has conversation_a, winner)"},
		{[]string{"--data", "pairs=" + bad, "--limit", "-1"}, "--limit -1"},
		{[]string{"--data", "pairs=" + bad, "--limit", "0"}, "leave it out"},
		{[]string{"--data", "pairs=" + bad, "--resamples", "0"}, "--resamples 0 must be from 1"},
		{[]string{"--data", "pairs=" + bad, "--output", bad}, "is a file"},
		{[]string{"--data", "rewardbench-prior=" + bad}, "give --data rewardbench=PATH"},
		{[]string{"--data", "pairs=" + bad, "--score-ties", "x"}, "--score-ties"},
		{[]string{"--data", "pairs=" + bad, "--average", "x"}, "--average"},
		{[]string{"--data", "pairs=" + bad, "--on-bad-row", "x"}, "--on-bad-row"},
		{[]string{"--data", "pairs=" + bad, "--overwrite"}, "needs --output"},
		{[]string{"--data", "pairs=" + bad, "--dtype", "x"}, "--dtype"},
		{[]string{"--data", "pairs=" + bad, "--device", "x"}, "--device"},
		{[]string{"--data", "pairs=" + bad, "--max-length", "-1"}, "--max-length"},
		{[]string{"--data", "pairs=" + bad, "--batch-tokens", "0"}, "--batch-tokens"},
	} {
		fails(t, append([]string{"eval", "--checkpoint", filepath.Join(dir, "no-model")}, test.args...), test.want)
	}
}

func TestEvalFindsAnUnusableModelBeforeItScores(t *testing.T) {
	ranked, _ := evalData(t)
	template := filepath.Join(t.TempDir(), "broken.jinja")
	if err := os.WriteFile(template, []byte("{{ messages["), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"--template", template}, []string{"--template " + template, "template"}},
		{[]string{"--compare", "no-model"}, []string{"no-model"}},
		{[]string{"--compare", otherModel, "--max-length", "100000"}, []string{"max length 100000"}},
	} {
		dir := filepath.Join(t.TempDir(), "report")
		args := []string{"eval", "--checkpoint", tinyModel, "--data", "pairs=" + ranked, "--output", dir}
		fails(t, append(args, test.args...), test.want...)
		if exists(dir) {
			t.Errorf("%q: it scored before it failed", test.args)
		}
	}
}

func TestEvalReplacesNoFilesOfOthers(t *testing.T) {
	ranked, _ := evalData(t)
	dir := t.TempDir()
	mine := filepath.Join(dir, bench.PageFile)
	if err := os.WriteFile(mine, []byte("a run's report"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"eval", "--checkpoint", tinyModel, "--data", "pairs=" + ranked, "--resamples", "20", "--output", dir}
	fails(t, args, bench.PageFile, "another folder")
	if got := string(read(t, dir, bench.PageFile)); got != "a run's report" {
		t.Errorf("report.html is now %q", got)
	}
	ok(t, append(args, "--overwrite")...)
	if !exists(filepath.Join(dir, bench.ResultFile)) {
		t.Error("--overwrite left no result")
	}
}

func TestEvalWritesAResultAgainThatWasStoppedHalfWay(t *testing.T) {
	ranked, _ := evalData(t)
	dir := filepath.Join(t.TempDir(), "report")
	args := []string{"eval", "--checkpoint", tinyModel, "--data", "pairs=" + ranked, "--resamples", "20", "--output", dir}
	ok(t, args...)
	journal := filepath.Join(dir, journalFile)
	if err := os.Remove(filepath.Join(dir, bench.ResultFile)); err != nil { // it is written last
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, nil, 0o644); err != nil { // and the journal goes after that
		t.Fatal(err)
	}
	ok(t, args...)
	if exists(journal) || !exists(filepath.Join(dir, bench.ResultFile)) {
		t.Error("the result is not complete")
	}
}
