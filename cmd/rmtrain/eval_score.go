package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"

	"rmtrain/data/nectar"
	"rmtrain/data/tokenizer"
	"rmtrain/infer"
	"rmtrain/infer/bench"
	"rmtrain/kernels"
)

// An evaluation scores the same sets with one model after another.
type evaluation struct {
	*evalOptions
	sets     []*bench.Set
	chat     *string // the template that replaces the stored one
	stderr   io.Writer
	journals []*bench.Journal
}

// scored is what one model made of the sets.
type scored struct {
	rows  [][]bench.Row // of each set
	about bench.Model
}

// check finds what would stop the run after its long part has begun: a model that does
// not open, a template that does not parse, and texts that the model to compare with
// refuses. Weights stay where they are.
func (e *evaluation) check(ctx context.Context) error {
	for _, checkpoint := range []string{e.checkpoint, e.compare} {
		if checkpoint == "" {
			continue
		}
		if err := e.checkModel(ctx, checkpoint, checkpoint == e.compare); err != nil {
			return err
		}
	}
	return nil
}

func (e *evaluation) checkModel(ctx context.Context, checkpoint string, texts bool) error {
	folder, err := modelFolder(ctx, checkpoint, e.stderr)
	if err != nil {
		return err
	}
	s, err := infer.Open(folder, infer.Options{MaxLength: e.maxLength, EncodeOnly: true})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := e.retemplate(s); err != nil || !texts {
		return err
	}
	for _, set := range e.sets {
		if err := set.Check(ctx, s, e.settings.SkipBad); err != nil {
			return fmt.Errorf("eval: --compare %s: %w", checkpoint, interrupted(ctx, err))
		}
	}
	return nil
}

// retemplate gives a scorer the template of --template, if there is one.
func (e *evaluation) retemplate(s *infer.Scorer) error {
	if e.chat == nil {
		return nil
	}
	f := s.Encoder.Format()
	f.Template = *e.chat
	encoder, err := tokenizer.NewEncoder(s.Encoder.Tokenizer(), f)
	if err != nil {
		return fmt.Errorf("eval: --template %s: %w", e.template, err)
	}
	s.Encoder = encoder
	return nil
}

// score opens a checkpoint and scores every set with it.
func (e *evaluation) score(ctx context.Context, checkpoint, journal string) (*scored, error) {
	checkpoint, err := modelFolder(ctx, checkpoint, e.stderr)
	if err != nil {
		return nil, err
	}
	dt, err := inferOptions{checkpoint: checkpoint, dtype: e.dtype}.computeType()
	if err != nil {
		return nil, err
	}
	b, err := openBackend(e.device, dt)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	s, err := infer.Open(checkpoint, infer.Options{Backend: b, DType: dt, Fits: fitsNow, MaxLength: e.maxLength, BatchTokens: e.batchTokens})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for _, n := range append(s.Dir.Notes, s.Encoder.Tokenizer().Warnings()...) {
		fmt.Fprintln(e.stderr, "note:", n)
	}
	if err := e.retemplate(s); err != nil {
		return nil, err
	}
	about, err := e.describe(s, b, dt)
	if err != nil {
		return nil, err
	}
	out := &scored{about: about}
	j, err := e.journal(journal, about.Identity)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	bar := e.progress()
	for _, set := range e.sets {
		rows, err := set.Score(ctx, s, j, e.settings.SkipBad, func(n int) { _ = bar.Add(n) }) // a bar that fails to draw stops nothing
		if err != nil {
			_ = bar.Exit()
			return nil, e.stopped(ctx, err)
		}
		out.rows = append(out.rows, rows)
	}
	return out, bar.Finish()
}

