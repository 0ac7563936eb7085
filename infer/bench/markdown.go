package bench

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
)

// Markdown is the section for a model card: the headline and the sections of every
// benchmark, and how they were measured.
func (r *Report) Markdown() []byte {
	var b bytes.Buffer
	b.WriteString("## Evaluation\n\n")
	if r.Card != nil {
		b.WriteString("| model | human | truth | safety | average |\n|---|---|---|---|---|\n")
		for i, row := range r.cardRows() {
			if i == 0 {
				row[0] = "this model"
			} else if i == 1 && r.Compared != "" {
				row[0] = escape(filepath.Base(row[0]))
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
		fmt.Fprintf(&b, "\n%s\n\n", cardCaveat)
	}
	b.WriteString("| benchmark | measure | value | 95% interval | prompts | pairs |\n|---|---|---|---|---|---|\n")
	for _, x := range r.Results {
		for i, m := range x.Metrics {
			if i == 0 || m.Group == groupOverall || m.Group == groupSection || m.Name == "length-matched" {
				fmt.Fprintf(&b, "| %s | %s | %.3f | %.3f to %.3f | %d | %s |\n", escape(x.Title), escape(m.Name), m.Value, m.Low, m.High, m.Prompts, pairs(m))
			}
		}
	}
	b.WriteString("\n")
	for _, x := range r.Results {
		for _, n := range x.Notes {
			for _, f := range x.Files { // a card names no folders of the machine
				n = strings.ReplaceAll(n, f.Path, filepath.Base(f.Path))
			}
			fmt.Fprintf(&b, "- %s: %s\n", escape(x.Title), escape(n))
		}
	}
	fmt.Fprintf(&b, "- %s\n\nMeasured by `rmtrain eval` %s.\n", r.how(), r.Version)
	return b.Bytes()
}

// how says under which settings the numbers came about.
func (r *Report) how() string {
	s := r.Settings
	return fmt.Sprintf("chat template: %s; at most %d tokens, %s; accuracy is the mean over %s, a pair of equal scores counts %s (never in RewardBench, where it is wrong); intervals are the middle 95%% of %d bootstrap samples of prompts, seed %d",
		r.Model.Template, r.Model.MaxLength, r.Model.DType, s.Average, s.ScoreTies, s.Resamples, s.Seed)
}

var escapes = strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;")

func escape(s string) string { return escapes.Replace(s) }
