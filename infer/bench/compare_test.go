package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAModelDoesNotDifferFromItself(t *testing.T) {
	set := load(t, PairFile, quick(), write(t, "p.jsonl", pairLines(20)))
	rows := scoreSet(t, set, &fake{score: func(text string) float64 { return float64(seeded(1, text) % 97) }})
	for _, m := range measured(t, set, rows, rows, quick()).Metrics {
		if *m.Difference != (Difference{}) || *m.Other != m.Value {
			t.Errorf("%s differs by %+v", m.Name, *m.Difference)
		}
	}
}

func TestADifferenceIsPaired(t *testing.T) {
	set := load(t, PairFile, quick(), write(t, "p.jsonl", pairLines(40)))
	mine := scoreSet(t, set, &fake{score: func(text string) float64 { return float64(seeded(1, text) % 97) }})
	worse := append([]Row(nil), mine...)
	for i := range 10 { // the other model errs wherever this one does, and in these
		worse[i] = Row{ID: mine[i].ID, Scores: []float64{0, 1}}
	}
	m := measured(t, set, mine, worse, quick()).Metrics[0]
	if m.Difference.Value <= 0 || m.Difference.Low < 0 {
		t.Errorf("difference %+v", *m.Difference)
	}
	if width := m.Difference.High - m.Difference.Low; width >= m.High-m.Low {
		t.Errorf("the interval of the difference is %v wide, no less than %v", width, m.High-m.Low)
	}
}

func TestOnlyWhatBothModelsScoredIsCompared(t *testing.T) {
	set := load(t, PairFile, quick(), write(t, "p.jsonl", pairLines(3)))
	good := &fake{score: likesGood}
	partly := &fake{score: likesGood, fails: func(text string) error {
		if strings.HasSuffix(text, "1") {
			return errors.New("too odd")
		}
		return nil
	}}
	rows, err := set.Score(t.Context(), partly, nil, true, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	r := measured(t, set, scoreSet(t, set, good), rows, quick())
	if r.Items != 2 || r.Metrics[0].Prompts != 2 {
		t.Errorf("%d items, %+v", r.Items, r.Metrics[0])
	}
	if !strings.Contains(strings.Join(r.Notes, "\n"), "1 row could not be scored; the first: ") || !strings.Contains(strings.Join(r.Notes, "\n"), "too odd") {
		t.Errorf("notes %q", r.Notes)
	}
}

// threeBenchmarks is a report of the card's benchmarks.
func threeBenchmarks(t *testing.T) *Report {
	t.Helper()
	report := &Report{Version: "test", Checkpoint: "mine <&>", Compared: "other", Settings: quick(), Model: Model{DType: "float32", Template: "stored", MaxLength: 9}, Other: &Model{}}
	for _, f := range []struct{ bench, file, content string }{
		{Human, "a.jsonl", oneLine(arenaRow, "model_b") + strings.ReplaceAll(oneLine(arenaRow, "model_a"), "hi", "hello")},
		{Truth, "t.csv", "Category,Question,Best Answer,Correct Answers,Incorrect Answers\nC,q,good,good,bad\nD,r,good,good;other,bad;worse\n"},
		{Safety, "s.jsonl", oneLine(safetyRow, true, false)},
	} {
		set := load(t, f.bench, quick(), write(t, f.file, f.content))
		mine := scoreSet(t, set, &fake{score: func(text string) float64 { return float64(seeded(1, text) % 97) }})
		other := scoreSet(t, set, &fake{score: likesGood})
		report.Results = append(report.Results, measured(t, set, mine, other, quick()))
	}
	report.Average()
	return report
}

func TestTheCardsAverageIsThePlainMean(t *testing.T) {
	r := threeBenchmarks(t)
	sum, other := 0.0, 0.0
	for _, x := range r.Results {
		sum += x.Metrics[0].Value
		other += *x.Metrics[0].Other
	}
	if r.Card == nil || math.Abs(r.Card.Value-sum/3) > 1e-12 || math.Abs(*r.Card.Other-other/3) > 1e-12 {
		t.Fatalf("average %+v of %v", r.Card, sum)
	}
	if r.Card.Low > r.Card.Value || r.Card.High < r.Card.Value || math.Abs(r.Card.Difference.Value-(sum-other)/3) > 1e-12 {
		t.Errorf("average %+v", r.Card)
	}
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Starling-RM-34B (its card)       0.807  0.712  0.782   0.767", "Starling-RM-7B-alpha (its card)  0.762  0.684  0.767   0.738", "mine <&>", "Truth (TruthfulQA): 2 prompts, 2 rows, 6 pairs"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, b.String())
		}
	}
	for _, p := range StarlingCard {
		if math.Abs((p.Human+p.Truth+p.Safety)/3-p.Average) > 0.0006 {
			t.Errorf("%s: the average is not that of its row", p.Model)
		}
	}
}

func TestTwoOfThreeHaveNoAverage(t *testing.T) {
	r := threeBenchmarks(t)
	r.Results, r.Card, r.Published = r.Results[:2], nil, nil
	if r.Average(); r.Card != nil || r.Published != nil {
		t.Errorf("average %+v", r.Card)
	}
}

func TestTheCardNamesNoFolders(t *testing.T) {
	s := quick()
	s.SkipBad = true
	path := write(t, "s.jsonl", "{\n"+oneLine(safetyRow, true, false))
	set := load(t, Safety, s, path)
	r := &Report{Results: []*Result{measured(t, set, scoreSet(t, set, &fake{score: likesGood}), nil, s)}, Settings: s}
	card := string(r.Markdown())
	if strings.Contains(card, filepath.Dir(path)) || !strings.Contains(card, "skipped, 1 bad row; the first: s.jsonl:1: not a JSON object") {
		t.Errorf("card:\n%s", card)
	}
}

func TestSavedFilesSayTheSame(t *testing.T) {
	r := threeBenchmarks(t)
	dir := filepath.Join(t.TempDir(), "report")
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 5 {
		t.Fatalf("files %v, error %v", entries, err)
	}
	lines, columns := values(t, filepath.Join(dir, LinesFile)), values(t, filepath.Join(dir, ParquetFile))
	if len(lines) != 5 || len(columns) != len(lines) {
		t.Fatalf("%d lines, %d rows of columns", len(lines), len(columns))
	}
	for i := range lines {
		for name, value := range lines[i] {
			mine, _ := json.Marshal(value)
			other, _ := json.Marshal(columns[i][name])
			if !bytes.Equal(mine, other) {
				t.Errorf("row %d: %s is %s and %s", i, name, mine, other)
			}
		}
	}
	var back Report
	content, err := os.ReadFile(filepath.Join(dir, ResultFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &back); err != nil {
		t.Fatal(err)
	}
	if back.Card.Value != r.Card.Value || back.Settings != r.Settings || len(back.Results) != 3 {
		t.Errorf("read back: %+v", back)
	}
	page, err := os.ReadFile(filepath.Join(dir, PageFile))
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	if strings.Count(text, "<svg") != 9 || strings.Contains(text, "<script") || strings.Contains(text, "src=") || strings.Contains(text, "mine <&>") || !strings.Contains(text, "mine &lt;&amp;&gt;") {
		t.Errorf("the page has %d plots, or something that it should not have", strings.Count(text, "<svg"))
	}
	card, err := os.ReadFile(filepath.Join(dir, MarkdownFile))
	if err != nil || !strings.Contains(string(card), "| Starling-RM-34B (its card) | 0.807 | 0.712 | 0.782 | 0.767 |") {
		t.Errorf("card: %v\n%s", err, card)
	}
}
