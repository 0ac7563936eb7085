package bench

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var identity = map[string]string{"model": "m"}

func TestAStoppedRunGoesOn(t *testing.T) {
	set := load(t, PairFile, quick(), write(t, "p.jsonl", pairLines(3*maxWindow)))
	path := filepath.Join(t.TempDir(), "journal")
	hash := func(text string) float64 { return float64(seeded(1, text) % 9973) }
	want := scoreSet(t, set, &fake{score: hash})

	j, err := OpenJournal(path, identity, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(path, identity, false); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a journal is opened twice: %v", err)
	}
	if _, err := set.Score(t.Context(), &fake{score: hash, stop: 2}, j, false, func(int) {}); err == nil {
		t.Fatal("the run was not stopped")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, `{"bench":"pairs","id":"half`...), 0o644); err != nil { // what a crash leaves
		t.Fatal(err)
	}
	if j, err = OpenJournal(path, identity, false); err != nil {
		t.Fatal(err)
	}
	if n := j.Rows(); n < 2*maxWindow || n >= 3*maxWindow {
		t.Errorf("%d rows are left", n)
	}
	done, second := 0, &fake{score: hash}
	got, err := set.Score(t.Context(), second, j, true, func(n int) { done += n })
	if err != nil {
		t.Fatal(err)
	}
	if done != set.Conversations() || len(second.texts) >= set.Conversations() {
		t.Errorf("%d of %d conversations done, %d scored again", done, set.Conversations(), len(second.texts))
	}
	for i := range want {
		if got[i].ID != want[i].ID || !slices.Equal(got[i].Scores, want[i].Scores) {
			t.Fatalf("row %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if err := errors.Join(j.Close(), j.Remove()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the journal is still there")
	}
}

func TestAJournalOfAnotherRunIsRefused(t *testing.T) {
	for name, content := range map[string]string{
		"model was": `{"identity":{"model":"n"}}` + "\n", "no identity": "something else\n", "data": `{"identity":{"model":"m","data":"d"}}` + "\n",
	} {
		path := write(t, "journal", content)
		if _, err := OpenJournal(path, identity, false); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", content, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content {
			t.Errorf("it became %q", b)
		}
		j, err := OpenJournal(path, identity, true)
		if err != nil {
			t.Fatal(err)
		}
		if j.Rows() != 0 || j.Close() != nil {
			t.Errorf("%q was not emptied", content)
		}
	}
}

func TestEveryConversationIsEncodedOnce(t *testing.T) {
	set := load(t, PairFile, quick(), write(t, "p.jsonl", pairLines(2*maxWindow)))
	m := &fake{score: likesGood}
	scoreSet(t, set, m)
	if len(m.texts) != set.Conversations() || m.calls < 2 {
		t.Errorf("%d texts of %d conversations were encoded, in %d calls", len(m.texts), set.Conversations(), m.calls)
	}
}

func TestTextsThatCannotBeEncodedAreFoundFirst(t *testing.T) {
	set := load(t, PairFile, quick(), write(t, "p.jsonl", pairLines(2*maxWindow)))
	last := fmt.Sprintf("bad %d", 2*maxWindow-1)
	m := &fake{score: likesGood, fails: func(text string) error {
		if text == last {
			return errors.New("it is odd")
		}
		return nil
	}}
	_, err := set.Score(t.Context(), m, nil, false, func(int) {})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("p.jsonl:%d: 1: it is odd", 2*maxWindow)) {
		t.Errorf("error %v", err)
	}
	if m.calls != 0 {
		t.Errorf("%d batches were scored before", m.calls)
	}
	if again := set.Check(t.Context(), m, false); again == nil || again.Error() != err.Error() {
		t.Errorf("Check says %v, Score %v", again, err)
	}
	if err := set.Check(t.Context(), m, true); err != nil {
		t.Errorf("Check of rows that may be skipped: %v", err)
	}
}

func TestScoresThatAreNoNumbersAreAnError(t *testing.T) {
	set := load(t, PairFile, quick(), write(t, "p.jsonl", pairLines(2)))
	for _, x := range []float64{math.NaN(), math.Inf(1)} {
		_, err := set.Score(t.Context(), &fake{score: func(string) float64 { return x }}, nil, true, func(int) {})
		if err == nil || !strings.Contains(err.Error(), "p.jsonl:1: the score of 0 is not a finite number") {
			t.Errorf("%v: error %v", x, err)
		}
	}
}

func TestASampleDependsOnSeedAndPromptsAlone(t *testing.T) {
	lines := slices.Collect(strings.Lines(pairLines(60)))
	lines = append(lines, strings.Replace(lines[5], "good", "very good", 1)) // two rows of one prompt
	s := quick()
	s.Limit = 10
	names := func(lines []string, s Settings) []string {
		set := load(t, PairFile, s, write(t, "p.jsonl", strings.Join(lines, "")))
		if set.Prompts != 60 || !set.Sampled {
			t.Errorf("%d prompts, sampled: %t", set.Prompts, set.Sampled)
		}
		var out []string
		for _, it := range set.Items {
			if !slices.Contains(out, it.Prompt) {
				out = append(out, it.Prompt)
			}
		}
		return out
	}
	first := names(lines, s)
	if len(first) != 10 {
		t.Fatalf("%d prompts are chosen", len(first))
	}
	slices.Reverse(lines)
	second := names(lines, s)
	slices.Reverse(second)
	slices.Sort(first)
	slices.Sort(second)
	if !slices.Equal(first, second) {
		t.Errorf("%v, in another order %v", first, second)
	}
	s.Seed++
	if other := names(lines, s); slices.Equal(first, slices.Sorted(slices.Values(other))) {
		t.Error("another seed chooses the same")
	}
}
