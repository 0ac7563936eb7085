package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"rmtrain/checkpoints"
	"rmtrain/data/tokenizer"
	"rmtrain/infer"
	"rmtrain/kernels/llama"
)

type exportOptions struct{ model, to, output, valueHead string }

func exportCommand() *cobra.Command {
	var o exportOptions
	c := &cobra.Command{
		Use:   "export --model DIR --to starling|huggingface --output DIR",
		Short: "Write a reward model in another dialect, or attach a value head to a base model",
		Long: `Write a reward model for other programs to load.

  huggingface   model.* and score.weight: transformers' AutoModelForSequenceClassification, vLLM
  starling      transformer.* and v_head.weight: the class of Starling-RM's model card

--value-head takes a safetensors file with one tensor, [1, hidden] or [hidden], and makes a
reward model of a base model without training.`,
		Example: `  rmtrain export --model out --to starling --output out-starling
  rmtrain export --model base --value-head head.safetensors --output reward`,
		Args: only("model", "output"),
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&o.model, "model", "", "`folder` of the model, or its id on the hub")
	f.StringVar(&o.to, "to", checkpoints.HuggingFace, "`dialect`: huggingface or starling")
	f.StringVar(&o.output, "output", "", "`folder` to create")
	f.StringVar(&o.valueHead, "value-head", "", "safetensors `file` of the value head")
	for _, name := range []string{"model", "output"} {
		_ = c.MarkFlagRequired(name) // it fails for unknown flags only
	}
	complete(c, "to", cobra.ShellCompDirectiveNoFileComp, dialects...)
	return c
}

// dialects are the values of --to.
var dialects = []string{checkpoints.HuggingFace, checkpoints.Starling}

func (o exportOptions) run(ctx context.Context, w io.Writer) error {
	if !slices.Contains(dialects, o.to) {
		return fmt.Errorf("export: --to %q is unknown (choose one of %q)", o.to, dialects)
	}
	if exists(o.output) {
		return fmt.Errorf("export: output %s exists (choose another folder)", o.output)
	}
	folder, err := modelFolder(ctx, o.model, w)
	if err != nil {
		return err
	}
	dir, err := checkpoints.Open(folder)
	if err != nil {
		return err
	}
	defer dir.Close()
	c, err := llama.ParseConfig(dir.Config)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	head, err := o.head(dir, c)
	if err != nil {
		return err
	}
	tok, err := tokenizer.Open(dir.Path)
	if err != nil {
		return err
	}
	defer tok.Close()
	e := checkpoints.Export{Dialect: o.to, Config: dir.Config, PadID: exportPad(padID(c, tok), tok), DType: exportDType(dir), Files: tokenizerFiles(tok)}
	if e.Meta, err = o.meta(dir, c, tok); err != nil {
		return err
	}
	if e.Tensors, err = o.tensors(ctx, dir, c, head, e.DType); err != nil {
		return err
	}
	curves, err := os.ReadFile(filepath.Join(dir.Path, curvesFile))
	if err == nil {
		e.Files = append(e.Files, checkpoints.File{Name: curvesFile, Data: curves})
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("export: %w", err)
	}
	e.Files = append(e.Files, checkpoints.File{Name: "README.md", Data: card(e.Meta, o.to, curves != nil)})
	if err := checkpoints.Write(o.output, e); err != nil {
		return err
	}
	for _, n := range append(dir.Notes, tok.Warnings()...) {
		fmt.Fprintln(w, "note:", n)
	}
	fmt.Fprintf(w, "wrote %s (%s)\n", o.output, o.to)
	return nil
}

// head returns the value head to attach, or nil if the model has its own.
func (o exportOptions) head(dir *checkpoints.Dir, c llama.Config) ([]float32, error) {
	has := dir.Has(headName)
	switch {
	case has && o.valueHead != "":
		return nil, fmt.Errorf("export: %s has a value head already (leave out --value-head)", o.model)
	case !has && o.valueHead == "":
		return nil, fmt.Errorf("export: %s has no value head (give one with --value-head, or train one)", o.model)
	case has:
		return nil, nil
	}
	return checkpoints.HeadFile(o.valueHead, c.Hidden)
}

func (o exportOptions) meta(dir *checkpoints.Dir, c llama.Config, tok *tokenizer.Tokenizer) (checkpoints.Meta, error) {
	if dir.Meta != nil {
		return *dir.Meta, nil
	}
	f, err := infer.FormatOf(dir, c, tok)
	if err != nil {
		return checkpoints.Meta{}, err
	}
	if o.valueHead != "" {
		// What transformers will do with the export, so that both agree.
		f.ScorePosition, f.PadID = "last_non_pad", exportPad(padID(c, tok), tok)
		if f.PadID < 0 {
			f.ScorePosition = "last_token"
		}
	}
	b, err := json.Marshal(f)
	return checkpoints.Meta{Version: version, Format: b, Base: publicName(o.model)}, err
}

// tensors streams the model's tensors, in the type in which they are stored.
func (o exportOptions) tensors(ctx context.Context, dir *checkpoints.Dir, c llama.Config, head []float32, dtype string) ([]checkpoints.Tensor, error) {
	want := wanted(c, head != nil)
	if err := dir.Check(want); err != nil {
		return nil, err
	}
	var out []checkpoints.Tensor
	for _, w := range want {
		if w.Optional {
			out = append(out, checkpoints.Tensor{Name: w.Name, DType: "F32", Shape: w.Shape, Read: bytesReader(floatBytes(head))})
			continue
		}
		t, err := dir.Tensor(w.Name, dtype)
		if err != nil {
			return nil, err
		}
		out = append(out, untilDone(ctx, t))
	}
	return out, nil
}

// untilDone is t, but reading it fails once ctx ends: then the folder that is being
// written is removed, as after any other error.
func untilDone(ctx context.Context, t checkpoints.Tensor) checkpoints.Tensor {
	read := t.Read
	t.Read = func(dst []byte, off int64) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return read(dst, off)
	}
	return t
}

// exportDType is BF16 for a BF16 model, and F32, which loses nothing, for any other.
func exportDType(dir *checkpoints.Dir) string {
	if dir.DType() == "BF16" {
		return "BF16"
	}
	return "F32"
}

// bytesReader reads a tensor that is in memory.
func bytesReader(b []byte) func([]byte, int64) error {
	return func(dst []byte, off int64) error {
		if off < 0 || off+int64(len(dst)) > int64(len(b)) {
			return errors.New("read beyond the end of a tensor")
		}
		copy(dst, b[off:])
		return nil
	}
}
