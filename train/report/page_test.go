package report

import (
	"io"
	"strings"
	"testing"
)

const curves = `<?xml version="1.0"?>
<!-- drawn --><svg width="9pt" xmlns="http://www.w3.org/2000/svg"><path d="M0,0" style="fill:#FFFFFF" /></svg>`

func fullPage() *Page {
	return &Page{
		Name: "runs/a", Run: Run{Model: "/models/org/base", Groups: 960, EvalGroups: 120, Config: "train:\n  seed: 0 # <b>\n"},
		Best:    20,
		Outcome: []Fact{{"Held-out accuracy", "0.990", "pairwise"}},
		Curves:  []byte(curves), Data: "groups  960", SamplesOf: "evaluation data",
		Samples: []Sample{{Source: "test.parquet:1", Prompt: "Ask <script>alert(1)</script>\n", Answers: []Answer{
			{"worst <img src=x>", 3, -1.5}, {"best", 1, 2.5}, {"middle", 2, -2},
		}}},
	}
}

func write(t *testing.T, p *Page, metrics string) string {
	t.Helper()
	var b strings.Builder
	check(t, p.Write(&b, []byte(metrics)))
	return b.String()
}

func TestThePageHasEverything(t *testing.T) {
	page := write(t, fullPage(), logged)
	at := 0
	for _, part := range []string{
		"<title>runs/a: training report</title>", "org/base on 960 groups of ranked answers, evaluated on 120", "Held-out accuracy", "0.990",
		`<svg width="9pt"`, "Evaluation", `class="best"><td>20`, "0.8000", "Samples of the evaluation data", "Ask &lt;script&gt;", "test.parquet:1: 2 of 3 ranked pairs in the right order",
		"2.500", "rank 1", "best", "-1.500", "rank 3", "worst &lt;img src=x&gt;", `class="low"`, "-2.000", "rank 2, too low", "middle",
		"Training data", "groups  960", "Configuration", "seed: 0 # &lt;b&gt;",
	} {
		next := strings.Index(page[at:], part)
		if next < 0 {
			t.Fatalf("%q is missing or out of order in\n%s", part, page[at:])
		}
		at += next
	}
}

func TestThePageNeedsNoOtherFile(t *testing.T) {
	page := write(t, fullPage(), logged)
	if i := strings.Index(page, "<script"); i >= 0 {
		t.Errorf("there is a script: %.80s", page[i:])
	}
	if !strings.Contains(page, `content="default-src 'none'; style-src 'unsafe-inline'"`) || strings.Contains(page, "url(") || strings.Contains(page, "@import") {
		t.Error("the page asks for files, or may")
	}
}

func TestWhatIsNotThereIsLeftOut(t *testing.T) {
	page := write(t, &Page{Name: "a"}, "")
	for _, part := range []string{"Curves", "Evaluation", "Throughput", "Samples", "Training data", "Configuration", "NaN"} {
		if strings.Contains(page, part) {
			t.Errorf("%q is there", part)
		}
	}
}

func TestThroughputIsThatOfTheLog(t *testing.T) {
	page := write(t, &Page{Name: "a"}, `{"step":1,"prompts_per_second":10,"tokens_per_second":53551,"model_flops_utilization":0}
{"step":2,"prompts_per_second":30,"tokens_per_second":1}
{"step":2,"eval_loss":1}
{"step":3,"prompts_per_second":20,"tokens_per_second":2}
`)
	for _, part := range []string{
		`prompts per second</td><td class="number">20.0</td><td class="number">10.0</td><td class="number">30.0</td>`,
		`of whole conversations</td><td class="number">2.00</td><td class="number">1.00</td><td class="number">53.6k</td>`,
	} {
		if !strings.Contains(page, part) {
			t.Errorf("%q is missing", part)
		}
	}
	if strings.Contains(page, "peak") {
		t.Error("a peak that is not known is shown")
	}
}

func TestADamagedLogIsAnError(t *testing.T) {
	err := fullPage().Write(io.Discard, []byte("{\"step\":1}\n{\n"))
	if err == nil || !strings.Contains(err.Error(), "metrics.jsonl: line 2") {
		t.Errorf("error is %v", err)
	}
}

func TestTiedScoresAndRanks(t *testing.T) {
	s := show(Sample{Answers: []Answer{{"a", 1, 0.5}, {"b", 1, 0.5}, {"c", 2, 0.5}}})
	if s.Right != 0 || s.Pairs != 2 || s.Answers[2].Share != 100 || s.Answers[0].Low || s.Answers[0].Text != "a" {
		t.Errorf("shown is %+v", s)
	}
}

func TestBriefHasThreeDigits(t *testing.T) {
	for x, want := range map[float64]string{0: "0.00", 9.994: "9.99", 9.996: "10.0", 99.96: "100", 999.6: "1.00k", 53551: "53.6k", -2e7: "-20.0M", 5e12: "5.00T"} {
		if got := brief(x); got != want {
			t.Errorf("%g is %q, want %q", x, got, want)
		}
	}
}
