package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"rmtrain/checkpoints"
	"rmtrain/infer"
	"rmtrain/kernels"
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

and each line of the output its score, in the same order:

  {"score": 1.25, "tokens": 311, "truncated": false}
  {"scores": [...], "tokens": [...], "truncated": [...]}    for answers

A line that cannot be scored gives {"error": "...", "line": n}; the others are scored, and
the exit status is 1. Tokens are counted before truncation.`,
		Args: only("checkpoint"),
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.checkpoint, "checkpoint", "", "reward model: a `folder` in either dialect, a run's output_dir, or an id on the hub")
	f.StringVar(&o.input, "input", "-", "`file` of JSON lines; - is standard input")
	f.StringVar(&o.output, "output", "-", "`file` for the scores, which appears when it is complete; - is standard output")
	f.StringVar(&o.dtype, "dtype", "", "float32 or bfloat16 (default: as trained)")
	f.IntVar(&o.maxLength, "max-length", 0, "tokens that a conversation keeps (default: as trained)")
	f.StringVar(&o.device, "device", "auto", "auto, cpu, cuda or cuda:N")
	f.IntVar(&o.batchTokens, "batch-tokens", 8192, "most tokens of a forward pass; bounds memory, never changes a score")
	f.BoolVar(&o.keep, "keep", false, "repeat the other fields of a line in its answer")
	f.BoolVar(&o.resume, "resume", false, "go on with an --output that was interrupted")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace an --output that exists")
	_ = c.MarkFlagRequired("checkpoint") // it fails for unknown flags only
	c.MarkFlagsMutuallyExclusive("resume", "overwrite")
	return c
}

// maxBatchTokens is more than any machine has memory for.
const maxBatchTokens = 1 << 24

// check refuses mistakes before anything is read.
func (o inferOptions) check() error {
	switch {
	case o.batchTokens < 1 || o.batchTokens > maxBatchTokens:
		return fmt.Errorf("infer: --batch-tokens %d must be from 1 to %d", o.batchTokens, maxBatchTokens)
	case o.maxLength < 0:
		return fmt.Errorf("infer: --max-length %d must not be negative", o.maxLength)
	case o.output == "-" && (o.resume || o.overwrite):
		return errors.New("infer: --resume and --overwrite need --output FILE")
	case !knownDevice(o.device):
		return fmt.Errorf("infer: --device %q is unknown (choose one of %q)", o.device, devices)
	case o.dtype != "" && !slices.Contains(dtypeNames, o.dtype):
		return fmt.Errorf("infer: --dtype %q is unknown (choose one of %q)", o.dtype, dtypeNames)
	}
	return nil
}

func (o inferOptions) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	if sameFile(o.input, o.output) {
		return fmt.Errorf("infer: --output %s is the input, which would be lost (name another file)", o.output)
	}
	in, err := openInput(o.input, stdin)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := createScores(o.output, stdout, o.resume, o.overwrite)
	if err != nil {
		return err
	}
	defer out.close()
	if o.checkpoint, err = modelFolder(ctx, o.checkpoint, stderr); err != nil {
		return err
	}
	dt, err := o.computeType()
	if err != nil {
		return err
	}
	b, err := openBackend(o.device, dt)
	if err != nil {
		return err
	}
	defer b.Close()
	loaded := exitWhenStopped(ctx)
	s, err := infer.Open(o.checkpoint, infer.Options{Backend: b, DType: dt, Fits: fitsNow, MaxLength: o.maxLength, BatchTokens: o.batchTokens})
	loaded()
	if err != nil {
		return err
	}
	defer s.Close()
	for _, n := range slices.Concat(s.Dir.Notes, s.Encoder.Tokenizer().Warnings()) {
		fmt.Fprintln(stderr, "note:", n)
	}
	id, err := o.identity(s, b, dt, in)
	if err != nil {
		return err
	}
	if err := out.begin(id); err != nil {
		return err
	}
	return o.score(ctx, s, in, out, stderr)
}

// score answers the lines of in that out has no answer to.
func (o inferOptions) score(ctx context.Context, s *infer.Scorer, in *inputFile, out *scoreFile, stderr io.Writer) error {
	if out.lines > 0 {
		fmt.Fprintf(stderr, "resuming behind line %d\n", out.lines)
	}
	bar := progress(in.size, "scoring")
	stats, err := s.ScoreLines(ctx, in, out, infer.LineOptions{Keep: o.keep, Skip: out.lines, Done: func(st infer.Stats) {
		_ = bar.Set64(st.Bytes) // a bar that fails to draw stops nothing
	}})
	_ = bar.Exit()
	if err != nil {
		return out.interrupted(err)
	}
	if err := out.finish(); err != nil {
		return err
	}
	if bad := out.bad + stats.Bad; bad > 0 {
		fmt.Fprintf(stderr, "rmtrain: %d of %d lines could not be scored; each says why in its place\n", bad, out.lines+stats.Lines)
		return errSomeBad
	}
	return nil
}

// computeType is the type that was asked for, or the one that the model was trained in.
func (o inferOptions) computeType() (kernels.DType, error) {
	if o.dtype != "" {
		return parseDType(o.dtype)
	}
	d, err := checkpoints.Open(o.checkpoint)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	dt, err := parseDType(trainedDType(d))
	if err != nil {
		return 0, fmt.Errorf("infer: open %s: rmtrain.json: %w", o.checkpoint, err)
	}
	return dt, nil
}

// trainedDType returns the type in which d was trained or else, if it is one to
// compute in, stored.
func trainedDType(d *checkpoints.Dir) string {
	if d.Meta != nil && d.Meta.DType != "" {
		return d.Meta.DType
	}
	if d.DType() == "BF16" {
		return "bfloat16"
	}
	return "float32"
}

// progress is a bar on standard error, if that is a terminal.
func progress(total int64, what string) *progressbar.ProgressBar {
	if !isatty.IsTerminal(os.Stderr.Fd()) {
		return progressbar.DefaultBytesSilent(total, what)
	}
	return progressbar.DefaultBytes(total, what)
}
