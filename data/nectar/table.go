package nectar

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// namedFindings is how many findings of a kind a table shows.
const namedFindings = 3

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	var b bytes.Buffer
	r.writeCounts(&b)
	r.writeLengths(&b)
	r.writeFindings(&b)
	_, err := w.Write(b.Bytes())
	return err
}

// columnsOf returns a writer that aligns columns divided by tabs.
func columnsOf(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

func (r *Report) writeCounts(w io.Writer) {
	t := columnsOf(w)
	defer t.Flush()
	for _, f := range r.Files {
		fmt.Fprintf(w, "%s: %d rows, %d usable\n", f.Path, f.Rows, f.Groups)
	}
	fmt.Fprintf(t, "groups\t%d%s\n", r.Groups, r.asides())
	fmt.Fprintf(t, "prompts\t%d different\n", r.Prompts)
	var sizes []string
	for _, k := range slices.Sorted(maps.Keys(r.AnswersPerGroup)) {
		sizes = append(sizes, fmt.Sprintf("%d x %d", r.AnswersPerGroup[k], k))
	}
	fmt.Fprintf(t, "answers\t%d (groups x answers: %s)\n", r.Answers, strings.Join(sizes, ", "))
	fmt.Fprintf(t, "pairs\t%d ranked, %d tied in %d groups\n", r.Pairs, r.TiedPairs, r.TiedGroups)
	fmt.Fprintf(t, "longer answer wins\t%.1f%% of pairs by characters", 100*r.LongerWins.Characters)
	if r.Tokens != nil {
		fmt.Fprintf(t, ", %.1f%% by tokens", 100*r.LongerWins.Tokens)
	}
	fmt.Fprintln(t)
	if k := r.Tokens; k != nil {
		fmt.Fprintf(t, "tokens\t%d in all conversations\n", k.Total)
		fmt.Fprintf(t, "shared prompts\t%d groups share a prefix: %d tokens to compute, %.1f%% saved\n", k.SharingGroups, k.Shared, 100*share(float64(k.Total-k.Shared), int(k.Total)))
		fmt.Fprintf(t, "truncated\t%d groups (%.1f%%)\n", k.TruncatedGroups, 100*share(float64(k.TruncatedGroups), r.Groups))
	}
}

// asides says which groups are not trained on.
func (r *Report) asides() string {
	var s string
	if r.LeftOut > 0 {
		s += fmt.Sprintf(", %d unusable rows left out", r.LeftOut)
	}
	if r.Excluded > 0 {
		s += fmt.Sprintf(", %d of them left out because the evaluation has their prompt", r.Excluded)
	}
	if r.HeldOut > 0 {
		s += fmt.Sprintf(", %d of them held out for evaluation", r.HeldOut)
	}
	return s
}

func (r *Report) writeLengths(w io.Writer) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "length\tmin\tmean\tp50\tp90\tp99\tmax\t")
	rows := []struct {
		name string
		h    Histogram
	}{{"characters of an answer", r.Characters}}
	if k := r.Tokens; k != nil {
		rows = append(rows, []struct {
			name string
			h    Histogram
		}{
			{"tokens of a shared prompt", k.Prompt}, {"tokens of an answer", k.Answer},
			{"tokens of a conversation", k.Conversation}, {"tokens of a group", k.Group},
		}...)
	}
	for _, row := range rows {
		h := row.h
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%d\t%d\t%d\t%d\t\n", row.name, h.Min, h.Mean, h.P50, h.P90, h.P99, h.Max)
	}
	t.Flush()
}

func (r *Report) writeFindings(w io.Writer) {
	if len(r.Totals) == 0 {
		fmt.Fprint(w, "\nno findings\n")
		return
	}
	fmt.Fprintln(w)
	t := columnsOf(w)
	defer t.Flush()
	for _, kind := range slices.Sorted(maps.Keys(r.Totals)) {
		fmt.Fprintf(t, "%s\t%d\n", strings.ReplaceAll(kind, "_", " "), r.Totals[kind])
		shown := 0
		for _, f := range r.Findings {
			if f.Kind == kind && shown < namedFindings {
				fmt.Fprintf(t, "  %s\t%s\n", r.place(f), f.Detail)
				shown++
			}
		}
	}
}

// place names the row of a finding, and its file if there are several.
func (r *Report) place(f Finding) string {
	if len(r.Files) == 1 {
		return fmt.Sprintf("row %d", f.Row)
	}
	return fmt.Sprintf("%s:%d", f.File, f.Row)
}
