package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"rmtrain/checkpoints"
	"rmtrain/infer"
)

type inferOptions struct {
	checkpoint, input, output, dtype, device string
	maxLength, batchTokens                   int
	keep, resume, overwrite                  bool
}

func inferCommand() *cobra.Command {
	var o inferOptions
	c := &cobra.Command{
		Use:   "infer --checkpoint DIR",
		Short: "Score conversations: a JSON line in, a JSON line out",
		Long: `Score conversations with a reward model. Each line of the input is a JSON object,

  {"text": "<rendered>"}
  {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
  {"prompt": "\n\nHuman: ...\n\nAssistant: " or [messages], "answers": ["...", ...]}
  {"input_ids": [...]}

and each line of the output its score, in the same order. A line that cannot be scored
gives {"error": "...", "line": n}; the others are scored, and the exit status is 1.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	f := c.Flags()
	f.StringVar(&o.checkpoint, "checkpoint", "", "reward model: a `folder` in either dialect, or a run's output_dir")
	f.StringVar(&o.input, "input", "-", "`file` of JSON lines; - is standard input")
	f.StringVar(&o.output, "output", "-", "`file` for the scores, which appears when it is complete; - is standard output")
	f.StringVar(&o.dtype, "dtype", "", "float32 or bfloat16 (default: as trained)")
	f.IntVar(&o.maxLength, "max-length", 0, "tokens that a conversation keeps (default: as trained)")
	f.StringVar(&o.device, "device", "auto", "auto, cpu or cuda")
	f.IntVar(&o.batchTokens, "batch-tokens", 8192, "most tokens of a forward pass; bounds memory, never changes a score")
	f.BoolVar(&o.keep, "keep", false, "repeat other fields of a line in its answer")
	f.BoolVar(&o.resume, "resume", false, "go on with an --output that was interrupted")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace an --output that exists")
	_ = c.MarkFlagRequired("checkpoint") // it fails for unknown flags only
	return c
}

func (o inferOptions) run(ctx context.Context) error {
	if o.batchTokens < 1 || o.maxLength < 0 {
		return fmt.Errorf("infer: --batch-tokens must be at least 1 and --max-length at least 0")
	}
	if o.output == "-" && (o.resume || o.overwrite) {
		return fmt.Errorf("infer: --resume and --overwrite need --output FILE")
	}
	in, size, err := openInput(o.input)
	if err != nil {
		return err
	}
	defer in.Close()
	s, err := o.open()
	if err != nil {
		return err
	}
	defer s.Close()
	for _, n := range s.Dir.Notes {
		fmt.Fprintln(os.Stderr, "note:", n)
	}
	out := scoreFile{path: o.output, identity: o.identity(s, size)}
	if err := out.open(o.resume, o.overwrite); err != nil {
		return err
	}
	defer out.close()
	r := bufio.NewReaderSize(in, 1<<20)
	skipped, err := skipLines(r, out.lines)
	if err != nil {
		return err
	}
	bar := progress(size, "scoring")
	stats, err := s.ScoreLines(ctx, r, out.w, infer.LineOptions{Keep: o.keep, First: out.lines, Done: func(st infer.Stats) {
		_ = bar.Set64(skipped + st.Bytes) // a bar that fails to draw stops nothing
	}})
	_ = bar.Exit()
	if err != nil {
		return out.interrupted(err)
	}
	bad := out.bad + stats.Bad
	if err := out.finish(); err != nil {
		return err
	}
	if bad > 0 {
		fmt.Fprintf(os.Stderr, "rmtrain: %d of %d lines could not be scored; each says why in its place\n", bad, out.lines+stats.Lines)
		return errSomeBad
	}
	return nil
}

// open loads the checkpoint in the type that it was trained in, or the one asked for.
func (o inferOptions) open() (*infer.Scorer, error) {
	name := o.dtype
	if name == "" {
		d, err := checkpoints.Open(o.checkpoint)
		if err != nil {
			return nil, err
		}
		name = trainedDType(d)
		if err := d.Close(); err != nil {
			return nil, err
		}
	}
	dt, err := parseDType(name)
	if err != nil {
		return nil, err
	}
	b, err := openBackend(o.device, dt)
	if err != nil {
		return nil, err
	}
	return infer.Open(o.checkpoint, infer.Options{Backend: b, DType: dt, MaxLength: o.maxLength, BatchTokens: o.batchTokens})
}

// trainedDType returns the dtype in which d was trained, or in which it is stored.
func trainedDType(d *checkpoints.Dir) string {
	if d.Meta != nil && d.Meta.DType != "" {
		return d.Meta.DType
	}
	var c struct {
		TorchDType string `json:"torch_dtype"`
		DType      string `json:"dtype"`
	}
	if json.Unmarshal(d.Config, &c) == nil {
		for _, t := range []string{c.TorchDType, c.DType} {
			if t == "bfloat16" || t == "float16" {
				return "bfloat16"
			}
		}
	}
	return "float32"
}

// identity says what the lines of an output depend on, so that only the same
// command resumes it.
func (o inferOptions) identity(s *infer.Scorer, size int64) map[string]any {
	id := map[string]any{
		"input": o.input, "input_bytes": float64(size), "dtype": o.dtype, "keep": o.keep,
		"checkpoint": s.Dir.Path, "max_length": float64(s.Encoder.Format().MaxLength),
	}
	if s.Dir.Meta != nil {
		for name, d := range s.Dir.Meta.Digests {
			id["digest "+name] = d
		}
	}
	return id
}

func openInput(path string) (io.ReadCloser, int64, error) {
	if path == "-" {
		return os.Stdin, -1, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("infer: open input: %w", err)
	}
	st, err := f.Stat()
	if err != nil || st.IsDir() {
		f.Close()
		return nil, 0, fmt.Errorf("infer: input %s is not a file of JSON lines", path)
	}
	if !st.Mode().IsRegular() {
		return f, -1, nil
	}
	return f, st.Size(), nil
}

// skipLines reads past n lines and returns their bytes.
func skipLines(r *bufio.Reader, n int) (int64, error) {
	var size int64
	for lines := 0; lines < n; {
		part, err := r.ReadSlice('\n')
		size += int64(len(part))
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return size, fmt.Errorf("infer: resume: the input has fewer lines than the output already has (%d)", n)
		}
		lines++
	}
	return size, nil
}

// progress is a bar on standard error, if that is a terminal.
func progress(total int64, what string) *progressbar.ProgressBar {
	if !isatty.IsTerminal(os.Stderr.Fd()) {
		return progressbar.DefaultBytesSilent(total, what)
	}
	return progressbar.DefaultBytes(total, what)
}

// A scoreFile is where scores go: standard output, or a file that appears under its
// name when it is complete. Until then the lines lie in path.partial, and what they
// depend on in path.partial.json.
type scoreFile struct {
	path     string
	identity map[string]any
	w        io.Writer
	f        *os.File
	lines    int // that an earlier run wrote
	bad      int // errors among them
}

func (s *scoreFile) partial() string { return s.path + ".partial" }
func (s *scoreFile) about() string   { return s.path + ".partial.json" }

func (s *scoreFile) open(resume, overwrite bool) error {
	if s.path == "-" {
		s.w = os.Stdout
		return nil
	}
	if _, err := os.Stat(s.path); err == nil && !overwrite {
		return fmt.Errorf("infer: output %s exists (--overwrite replaces it)", s.path)
	}
	_, err := os.Stat(s.partial())
	begun := err == nil
	if begun && !resume && !overwrite {
		return fmt.Errorf("infer: output %s was interrupted (--resume goes on with it, --overwrite starts again)", s.path)
	}
	if begun && resume {
		return s.reopen()
	}
	about, err := json.Marshal(s.identity)
	if err != nil {
		return fmt.Errorf("infer: describe output: %w", err)
	}
	if err := os.WriteFile(s.about(), about, 0o644); err != nil {
		return fmt.Errorf("infer: create output: %w", err)
	}
	if s.f, err = os.Create(s.partial()); err != nil {
		return fmt.Errorf("infer: create output: %w", err)
	}
	s.w = s.f
	return nil
}

// reopen goes on behind the last whole line.
func (s *scoreFile) reopen() error {
	b, err := os.ReadFile(s.about())
	var was map[string]any
	if err == nil {
		err = json.Unmarshal(b, &was)
	}
	if err != nil {
		return fmt.Errorf("infer: resume %s: %w (--overwrite starts again)", s.path, err)
	}
	if !reflect.DeepEqual(was, s.identity) {
		return fmt.Errorf("infer: resume %s: it was begun with another input, checkpoint or option: %v, not %v (--overwrite starts again)", s.path, was, s.identity)
	}
	if s.f, err = os.OpenFile(s.partial(), os.O_RDWR, 0); err != nil {
		return fmt.Errorf("infer: resume: %w", err)
	}
	var end int64
	r := bufio.NewReaderSize(s.f, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("infer: resume: read %s: %w", s.partial(), err)
		}
		var e struct {
			Error *string `json:"error"`
			Score *json.RawMessage
		}
		if json.Unmarshal(line, &e) == nil && e.Error != nil && e.Score == nil {
			s.bad++
		}
		end += int64(len(line))
		s.lines++
	}
	if err := s.f.Truncate(end); err != nil {
		return fmt.Errorf("infer: resume: %w", err)
	}
	if _, err := s.f.Seek(end, io.SeekStart); err != nil {
		return fmt.Errorf("infer: resume: %w", err)
	}
	s.w = s.f
	fmt.Fprintf(os.Stderr, "resuming behind line %d\n", s.lines)
	return nil
}

func (s *scoreFile) close() {
	if s.f != nil {
		s.f.Close() // after finish there is nothing left to lose
	}
}

// interrupted adds to err how to go on.
func (s *scoreFile) interrupted(err error) error {
	if s.path == "-" {
		return err
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	return fmt.Errorf("infer: %w (the lines so far are kept: --resume goes on)", err)
}

// finish gives the file its name.
func (s *scoreFile) finish() error {
	if s.f == nil {
		return nil
	}
	if err := errors.Join(s.f.Sync(), s.f.Close(), os.Rename(s.partial(), s.path), os.Remove(s.about())); err != nil {
		return fmt.Errorf("infer: finish output %s: %w", s.path, err)
	}
	d, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return fmt.Errorf("infer: finish output: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
