package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rmtrain/data/tokenizer"
	"rmtrain/kernels"
)

// pythonScript scores with transformers; its head says how it is told what.
//
//go:embed verify_transformers.py
var pythonScript []byte

// pythonTask is what the script reads.
type pythonTask struct {
	Folder  string       `json:"folder"`
	DType   string       `json:"dtype"`
	IDs     [][]int32    `json:"ids"`
	Texts   []pythonText `json:"texts"`
	Padding int          `json:"batch"` // conversations of a padded batch
}

// pythonText is something for its tokenizer.
type pythonText struct {
	Messages []tokenizer.Message `json:"messages,omitempty"`
	Template string              `json:"template,omitempty"` // for messages
	Text     string              `json:"text"`
	Special  bool                `json:"add_special_tokens"`

	at   int
	want []int32
}

// pythonAnswer is what the script writes.
type pythonAnswer struct {
	Error    string            `json:"error"`
	Versions map[string]string `json:"versions"`
	Template string            `json:"chat_template"` // of its tokenizer
	IDs      [][]int32         `json:"ids"`
	Scores   []float64         `json:"scores"`
	Padded   []float64         `json:"padded"` // null if the model has no pad token
	Exact    []float64         `json:"exact"`  // in float32, if dtype is another one
	ReadAt   []int             `json:"read_at"`
}

// transformers scores the export in folder with the user's Python.
func (v *verification) transformers(ctx context.Context, folder string) error {
	texts, err := v.pythonTexts(folder)
	if err != nil {
		return err
	}
	task := pythonTask{Folder: folder, DType: v.report.DType, IDs: v.ids, Texts: texts, Padding: idsAtOnce}
	answer, err := runPython(ctx, v.o.python, task)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		err = answer.check(task)
	}
	if err != nil {
		v.record("transformers", 0, nil, err)
		return nil
	}
	v.note("Python %s, torch %s, transformers %s, tokenizers %s", answer.Versions["python"], answer.Versions["torch"], answer.Versions["transformers"], answer.Versions["tokenizers"])
	if v.format.Template != "" && answer.Template != v.format.Template {
		v.note("the chat template beside the tokenizer is another one than in rmtrain.json; programs that take it score other texts")
	}
	v.compareIDs(texts, answer)
	v.compareScores(answer)
	return nil
}

// compareIDs reports how many texts transformers' tokenizer and template encode
// differently.
func (v *verification) compareIDs(texts []pythonText, a *pythonAnswer) {
	r := pathReport{Path: "transformers: ids", Conversations: len(texts), Verdict: verdictSame}
	for i, t := range texts {
		if slices.Equal(t.want, a.IDs[i]) {
			continue
		}
		r.Difference++
		if r.Error == "" {
			r.Error = fmt.Sprintf("%s has %v there, and %v here", v.names[t.at], abridged(a.IDs[i], t.want), abridged(t.want, a.IDs[i]))
		}
	}
	if r.Difference > 0 {
		r.Verdict = verdictOther
		r.Error = fmt.Sprintf("%.0f encodings differ; the first, %s", float64(r.Difference), r.Error)
	}
	v.add(r)
}

// abridged is what of a differs from b, with two ids before it.
func abridged(a, b []int32) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	from := max(0, n-2)
	return fmt.Sprintf("%v from position %d", a[from:min(len(a), n+6)], from)
}

// compareScores reports how far transformers' scores are from ours. In bfloat16 both are
// compared with transformers' own float32, and ours may have twice the error of its
// bfloat16.
func (v *verification) compareScores(a *pythonAnswer) {
	tolerance, truth := v.remoteTolerance(), a.Scores
	if v.dt == kernels.BF16 {
		truth = a.Exact
		own := difference(0)
		for i, x := range a.Scores {
			own = max(own, differenceOf(x, truth[i]))
		}
		if v.o.tolerance == 0 {
			tolerance = 2 * float64(own)
		}
	}
	var alone, padded []found
	skipped := 0
	for i, at := range a.ReadAt {
		if at != len(v.ids[i])-1 {
			skipped++
			continue
		}
		alone = append(alone, found{i, truth[i]})
		if a.Padded != nil {
			padded = append(padded, found{i, a.Padded[i]})
		}
	}
	if skipped > 0 {
		v.note("not compared: %s with the pad token last, before which transformers reads the score", count(skipped, "conversation"))
	}
	v.record("transformers: one by one", tolerance, alone, nil)
	if a.Padded != nil && v.dt == kernels.F32 {
		v.record("transformers: padded batches", tolerance, padded, nil)
	}
}

