package nectar

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func setCores(n int) int { return runtime.GOMAXPROCS(n) }

const lintRows = `{"prompt": "a", "answers": ["xx", "yyy", "zzzz"], "ranks": [1, 2, 3]}
{"prompt": "b", "answers": ["xx", "yyy", "zzzz"], "ranks": [1, 2, 4]}
{"prompt": "c", "answers": ["xx", "yyy", "zzzz"], "ranks": [1, 1, 2]}
{"prompt": "d", "answers": ["xx", "yyy", "zzzz"], "ranks": [3, 1, 1]}
{"prompt": "e", "answers": [" ", "yyy", "yyy"], "ranks": [1, 2, 3]}
{"prompt": "f", "answers": ["no\n\nHuman: more", "Assistant: this"], "ranks": [0, 1]}
not a row
{"prompt": "a", "chosen": "long", "rejected": "no"}
`

func TestLintFindsWhatIsOdd(t *testing.T) {
	path := write(t, "a.jsonl", lintRows)
	r, err := Lint(t.Context(), []string{path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Finding{
		{OddRanks, path, 2, "ranks 1, 2, 4 of 3 answers"},
		{TiedRanks, path, 3, "ranks 1, 1, 2"},
		{TiedRanks, path, 4, "ranks 3, 1, 1"},
		{EmptyAnswer, path, 5, "answer 1 of rank 1"},
		{DuplicateAnswer, path, 5, "answers 2 and 3"},
		{OddRanks, path, 6, "ranks 0, 1 of 2 answers"},
		{LeakedTurn, path, 6, `"Human:" in answer 1 of rank 0`},
		{LeakedTurn, path, 6, `"Assistant:" in answer 2 of rank 1`},
		{BadRow, path, 7, "not JSON: invalid character 'o' in literal null (expecting 'u')"},
		{DuplicatePrompt, path, 8, "an earlier row has this prompt"},
	}
	if !reflect.DeepEqual(r.Findings, want) {
		t.Errorf("findings\n%+v\ninstead of\n%+v", r.Findings, want)
	}
	if r.Groups != 7 || r.Rows != 8 || r.LeftOut != 1 || r.Answers != 19 || r.Prompts != 6 || r.Tokens != nil {
		t.Errorf("report %+v", r)
	}
	if r.Pairs != 15 || r.TiedPairs != 2 || r.TiedGroups != 2 || !reflect.DeepEqual(r.AnswersPerGroup, map[int]int{2: 2, 3: 5}) {
		t.Errorf("report %+v", r)
	}
	// Rows 4 and 8 have 2 pairs and 1 whose better answer is longer, and rows 5 and 6
	// a pair of equal length each.
	if r.LongerWins.Characters != 0.2667 {
		t.Errorf("the longer one wins %v", r.LongerWins)
	}
}

func TestLintCountsTokensWithAnEncoder(t *testing.T) {
	path := write(t, "a.jsonl", fmt.Sprintf(`{"texts": ["river one", "river two three"], "ranks": [1, 2]}
{"texts": ["%s", "x"], "ranks": [1, 2]}
`, strings.Repeat("z", 300)))
	encoder := testEncoder(t)
	r, err := Lint(t.Context(), []string{path}, encoder)
	if err != nil {
		t.Fatal(err)
	}
	k := r.Tokens
	if k == nil || k.TruncatedGroups != 1 || k.SharingGroups != 1 || k.Conversation.Max != 200 || k.Conversation.Count != 4 || k.Prompt.Min != 0 {
		t.Fatalf("tokens %+v", k)
	}
	if k.Total != k.Conversation.Sum || k.Shared != k.Group.Sum || k.Shared != k.Total-int64(k.Prompt.Max) || k.Answer.Sum+2*int64(k.Prompt.Max) != k.Total {
		t.Errorf("the sums do not agree: %+v", k)
	}
	if r.LongerWins != (Wins{0.5, 0.5}) {
		t.Errorf("the longer one wins %+v", r.LongerWins)
	}
	if want := (Finding{TruncatedGroup, path, 2, "1 of 2 conversations"}); !reflect.DeepEqual(r.Findings, []Finding{want}) {
		t.Errorf("findings %+v", r.Findings)
	}
}

func TestDifferentAnswersThatAreTheSameTokensAreFound(t *testing.T) {
	cut := strings.Repeat("z", 300)
	path := write(t, "a.jsonl", fmt.Sprintf(`{"texts": ["a%s", "b%s"], "ranks": [1, 2]}`, cut, cut))
	_, r := prepare(t, Options{Paths: []string{path}, Encoder: testEncoder(t)})
	if r.Totals[SameTokens] != 1 || r.Totals[DuplicateAnswer] != 0 {
		t.Errorf("findings %+v", r.Findings)
	}
}

func TestLintNamesEveryFindingAndPreparedDataAThousandOfAKind(t *testing.T) {
	path := write(t, "a.jsonl", strings.Repeat(`{"prompt": "a", "chosen": "b", "rejected": "c"}`+"\n", 1500))
	r, err := Lint(t.Context(), []string{path}, nil)
	if err != nil || r.Totals[DuplicatePrompt] != 1499 || len(r.Findings) != 1499 {
		t.Errorf("%d of %d findings: %v", len(r.Findings), r.Totals[DuplicatePrompt], err)
	}
	_, r, err = Prepare(t.Context(), Options{Paths: []string{path}, Encoder: testEncoder(t)})
	if err != nil || r.Totals[DuplicatePrompt] != 1499 || len(r.Findings) < maxFindings || len(r.Findings) >= 3*maxFindings {
		t.Errorf("%d of %d findings: %v", len(r.Findings), r.Totals[DuplicatePrompt], err)
	}
}

func TestReportAsJSONHasGroupsAtItsTop(t *testing.T) {
	r, err := Lint(t.Context(), []string{filepath.Join("testdata", "rows.jsonl")}, testEncoder(t))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var top struct {
		Groups   int
		Findings []Finding
		Tokens   struct{ Prompt Histogram }
	}
	if err := json.Unmarshal(text, &top); err != nil || top.Groups != 12 || top.Findings == nil || top.Tokens.Prompt.Count != 12 {
		t.Errorf("%s: %v", text, err)
	}
}

func TestTableShowsCountsLengthsAndFindings(t *testing.T) {
	r, err := Lint(t.Context(), []string{write(t, "a.jsonl", lintRows)}, testEncoder(t))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"8 rows, 7 usable", "7, 1 unusable rows left out", "19 (groups x answers: 2 x 2, 5 x 3)", "15 ranked, 2 tied in 2 groups",
		"tokens of a group", "leaked turn", "row 7", "not JSON"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for v := 1; v <= 100; v++ {
		h.Add(v)
	}
	h.Add(9)
	h.finish()
	want := Histogram{Count: 101, Sum: 5059, Min: 1, Mean: 50.0891, P50: 50, P90: 90, P99: 99, Max: 100, Buckets: []Bucket{
		{1, 1, 1}, {2, 3, 2}, {4, 7, 4}, {8, 15, 9}, {16, 31, 16}, {32, 63, 32}, {64, 127, 37}}}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("%+v", h)
	}
	var none Histogram
	none.finish()
	if !reflect.DeepEqual(none, Histogram{Buckets: []Bucket{}}) {
		t.Errorf("%+v", none)
	}
}
