package bench

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// A Report is everything that was measured.
type Report struct {
	Version    string    `json:"version"`
	Checkpoint string    `json:"checkpoint"`
	Compared   string    `json:"compared,omitempty"` // the other checkpoint
	Model      Model     `json:"model"`
	Other      *Model    `json:"other_model,omitempty"`
	Settings   Settings  `json:"settings"`
	Results    []*Result `json:"results"`
	// Card is the plain mean of human, truth and safety, if all three were measured.
	Card      *Metric     `json:"card_average,omitempty"`
	Published []Published `json:"published,omitempty"`
}

// A Model is how a checkpoint was read.
type Model struct {
	DType     string            `json:"dtype"`
	Device    string            `json:"device"`
	MaxLength int               `json:"max_length"`
	Template  string            `json:"template"` // stored, transcript, or a file's name
	Identity  map[string]string `json:"identity"`
}

// A Published row is what the model card of another model says.
type Published struct {
	Model   string  `json:"model"`
	Human   float64 `json:"human"`
	Truth   float64 `json:"truth"`
	Safety  float64 `json:"safety"`
	Average float64 `json:"average"`
}

// StarlingCard is the table in the model card of Starling-RM-34B.
var StarlingCard = []Published{
	{"Starling-RM-34B", 0.807, 0.712, 0.782, 0.767},
	{"Starling-RM-7B-alpha", 0.762, 0.684, 0.767, 0.738},
}

// A Result is one benchmark.
type Result struct {
	Bench     string         `json:"bench"`
	Title     string         `json:"title"`
	Files     []File         `json:"files"`
	Rows      int            `json:"rows"`               // of the files
	Prompts   int            `json:"prompts"`            // in them
	Used      int            `json:"used_prompts"`       //
	Items     int            `json:"used_rows"`          //
	Pairs     int            `json:"pairs"`              //
	LeftOut   map[string]int `json:"left_out,omitempty"` // rows, by why
	Bad       int            `json:"bad_rows,omitempty"` // skipped
	Truncated int            `json:"truncated"`          // conversations
	Metrics   []Metric       `json:"metrics"`            // the first is the headline
	Notes     []string       `json:"notes,omitempty"`    // what a reader must know
	Curve     Curve          `json:"curve"`              //
	headline  [2][]float64   `json:"-"`                  // resamples of the headline and of its difference
	set       *Set           `json:"-"`                  //
	rows      [2][]Row       `json:"-"`                  // of this model and the other
}

// Curve is what the plots show.
type Curve struct {
	Better      []float64        `json:"-"` // scores of answers that should be better
	Worse       []float64        `json:"-"`
	Reliability []ReliabilityBin `json:"reliability"`
}