// describe says how a model was read; its identity is what scores depend on.
func (e *evaluation) describe(s *infer.Scorer, b kernels.Backend, dt kernels.DType) (bench.Model, error) {
	checkpoint, err := filepath.Abs(s.Dir.Path)
	if err != nil {
		return bench.Model{}, fmt.Errorf("eval: %w", err)
	}
	files, err := listing(checkpoint)
	if err != nil {
		return bench.Model{}, fmt.Errorf("eval: %w", err)
	}
	f := s.Encoder.Format()
	id := map[string]string{
		"rmtrain":          version,
		"checkpoint":       checkpoint,
		"checkpoint files": files,
		"device":           b.Name(),
		"dtype":            dt.String(),
		"max length":       strconv.Itoa(f.MaxLength),
		"template":         digest([]byte(f.Template)),
	}
	maps.Copy(id, e.dataIdentity())
	return bench.Model{DType: dt.String(), Device: b.Name(), MaxLength: f.MaxLength, Template: filepath.Base(e.template), Identity: id}, nil
}

// dataIdentity says what the rows are whose names stand in a journal. Which of them are
// chosen does not matter to it.
func (e *evaluation) dataIdentity() map[string]string {
	id := map[string]string{}
	for _, set := range e.sets {
		var files []string
		for _, f := range set.Files {
			files = append(files, f.Path+" "+f.SHA256)
		}
		id["data of "+set.Bench] = strings.Join(files, ", ")
	}
	return id
}

// journal opens the file of the rows so far, if there is an output.
func (e *evaluation) journal(name string, identity map[string]string) (*bench.Journal, error) {
	if e.output == "" {
		return nil, nil
	}
	if err := os.MkdirAll(e.output, 0o755); err != nil {
		return nil, fmt.Errorf("eval: create output: %w", err)
	}
	j, err := bench.OpenJournal(filepath.Join(e.output, name), identity, e.overwrite)
	if err != nil {
		return nil, err
	}
	if n := j.Rows(); n > 0 {
		fmt.Fprintf(e.stderr, "going on behind %d rows that were scored before\n", n)
	}
	e.journals = append(e.journals, j)
	return j, nil
}

// progress is a bar with the time that is left, if standard error is a terminal.
func (e *evaluation) progress() *progressbar.ProgressBar {
	total := 0
	for _, set := range e.sets {
		total += set.Conversations()
	}
	if !isatty.IsTerminal(os.Stderr.Fd()) {
		return progressbar.DefaultSilent(int64(total), "scoring")
	}
	return progressbar.Default(int64(total), "scoring")
}

// stopped says what became of the rows so far.
func (e *evaluation) stopped(ctx context.Context, err error) error {
	err = interrupted(ctx, err)
	if e.output == "" {
		return err
	}
	return fmt.Errorf("%w (the rows so far are kept in %s; the same command goes on)", err, e.output)
}

// interrupted names an interrupt for what it is.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return errors.New("eval: interrupted")
	}
	return err
}

// The values of --template that are no files.
const (
	templateStored     = "stored"
	templateTranscript = "transcript"
)

// readTemplate returns the template that replaces the stored one, nil if none does.
func readTemplate(name string) (*string, error) {
	switch name {
	case templateStored:
		return nil, nil
	case templateTranscript:
		return new(string), nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("eval: --template: %w (or name stored or transcript)", err)
	}
	if !utf8.Valid(b) || strings.TrimSpace(string(b)) == "" {
		return nil, fmt.Errorf("eval: --template %s is empty or not text", name)
	}
	text := string(b)
	return &text, nil
}

// rankedItem reads a row of ranked answers in any of the forms that training takes.
func rankedItem(row []byte) (*bench.Item, error) {
	r, err := nectar.ParseRow(row)
	if err != nil {
		return nil, err
	}
	it := &bench.Item{Prompt: r.Prompt.String()}
	for i, c := range r.Completions {
		it.Completions = append(it.Completions, bench.Completion{
			Request: completionRequest(c), Label: fmt.Sprintf("answer %d", i+1), Rank: c.Rank, Characters: utf8.RuneCountInString(c.Answer),
		})
	}
	return it, nil
}

func completionRequest(c nectar.Completion) infer.Request {
	switch c.Form {
	case nectar.Messages:
		return infer.Request{Messages: c.Messages}
	case nectar.Text:
		return infer.Request{Text: &c.Answer}
	}
	return infer.Request{Prompt: &c.Prompt, Answers: []string{c.Answer}}
}