// check makes sure that the answer has a number for everything.
func (a *pythonAnswer) check(t pythonTask) error {
	n := len(t.IDs)
	exact := 0
	if t.DType != dtypeNames[0] {
		exact = n
	}
	if len(a.Scores) != n || len(a.ReadAt) != n || len(a.Exact) != exact || len(a.IDs) != len(t.Texts) || (a.Padded != nil && len(a.Padded) != n) {
		return errors.New("the script gave an incomplete answer")
	}
	return nil
}

// pythonTexts are the texts and messages whose ids transformers has to find, before
// anything is cut.
func (v *verification) pythonTexts(folder string) ([]pythonText, error) {
	tok, err := tokenizer.Open(folder)
	if err != nil {
		return nil, err
	}
	defer tok.Close()
	whole := v.format
	whole.MaxLength, whole.ScorePosition = 0, "last_token"
	enc, err := tokenizer.NewEncoder(tok, whole)
	if err != nil {
		return nil, err
	}
	var out []pythonText
	for _, c := range v.cases {
		for i := range c.encoded {
			if t, ok := pythonTextOf(enc, c, i); ok {
				t.at = c.first + i
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// pythonTextOf is false for what transformers has no words for: ids, and texts that
// begin with the BOS that it would add again.
func pythonTextOf(enc *tokenizer.Encoder, c verifyCase, i int) (t pythonText, ok bool) {
	switch r := c.request; {
	case r.Text != nil:
		t.Text = *r.Text
	case r.Messages != nil:
		t.Messages = r.Messages
	case r.PromptMessages != nil:
		t.Messages = append(slices.Clip(r.PromptMessages), tokenizer.Message{Role: "assistant", Content: r.Answers[i]})
	case r.Prompt != nil:
		ms, err := tokenizer.ParseTranscript(*r.Prompt)
		if err != nil {
			return t, false
		}
		t.Messages = append(ms, tokenizer.Message{Role: "assistant", Content: r.Answers[i]})
	default:
		return t, false
	}
	if t.Messages != nil && enc.Format().Template != "" {
		t.Template = enc.Format().Template
		e, err := enc.Messages(t.Messages)
		t.want = e.IDs
		return t, err == nil
	}
	if t.Messages != nil {
		var err error
		if t.Text, err = enc.Render(t.Messages); err != nil {
			return t, false
		}
		t.Messages = nil
	}
	e, err := enc.Text(t.Text)
	if err != nil {
		return t, false
	}
	t.want = e.IDs
	for _, t.Special = range []bool{true, false} {
		if ids, err := enc.Tokenizer().Encode(t.Text, t.Special); err == nil && slices.Equal(ids, t.want) {
			return t, true
		}
	}
	return t, false
}

// findPython returns the program that --python names, if it names one. needs are the
// packages that it must have.
func findPython(program, needs string) (string, error) {
	if program == "" {
		return "", nil
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("there is no Python %q (install Python with %s, or name another: --python PROGRAM): %w", program, needs, err)
	}
	return path, nil
}

// runPython runs the script that scores; program is a Python.
func runPython(ctx context.Context, program string, task pythonTask) (*pythonAnswer, error) {
	b, err := runScript(ctx, program, "verify_transformers.py", pythonScript, task)
	if err != nil {
		return nil, err
	}
	var a pythonAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("%s: the script's answer cannot be read: %w", program, err)
	}
	if a.Error != "" {
		return nil, fmt.Errorf("%s: %s", program, a.Error)
	}
	return &a, nil
}

// runScript runs a script of that name with a Python and returns the file that it writes.
func runScript(ctx context.Context, program, name string, text []byte, task any) ([]byte, error) {
	dir, err := os.MkdirTemp("", "rmtrain-python-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	script, in, out := filepath.Join(dir, name), filepath.Join(dir, "task.json"), filepath.Join(dir, "answer.json")
	b, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.WriteFile(script, text, 0o600), os.WriteFile(in, b, 0o600)); err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, program, script, in, out)
	c.Env = append(os.Environ(), "HF_HUB_OFFLINE=1", "TRANSFORMERS_VERBOSITY=error", "TOKENIZERS_PARALLELISM=false", "PYTHONDONTWRITEBYTECODE=1")
	c.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	ended := c.Run()
	b, err = os.ReadFile(out)
	if err != nil { // the script writes it even if it fails
		return nil, fmt.Errorf("%s did not run the script (%v): %s", program, ended, lastLine(said.String()))
	}
	return b, nil
}

// lastLine is where Python says what went wrong.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