// A Metric is a number with the middle 95% of its bootstrap distribution.
type Metric struct {
	Group   string  `json:"group"`
	Name    string  `json:"name"`
	Prompts int     `json:"prompts"`
	Pairs   int     `json:"pairs,omitempty"`
	Value   float64 `json:"value"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	// Other is the same of the other checkpoint.
	Other *float64 `json:"other,omitempty"`
	// Difference is this checkpoint's value minus the other's, on the same rows.
	Difference *Difference `json:"difference,omitempty"`
}

// A Difference is paired: both models have the same resamples.
type Difference struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Measure evaluates the rows of a set, and, if there are any, those of another model.
func Measure(set *Set, rows, other []Row, s Settings) (*Result, error) {
	b, _ := find(set.Bench)
	r := &Result{Bench: set.Bench, Title: b.title, Files: set.Files, Rows: set.Rows, Prompts: set.Prompts, LeftOut: set.LeftOut, Bad: set.Bad, set: set, rows: [2][]Row{rows, other}}
	if other != nil { // only what both have scored can be compared
		rows, other = slices.Clone(rows), slices.Clone(other)
		for i := range rows {
			if rows[i].Error != "" || other[i].Error != "" {
				rows[i].Error, other[i].Error = "not scored", "not scored"
			}
		}
	}
	board := newBoard(set.Bench, set.Items, rows, s)
	if len(board.items) == 0 {
		return nil, fmt.Errorf("eval: %s: no row could be scored; the first: %s", set.Bench, r.firstError())
	}
	r.Used, r.Items, r.Pairs = len(board.strata), len(board.items), len(board.pairs)
	r.Truncated = board.truncated()
	r.Curve = board.curve()
	r.notes(board, s)
	var against []measure
	if other != nil {
		against = newBoard(set.Bench, set.Items, other, s).measures()
	}
	if err := r.evaluate(board, against, s); err != nil {
		return nil, err
	}
	return r, nil
}

// evaluate fills Metrics.
func (r *Result) evaluate(b *board, against []measure, s Settings) error {
	ms := b.measures()
	stats := make([]statistic, 0, 2*len(ms))
	for _, m := range ms {
		stats = append(stats, m.at)
	}
	for i, m := range against {
		if i >= len(ms) || m.name != ms[i].name || m.group != ms[i].group {
			return errors.New("eval: the models were not measured on the same rows")
		}
		stats = append(stats, m.at)
	}
	samples := bootstrap(stats, b.strata, s.Resamples, seeded(s.Seed, r.Bench))
	all := once(len(b.strata))
	for i, m := range ms {
		value := m.at(all)
		if math.IsNaN(value) {
			continue
		}
		out := Metric{Group: m.group, Name: m.name, Prompts: m.prompts, Pairs: m.pairs, Value: value}
		out.Low, out.High = interval(samples[i])
		if math.IsNaN(out.Low) { // no resample has what it is made of
			out.Low, out.High = value, value
		}
		var differences []float64
		if against != nil {
			differences = out.against(against[i].at(all), samples[i], samples[len(ms)+i])
		}
		if len(r.Metrics) == 0 {
			r.headline = [2][]float64{samples[i], differences}
		}
		r.Metrics = append(r.Metrics, out)
	}
	return nil
}

// against compares a metric with the other model's, and returns the resampled
// differences.
func (m *Metric) against(other float64, mine, theirs []float64) []float64 {
	differences := make([]float64, len(mine))
	for i := range mine {
		differences[i] = mine[i] - theirs[i]
	}
	low, high := interval(differences)
	if math.IsNaN(low) {
		low, high = m.Value-other, m.Value-other
	}
	m.Other = &other
	m.Difference = &Difference{m.Value - other, low, high}
	return differences
}

// Average fills Card from the results of human, truth and safety, which are independent
// of each other, so that their resamples may be added.
func (r *Report) Average() {
	three := map[string]*Result{}
	for _, x := range r.Results {
		three[x.Bench] = x
	}
	var parts []*Result
	for _, name := range []string{Human, Truth, Safety} {
		if three[name] == nil {
			return
		}
		parts = append(parts, three[name])
	}
	card := Metric{Group: groupOverall, Name: "average"}
	var samples [2][]float64
	other := 0.0
	for _, p := range parts {
		m := p.Metrics[0]
		card.Value += m.Value / 3
		card.Prompts += m.Prompts
		card.Pairs += m.Pairs
		for k := range samples {
			if samples[k] == nil {
				samples[k] = make([]float64, len(p.headline[k]))
			}
			for i, x := range p.headline[k] {
				samples[k][i] += x / 3
			}
		}
		if m.Other != nil {
			other += *m.Other / 3
		}
	}
	card.Low, card.High = interval(samples[0])
	if parts[0].Metrics[0].Other != nil {
		low, high := interval(samples[1])
		card.Other, card.Difference = &other, &Difference{card.Value - other, low, high}
	}
	r.Card, r.Published = &card, StarlingCard
}

// firstError is why the first row that has no scores has none.
func (r *Result) firstError() string {
	for i, it := range r.set.Items {
		for _, rows := range r.rows {
			if rows != nil && rows[i].Error != "" {
				return it.ID + ": " + rows[i].Error
			}
		}
	}
	return ""
}

func (b *board) conversations() int {
	n := 0
	for _, it := range b.items {
		n += len(it.Completions)
	}
	return n
}

func (b *board) truncated() int {
	n := 0
	for _, r := range b.rows {
		for _, t := range r.Truncated {
			if t {
				n++
			}
		}
	}
	return n
}

// curve collects the scores of completions on the better and on the worse side of a
// pair. Of a ranking those are the best and the worst.
func (b *board) curve() Curve {
	c := Curve{Reliability: reliability(b.pairs)}
	for i, it := range b.items {
		best, worst := it.Completions[0].Rank, it.Completions[0].Rank
		for _, x := range it.Completions {
			best, worst = min(best, x.Rank), max(worst, x.Rank)
		}
		for k, x := range it.Completions {
			switch x.Rank {
			case best:
				c.Better = append(c.Better, b.rows[i].Scores[k])
			case worst:
				c.Worse = append(c.Worse, b.rows[i].Scores[k])
			}
		}
	}
	return c
}

// notes says in what the result is not what its name promises.
func (r *Result) notes(b *board, s Settings) {
	add := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	for _, reason := range slices.Sorted(maps.Keys(r.LeftOut)) {
		add("left out, %s: %s", count(r.LeftOut[reason], "row"), reason)
	}
	if r.Bad > 0 {
		add("skipped, %s; the first: %s", count(r.Bad, "bad row"), r.set.FirstBad)
	}
	if n := len(r.set.Items) - len(b.items); n > 0 {
		add("%s could not be scored; the first: %s", count(n, "row"), r.firstError())
	}
	if r.set.Sampled {
		add("a sample of %d of %d prompts (seed %d)", r.Used, r.Prompts, s.Seed)
	}
	if r.Truncated > 0 {
		add("%d of %d conversations were truncated", r.Truncated, b.conversations())
	}
	if r.rows[1] != nil && slices.EqualFunc(r.rows[0], r.rows[1], func(a, b Row) bool { return slices.Equal(a.Scores, b.Scores) }) {
		add("both models give every conversation the same score (are they the same one?)")
	}
	if r.Bench == RewardBench {
		if differ := unpublished(b); differ != "" {
			add("this is not the published benchmark: %s", differ)
		}
	}
}

// unpublished says in which subsets rows are missing or too many.
func unpublished(b *board) string {
	counts := map[string]int{}
	for _, it := range b.items {
		counts[it.Subset]++
	}
	wrong, first := 0, ""
	for _, s := range sections {
		for _, name := range s.subsets {
			if counts[name] != rowsOf(name) {
				if wrong++; wrong == 1 {
					first = fmt.Sprintf("%s has %d rows instead of %d", name, counts[name], rowsOf(name))
				}
			}
		}
	}
	switch {
	case wrong == 2:
		first += ", and another subset differs too"
	case wrong > 2:
		first += fmt.Sprintf(", and %d other subsets differ too", wrong-1)
	}
	return first
}
