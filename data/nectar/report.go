package nectar

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rmtrain/data"
	"rmtrain/data/rows"
)

// maxFindings is how many findings of a kind the Report of prepared data names, since
// it goes into the checkpoint; it counts all. That of Lint names all.
const maxFindings = 1000

// Kinds of findings.
const (
	BadRow          = "bad_row"          // unusable, and left out
	OddRanks        = "odd_ranks"        // not 1 to the number of answers
	TiedRanks       = "tied_ranks"       // answers of equal rank
	EmptyAnswer     = "empty_answer"     // nothing but white space
	DuplicateAnswer = "duplicate_answer" // two answers of a row are the same
	SameTokens      = "same_tokens"      // two different answers have the same ids
	LeakedTurn      = "leaked_turn"      // "Human:" or "Assistant:" in an answer
	DuplicatePrompt = "duplicate_prompt" // a prompt that an earlier row has
	TruncatedGroup  = "truncated"        // a conversation lost tokens
)

// A Finding is something about one row that a user should know.
type Finding struct {
	Kind   string `json:"kind"`
	File   string `json:"file"`
	Row    int    `json:"row"` // from 1; in JSON lines the line
	Detail string `json:"detail"`
}

// FileReport counts what one file gave.
type FileReport struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	Rows   int    `json:"rows"`
	Groups int    `json:"groups"`
}

// Wins says how often the longer of two answers is the better one, over all pairs
// of different rank; a pair of equal length counts half.
type Wins struct {
	Characters float64 `json:"characters"`
	Tokens     float64 `json:"tokens"` // 0 if they were not counted
}

// Tokens is what an encoder made of the data.
type Tokens struct {
	Prompt          Histogram `json:"prompt"`       // common prefix of a group
	Answer          Histogram `json:"answer"`       // what an answer adds to it
	Conversation    Histogram `json:"conversation"` // both, after truncation
	Group           Histogram `json:"group"`        // rows of a group when the prefix is shared
	Total           int64     `json:"total"`        // of all conversations
	Shared          int64     `json:"shared"`       // of all groups, prefixes counted once
	SharingGroups   int       `json:"sharing_groups"`
	TruncatedGroups int       `json:"truncated_groups"`
}

// A Report is what was found in the data.
type Report struct {
	Groups          int            `json:"groups"` // usable rows
	Rows            int            `json:"rows"`
	LeftOut         int            `json:"left_out"` // unusable rows
	Excluded        int            `json:"excluded"` // groups left out because the evaluation has their prompt
	HeldOut         int            `json:"held_out"` // groups held out for evaluation
	Answers         int            `json:"answers"`
	Prompts         int            `json:"prompts"` // different ones
	AnswersPerGroup map[int]int    `json:"answers_per_group"`
	Pairs           int            `json:"pairs"`
	TiedPairs       int            `json:"tied_pairs"`
	TiedGroups      int            `json:"tied_groups"`
	LongerWins      Wins           `json:"longer_wins"`
	Characters      Histogram      `json:"answer_characters"`
	Tokens          *Tokens        `json:"tokens,omitempty"` // nil without an encoder
	Files           []FileReport   `json:"files"`
	Totals          map[string]int `json:"finding_totals"` // by kind, also those not named below
	Findings        []Finding      `json:"findings"`

	most       int // findings of a kind that are named
	seen       map[data.PromptKey]bool
	wins, wonT float64 // by characters and by tokens
}

func newReport(inputs []rows.File, most int) *Report {
	r := &Report{most: most, AnswersPerGroup: map[int]int{}, Totals: map[string]int{}, Findings: []Finding{}, seen: map[data.PromptKey]bool{}}
	for _, in := range inputs {
		r.Files = append(r.Files, FileReport{Path: in.Path, Bytes: in.Bytes})
	}
	return r
}

// find notes a finding about a row.
func (r *Report) find(at row, kind, format string, args ...any) {
	r.Totals[kind]++
	if r.Totals[kind] <= r.most {
		r.Findings = append(r.Findings, Finding{kind, at.file, at.Number, fmt.Sprintf(format, args...)})
	}
}

// row adds one row, in the order of the files.
func (r *Report) row(j *job) {
	file := &r.Files[slices.IndexFunc(r.Files, func(f FileReport) bool { return f.Path == j.row.file })]
	r.Rows++
	file.Rows++
	if j.err != nil {
		r.LeftOut++
		r.find(j.row, BadRow, "%v", j.err)
		return
	}
	r.Groups++
	file.Groups++
	r.Answers += len(j.ex.ranking.Completions)
	r.AnswersPerGroup[len(j.ex.ranking.Completions)]++
	r.ranks(j.row, j.ex.ranks)
	r.texts(j.row, j.ex.ranking)
	r.pairs(j.ex)
	if len(j.ex.group.Answers) > 0 {
		r.tokens(j.row, j.ex)
	}
}

// ranks checks that the ranks of a row are 1 to K, where ties may leave out the
// places that they take up (1, 1, 3) or not (1, 1, 2).
func (r *Report) ranks(at row, ranks []float64) {
	sorted := slices.Sorted(slices.Values(ranks))
	tied, odd, dense := 0, false, 0.0
	for i, rank := range sorted {
		if i > 0 && rank == sorted[i-1] {
			tied++
			continue
		}
		dense++
		odd = odd || rank != dense && rank != float64(i+1)
	}
	if odd {
		r.find(at, OddRanks, "ranks %s of %d answers", list(ranks), len(ranks))
	}
	if tied > 0 {
		r.TiedGroups++
		r.find(at, TiedRanks, "ranks %s", list(ranks))
	}
}

