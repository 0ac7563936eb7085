package bench

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// maxSources is how many sources a table shows; the JSON result has all.
const maxSources = 12

// WriteTable writes what a terminal shows.
func (r *Report) WriteTable(w io.Writer) error {
	var b bytes.Buffer
	for _, x := range r.Results {
		x.table(&b)
	}
	if r.Card != nil {
		r.cardTable(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (r *Result) table(b *bytes.Buffer) {
	fmt.Fprintf(b, "%s: %s, %s, %s\n", r.Title, count(r.Used, "prompt"), count(r.Items, "row"), count(r.Pairs, "pair"))
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	group, sources := groupOverall, 0
	for i, m := range r.Metrics {
		if m.Group == groupSource {
			if sources++; sources > maxSources {
				continue
			}
		}
		if i == 0 || m.Group != group {
			group = m.Group
			fmt.Fprintf(t, "  %s\t\t95%% interval\tpairs%s\n", group, header(m, "\tother\tdifference"))
		}
		fmt.Fprintf(t, "    %s\t%.4f\t%.4f to %.4f\t%s%s\n", m.Name, m.Value, m.Low, m.High, pairs(m), m.compared("\t%.4f\t%+.4f (%+.4f to %+.4f)"))
	}
	_ = t.Flush() // a buffer takes everything
	if sources > maxSources {
		fmt.Fprintf(b, "    and %s more\n", count(sources-maxSources, "source"))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(b, "  note: %s\n", n)
	}
	b.WriteString("\n")
}

func header(m Metric, text string) string {
	if m.Difference == nil {
		return ""
	}
	return text
}

func pairs(m Metric) string {
	if m.Pairs == 0 {
		return "-"
	}
	return fmt.Sprint(m.Pairs)
}

// compared formats the other model's number, the difference and its interval.
func (m Metric) compared(format string) string {
	if m.Difference == nil {
		return ""
	}
	return fmt.Sprintf(format, *m.Other, m.Difference.Value, m.Difference.Low, m.Difference.High)
}

// cardRows are the rows of the model card's table: this model, the other one, and the
// published ones.
func (r *Report) cardRows() [][]string {
	of := map[string]Metric{}
	for _, x := range r.Results {
		of[x.Bench] = x.Metrics[0]
	}
	metrics := []Metric{of[Human], of[Truth], of[Safety], *r.Card}
	mine, other := []string{r.Checkpoint}, []string{r.Compared}
	for _, m := range metrics {
		mine = append(mine, fmt.Sprintf("%.3f", m.Value))
		if m.Other != nil {
			other = append(other, fmt.Sprintf("%.3f", *m.Other))
		}
	}
	rows := [][]string{mine}
	if r.Compared != "" {
		rows = append(rows, other)
	}
	for _, p := range r.Published {
		row := []string{p.Model + " (its card)"}
		for _, x := range []float64{p.Human, p.Truth, p.Safety, p.Average} {
			row = append(row, fmt.Sprintf("%.3f", x))
		}
		rows = append(rows, row)
	}
	return rows
}

func (r *Report) cardTable(b *bytes.Buffer) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "model\thuman\ttruth\tsafety\taverage")
	for _, row := range r.cardRows() {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush() // a buffer takes everything
	fmt.Fprintf(b, "average %.4f, 95%% interval %.4f to %.4f%s\n", r.Card.Value, r.Card.Low, r.Card.High, r.Card.compared("; other %.4f, difference %+.4f (%+.4f to %+.4f)"))
	b.WriteString(cardCaveat + "\n\n")
}

// cardCaveat stands under every table that has the published rows.
const cardCaveat = "The published rows are other samples of prompts, in templates that their card does not name."

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
