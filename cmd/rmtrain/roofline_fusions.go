package main

import (
	"fmt"
	"strings"

	"rmtrain/kernels/cost"
)

// fusions tells what kernels that do several operations at once could save at most: on one
// card in each mode, and where it is the most.
func (p *rooflinePage) fusions(card cost.Card) {
	p.say("## What fusions could save\n")
	p.say("None of these is built. They save reading, writing and launches; what they add to a matrix product is taken to be free.")
	p.say("So these are the largest shares, in %%, of the predicted step on an %s that they can save; `most` names the", card.Title)
	p.say("card and the mode with the largest of all.\n")
	p.WriteString("| fusion")
	for _, mode := range rooflineModes {
		p.WriteString(" | " + mode.name)
	}
	p.say(" | most | bits |\n|---%s|", strings.Repeat("|---", len(rooflineModes)+2))
	for _, f := range cost.Fusions {
		p.WriteString("| " + strings.ReplaceAll(f.Name, "|", "\\|"))
		for i := range rooflineModes {
			fmt.Fprintf(p, " | %.2f", 100*p.saved(card, f, i))
		}
		bits := map[bool]string{true: "the same", false: "others"}[f.SameBits]
		p.say(" | %s | %s |", p.most(f), bits)
	}
	p.say("")
	p.say("| fusion | |\n|---|---|")
	for _, f := range cost.Fusions {
		p.say("| %s | %s |", strings.ReplaceAll(f.Name, "|", "\\|"), f.Note)
	}
	p.say("")
}

// saved returns the share of a mode's step on a card.
func (p *rooflinePage) saved(c cost.Card, f cost.Fusion, mode int) float64 {
	entries := p.modes[mode].entries
	return c.Saved(f, entries, p.o.assume) / c.Total(entries, "", p.o.assume)
}

// most says where a fusion saves the largest share, and how much.
func (p *rooflinePage) most(f cost.Fusion) string {
	where, share := "", 0.
	for _, c := range cost.Cards {
		for i, mode := range rooflineModes {
			if s := p.saved(c, f, i); s > share {
				where, share = c.Title+", "+mode.name, s
			}
		}
	}
	return fmt.Sprintf("%.2f: %s", 100*share, where)
}