func list(ranks []float64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ranks), " ", ", "), "[]")
}

// texts checks the answers and the prompt of a row.
func (r *Report) texts(at row, ranking *Ranking) {
	first := map[string]int{}
	for i, c := range ranking.Completions {
		r.Characters.Add(runes(c.Answer))
		if strings.TrimSpace(c.Answer) == "" {
			r.find(at, EmptyAnswer, "answer %d of rank %v", i+1, c.Rank)
		} else if before, dup := first[conversation(c)]; dup {
			r.find(at, DuplicateAnswer, "answers %d and %d", before, i+1)
		}
		if _, dup := first[conversation(c)]; !dup {
			first[conversation(c)] = i + 1
		}
		if c.Form != Text {
			for _, marker := range []string{"Human:", "Assistant:"} {
				if strings.Contains(c.Answer, marker) {
					r.find(at, LeakedTurn, "%q in answer %d of rank %v", marker, i+1, c.Rank)
				}
			}
		}
	}
	if r.seen[ranking.Prompt] {
		r.find(at, DuplicatePrompt, "an earlier row has this prompt")
		return
	}
	r.seen[ranking.Prompt] = true
	r.Prompts++
}

// conversation tells completions of a row apart.
func conversation(c Completion) string {
	if c.Form == Messages {
		return fmt.Sprintf("%q", c.Messages)
	}
	return c.Prompt + c.Answer
}

// pairs compares every two answers of a row.
func (r *Report) pairs(ex *example) {
	cs := ex.ranking.Completions
	length := make([]int, len(cs))
	for i, c := range cs {
		length[i] = runes(c.Answer)
	}
	for i := range cs {
		for k := range i {
			if cs[i].Rank == cs[k].Rank {
				r.TiedPairs++
				continue
			}
			r.Pairs++
			better, worse := i, k
			if cs[k].Rank < cs[i].Rank {
				better, worse = k, i
			}
			r.wins += win(length[better], length[worse])
			if a := ex.group.Answers; len(a) > 0 {
				r.wonT += win(len(a[better].Tokens), len(a[worse].Tokens))
			}
		}
	}
}

func win(better, worse int) float64 {
	switch {
	case better > worse:
		return 1
	case better == worse:
		return 0.5
	}
	return 0
}

// tokens counts the ids of a group.
func (r *Report) tokens(at row, ex *example) {
	if r.Tokens == nil {
		r.Tokens = &Tokens{}
	}
	t, answers := r.Tokens, ex.group.Answers
	total := 0
	for i, a := range answers {
		total += len(a.Tokens)
		t.Conversation.Add(len(a.Tokens))
		for k := range i {
			if slices.Equal(a.Tokens, answers[k].Tokens) && conversation(ex.ranking.Completions[i]) != conversation(ex.ranking.Completions[k]) {
				r.find(at, SameTokens, "answers %d and %d", k+1, i+1)
			}
		}
	}
	shared := data.PackRows(ex.group, true)
	prefix := (total - shared) / (len(answers) - 1)
	t.Total += int64(total)
	t.Shared += int64(shared)
	t.Group.Add(shared)
	t.Prompt.Add(prefix)
	for _, a := range answers {
		t.Answer.Add(len(a.Tokens) - prefix)
	}
	if prefix > 0 {
		t.SharingGroups++
	}
	if ex.truncated > 0 {
		t.TruncatedGroups++
		r.find(at, TruncatedGroup, "%d of %d conversations", ex.truncated, len(answers))
	}
}

// finish computes what needs all rows.
func (r *Report) finish() {
	if r.Pairs > 0 {
		r.LongerWins = Wins{share(r.wins, r.Pairs), 0}
	}
	r.Characters.finish()
	if t := r.Tokens; t != nil {
		r.LongerWins.Tokens = share(r.wonT, r.Pairs)
		for _, h := range []*Histogram{&t.Prompt, &t.Answer, &t.Conversation, &t.Group} {
			h.finish()
		}
	}
	r.seen = nil
}

// share returns part/whole, 0 of nothing, to four places.
func share(part float64, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return math.Round(1e4*part/float64(whole)) / 1e4
}

// unusable says why there are no groups.
func (r *Report) unusable() error {
	if r.Rows == 0 {
		return fmt.Errorf("nectar: read %s: there are no rows", r.names())
	}
	f := r.Findings[0]
	return fmt.Errorf("nectar: read %s: none of %d rows is usable; the first, %s:%d: %s", r.names(), r.Rows, f.File, f.Row, f.Detail)
}

func (r *Report) names() string {
	var names []string
	for _, f := range r.Files {
		names = append(names, f.Path)
	}
	if len(names) > 3 {
		names = append(names[:3], fmt.Sprintf("and %d more files", len(r.Files)-3))
	}
	return strings.Join(names, ", ")
}

// Save writes the report as JSON; the file appears whole or not at all.
func (r *Report) Save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = writeWhole(path, func(f *os.File) error {
			_, err := f.Write(append(text, '\n'))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("nectar: write %s: %w", path, err)
	}
	return nil
}

// writeWhole makes a file under a temporary name, has the disk take it, and renames it.
func writeWhole(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // is gone after the renaming
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
