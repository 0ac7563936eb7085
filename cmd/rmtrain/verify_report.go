package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"rmtrain/kernels"
)

// A verifyReport is what verify found, as --json prints it.
type verifyReport struct {
	Checkpoint    string       `json:"checkpoint"`
	Backend       string       `json:"backend"`
	DType         string       `json:"dtype"`
	Conversations int          `json:"conversations"`
	Given         int          `json:"given_requests"` // of the user
	Scale         float64      `json:"largest_score"`  // in size
	Notes         []string     `json:"notes,omitempty"`
	LeftOut       []leftOut    `json:"left_out,omitempty"`
	Paths         []pathReport `json:"paths"`
	OK            bool         `json:"ok"`
}

// leftOut is a built-in conversation that the model has no form for.
type leftOut struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// A pathReport is one row of the table.
type pathReport struct {
	Path          string     `json:"path"`
	Conversations int        `json:"conversations"` // scores that were compared
	Difference    difference `json:"largest_difference"`
	Tolerance     float64    `json:"tolerance"`
	Verdict       string     `json:"verdict"`
	Error         string     `json:"error,omitempty"`
	Worst         *worst     `json:"worst,omitempty"` // where the largest difference is, unless it is 0
}

// Verdicts.
const (
	verdictSame   = "ok"
	verdictOther  = "DIFFERS"
	verdictFailed = "ERROR"
)

// worst is the conversation with the largest difference.
type worst struct {
	Name      string  `json:"conversation"`
	Reference float64 `json:"reference"`
	Score     string  `json:"score"` // a text, because it may be no finite number
	score     float64
}

// A difference of scores is infinite if one of them is no finite number.
type difference float64

// MarshalJSON writes null for an infinite difference, which JSON has no number for.
func (d difference) MarshalJSON() ([]byte, error) {
	if math.IsInf(float64(d), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(d))
}

func differenceOf(a, b float64) difference {
	d := math.Abs(a - b)
	if math.IsNaN(d) {
		d = math.Inf(1)
	}
	return difference(d)
}

const (
	verifyHead = "%-31s %13s  %18s  %9s  %s\n"
	verifyRow  = "%-31s %13d  %18s  %9s  %s\n"
)

// describe prints what is compared.
func (v *verification) describe(l verifyLimits, given int) {
	r := &v.report
	r.Checkpoint, r.Backend, r.DType = v.o.checkpoint, v.b.Name(), dtypeNames[0]
	if v.dt == kernels.BF16 {
		r.DType = dtypeNames[1]
	}
	r.Conversations, r.Given, r.OK = len(v.ids), given, true
	fmt.Fprintf(v.table, "%s in %s on %s: %s of %s, %d of them given\n", r.Checkpoint, r.DType, r.Backend, count(len(v.ids), "conversation"), count(len(v.cases), "request"), given)
	if !l.reachable() {
		v.note("no built-in conversation is cut, because the model keeps %d tokens (--max-length makes it keep fewer; 0 is no limit)", l.maxLength)
	}
	v.sayLeftOut()
	fmt.Fprintf(v.table, "\n"+verifyHead, "path", "conversations", "largest difference", "tolerance", "verdict")
}

// sayLeftOut prints what is left out, a line for each reason.
func (v *verification) sayLeftOut() {
	var reasons []string
	names := map[string][]string{}
	for _, o := range v.report.LeftOut {
		why := strings.TrimPrefix(o.Why, "answers[0]: ")
		if names[why] == nil {
			reasons = append(reasons, why)
		}
		names[why] = append(names[why], o.Name)
	}
	for _, why := range reasons {
		n := names[why]
		fmt.Fprintf(v.table, "left out: %s", n[0])
		if len(n) > 1 {
			fmt.Fprintf(v.table, " and %d more", len(n)-1)
		}
		fmt.Fprintf(v.table, ": %s\n", why)
	}
}

func (v *verification) note(format string, args ...any) {
	n := fmt.Sprintf(format, args...)
	v.report.Notes = append(v.report.Notes, n)
	fmt.Fprintln(v.table, "note:", n)
}

// record compares the scores that a path found with the reference, and reports.
func (v *verification) record(name string, tolerance float64, scores []found, err error) {
	r := pathReport{Path: name, Conversations: len(scores), Tolerance: tolerance, Verdict: verdictSame}
	for _, f := range scores {
		if d := differenceOf(f.score, v.reference[f.at]); d > r.Difference {
			r.Difference = d
			r.Worst = &worst{v.names[f.at], v.reference[f.at], strconv.FormatFloat(f.score, 'g', -1, 64), f.score}
		}
	}
	switch {
	case err != nil:
		r.Verdict, r.Error = verdictFailed, err.Error()
	case len(scores) == 0:
		r.Verdict, r.Error = verdictFailed, "nothing could be compared"
	case float64(r.Difference) > tolerance:
		r.Verdict = verdictOther
	}
	v.add(r)
	if r.Verdict == verdictOther && v.squashed(scores) {
		v.note("these are sigmoids of the rewards (in vLLM: use_activation must be false, and problem_type regression)")
	}
}

// add prints a row.
func (v *verification) add(r pathReport) {
	v.report.Paths = append(v.report.Paths, r)
	v.report.OK = v.report.OK && r.Verdict == verdictSame
	largest := fmt.Sprintf("%.3g", float64(r.Difference))
	if r.Verdict == verdictFailed {
		largest = "-"
	}
	fmt.Fprintf(v.table, verifyRow, r.Path, r.Conversations, largest, fmt.Sprintf("%.3g", r.Tolerance), r.Verdict)
	if r.Error != "" {
		fmt.Fprintf(v.table, "    %s\n", r.Error)
	}
	if r.Verdict == verdictOther && r.Worst != nil {
		fmt.Fprintf(v.table, "    most for %s: %s instead of %g\n", r.Worst.Name, r.Worst.Score, r.Worst.Reference)
	}
}

// squashed tells whether the scores are a sigmoid's of the reference.
func (v *verification) squashed(scores []found) bool {
	for _, f := range scores {
		if !(math.Abs(f.score-1/(1+math.Exp(-v.reference[f.at]))) < 1e-3) {
			return false
		}
	}
	return len(scores) > 0
}

// finish prints the verdict on all.
func (v *verification) finish() {
	different, failed := 0, 0
	for _, p := range v.report.Paths {
		switch p.Verdict {
		case verdictSame:
		case verdictFailed:
			failed++
		default:
			different++
		}
	}
	if different == 0 && failed == 0 {
		fmt.Fprintf(v.table, "\nall paths give the same scores, which go up to %.3g in size\n", v.scale)
		return
	}
	fmt.Fprintln(v.table)
	if different > 0 {
		fmt.Fprintf(v.table, "%d of %d paths do not give the same scores\n", different, len(v.report.Paths))
	}
	if failed > 0 {
		fmt.Fprintf(v.table, "%d of %d paths could not be taken\n", failed, len(v.report.Paths))
	}
}
