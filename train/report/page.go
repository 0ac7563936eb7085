package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
)

//go:embed style.css
var style string

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":  func() template.CSS { return template.CSS(style) },
	"lastOf": LastOf,
}).Parse(pageText))

// A Page is the report of a run, one file that needs no other. What is empty is
// left out.
type Page struct {
	Name      string // of the run
	Run       Run
	Outcome   []Fact // what was reached, most important first
	Best      int    // the step of the best evaluation
	Curves    []byte // SVG
	Data      string // what was found in the training data, a table of text
	Samples   []Sample
	SamplesOf string // where the samples are from
}

// A Fact is a number with its name.
type Fact struct {
	Name, Value string
	Note        string // below it
}

// A Sample is a prompt whose answers were scored.
type Sample struct {
	Source  string // file and row
	Prompt  string
	Answers []Answer
}

// An Answer is one of a prompt's, and what was made of it.
type Answer struct {
	Text  string
	Rank  float64 // in the data, the smallest is best
	Score float64
}

// Write writes the page. metrics are the lines of metrics.jsonl, from which it takes
// evaluations and speeds.
func (p *Page) Write(w io.Writer, metrics []byte) error {
	log, err := readLog(metrics)
	if err != nil {
		return fmt.Errorf("report: %s: %w", MetricsFile, err)
	}
	var b bytes.Buffer
	err = pageTemplate.Execute(&b, struct {
		*Page
		Evaluations []evaluation
		Speeds      []speed
		Curves      template.HTML
		Samples     []shownSample
	}{p, log.evaluations(p.Best), log.speeds(), inlineSVG(p.Curves), showSamples(p.Samples)})
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// inlineSVG leaves out what stands before the picture in a file of its own. Curves
// are drawn by this program, so they need no escaping.
func inlineSVG(svg []byte) template.HTML {
	if at := bytes.Index(svg, []byte("<svg")); at >= 0 {
		return template.HTML(svg[at:])
	}
	return ""
}

// A log is the lines of metrics.jsonl.
type log []logLine

type logLine struct {
	Step         int      `json:"step"`
	Epoch        float64  `json:"epoch"`
	Prompts      *float64 `json:"prompts_per_second"`
	Tokens       *float64 `json:"tokens_per_second"`
	Rows         *float64 `json:"rows_per_second"`
	Utilization  *float64 `json:"model_flops_utilization"`
	EvalLoss     *float64 `json:"eval_loss"`
	EvalAccuracy float64  `json:"eval_pairwise_accuracy"`
	EvalGroups   int      `json:"eval_groups"`
}

func readLog(metrics []byte) (log, error) {
	var l log
	for line := range bytes.Lines(metrics) {
		var m logLine
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(l)+1, err)
		}
		l = append(l, m)
	}
	return l, nil
}

type evaluation struct {
	Step, Groups   int
	Epoch          float64
	Loss, Accuracy float64
	Best           bool
}

func (l log) evaluations(best int) []evaluation {
	var all []evaluation
	for _, m := range l {
		if m.EvalLoss != nil {
			all = append(all, evaluation{m.Step, m.EvalGroups, m.Epoch, *m.EvalLoss, m.EvalAccuracy, m.Step == best})
		}
	}
	return all
}

// A speed is a throughput over the lines of the log.
type speed struct {
	Name             string
	Median, Low, Top string
}

func (l log) speeds() []speed {
	var all []speed
	for _, s := range []struct {
		name  string
		of    func(logLine) *float64
		write func(float64) string
	}{
		{"prompts per second", func(m logLine) *float64 { return m.Prompts }, brief},
		{"tokens per second, of whole conversations", func(m logLine) *float64 { return m.Tokens }, brief},
		{"tokens per second, computed after sharing prompts", func(m logLine) *float64 { return m.Rows }, brief},
		{"share of the machine's peak", func(m logLine) *float64 { return m.Utilization }, percent},
	} {
		var xs []float64
		for _, m := range l {
			if x := s.of(m); x != nil {
				xs = append(xs, *x)
			}
		}
		if slices.Sort(xs); len(xs) == 0 || xs[len(xs)-1] == 0 {
			continue // there are none, or the peak is not known
		}
		all = append(all, speed{s.name, s.write(xs[len(xs)/2]), s.write(xs[0]), s.write(xs[len(xs)-1])})
	}
	return all
}

// LastOf shortens a path to its last two elements, which tell runs apart.
func LastOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	return strings.Join(parts[max(0, len(parts)-2):], "/")
}

func percent(x float64) string { return fmt.Sprintf("%.0f%%", 100*x) }

// brief writes a number with three digits, such as 53.6k.
func brief(x float64) string {
	unit := ""
	for _, u := range []string{"k", "M", "G", "T"} {
		if math.Abs(x) < 999.5 {
			break
		}
		x, unit = x/1000, u
	}
	decimals := 2
	switch size := math.Abs(x); {
	case size >= 99.95:
		decimals = 0
	case size >= 9.995:
		decimals = 1
	}
	return fmt.Sprintf("%.*f%s", decimals, x, unit)
}

// A shownSample is a sample with its answers from the best score to the worst.
type shownSample struct {
	Source, Prompt string
	Answers        []shownAnswer
	Right, Pairs   int // ranked pairs that the scores order rightly, and all
}

type shownAnswer struct {
	Text, Score, Rank string
	Share             float64 // 0 for the worst score of the sample, 100 for the best
	Low               bool    // some answer of a worse rank has a better score
}

func showSamples(samples []Sample) []shownSample {
	shown := make([]shownSample, len(samples))
	for i, s := range samples {
		shown[i] = show(s)
	}
	return shown
}

func show(s Sample) shownSample {
	answers := slices.Clone(s.Answers)
	slices.SortStableFunc(answers, func(a, b Answer) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return 0
	})
	out := shownSample{Source: s.Source, Prompt: strings.TrimSpace(s.Prompt)}
	for i, a := range answers {
		shown := shownAnswer{Text: strings.TrimSpace(a.Text), Score: fmt.Sprintf("%.3f", a.Score), Rank: fmt.Sprint(a.Rank), Share: 100}
		if span := answers[0].Score - answers[len(answers)-1].Score; span > 0 {
			shown.Share = 100 * (a.Score - answers[len(answers)-1].Score) / span
		}
		for _, b := range answers[:i] {
			switch {
			case a.Rank > b.Rank && a.Score < b.Score:
				out.Right++
			case a.Rank < b.Rank && a.Score < b.Score:
				shown.Low = true
			}
			if a.Rank != b.Rank {
				out.Pairs++
			}
		}
		out.Answers = append(out.Answers, shown)
	}
	return out
}
