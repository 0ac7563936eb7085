package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"rmtrain/infer"
)

type verifyOptions struct {
	checkpoint, samples, dtype, device string
	against, keyFile, python           string
	maxLength, batchTokens             int
	tolerance                          float64
	asJSON                             bool
}

// anyPython is --python without a value.
const anyPython = "python3"

func verifyCommand() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify --checkpoint DIR",
		Short: "Check that training, scoring, serving, exports and transformers give one and the same score",
		Long: `Score built-in hostile conversations, and those of --samples, on every path that leads to a
score: one by one, in random batches, as the trainer packs them, through a server over HTTP,
and with exports in both dialects; with --against through another server, in the form of
vLLM's /classify, and with --python through transformers. Print the largest difference of
each from one call of ` + "`rmtrain infer`" + `'s scorer.

On the CPU the tolerance is 0 for all but --against and --python. The exit status is 1 if a
path is above its tolerance or cannot be taken.`,
		Example: `  rmtrain verify --checkpoint out --samples samples.jsonl
  rmtrain verify --checkpoint out --python .venv/bin/python
  rmtrain verify --checkpoint out --against http://localhost:8000/classify`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("verify: %q belongs to no flag (see rmtrain verify --help)", args[1])
			}
			return given(c, "checkpoint")
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && o.python != anyPython {
				return fmt.Errorf("verify: %q belongs to no flag (see rmtrain verify --help)", args[0])
			}
			if len(args) > 0 { // a flag whose value may be absent does not take the next word
				o.python = args[0]
			}
			return o.run(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.checkpoint, "checkpoint", "", "reward model: a `folder` in either dialect, a run's output_dir, or an id on the hub")
	f.StringVar(&o.samples, "samples", "", "`file` of JSON lines as for `rmtrain infer`; - is standard input")
	f.StringVar(&o.against, "against", "", "`URL` of another server's /classify")
	f.StringVar(&o.keyFile, "api-key-file", "", "`file` with the key that --against asks for")
	f.StringVar(&o.python, "python", "", "compare with transformers in this Python `program` (python3 if none is named)")
	f.Lookup("python").NoOptDefVal = anyPython
	f.Float64Var(&o.tolerance, "tolerance", 0, "of --against and --python, relative to the largest score (default: by dtype)")
	f.StringVar(&o.dtype, "dtype", "", "float32 or bfloat16 (default: as trained)")
	f.StringVar(&o.device, "device", "auto", "auto, cpu, cuda or cuda:N")
	f.IntVar(&o.maxLength, "max-length", 0, "tokens that a conversation keeps (default: as trained)")
	f.IntVar(&o.batchTokens, "batch-tokens", 8192, "most tokens of a forward pass; bounds memory")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	_ = c.MarkFlagRequired("checkpoint") // it fails for unknown flags only
	complete(c, "dtype", cobra.ShellCompDirectiveNoFileComp, dtypeNames...)
	complete(c, "device", cobra.ShellCompDirectiveNoFileComp, devices...)
	return c
}

// check refuses mistakes before anything is read.
func (o verifyOptions) check() error {
	switch {
	case o.batchTokens < 1 || o.batchTokens > maxBatchTokens:
		return fmt.Errorf("verify: --batch-tokens %d must be from 1 to %d", o.batchTokens, maxBatchTokens)
	case o.maxLength < 0:
		return fmt.Errorf("verify: --max-length %d must not be negative", o.maxLength)
	case !(o.tolerance >= 0 && o.tolerance <= 1):
		return fmt.Errorf("verify: --tolerance %v must be from 0 to 1", o.tolerance)
	case !knownDevice(o.device):
		return fmt.Errorf("verify: --device %q is unknown (choose one of %q)", o.device, devices)
	case o.dtype != "" && !slices.Contains(dtypeNames, o.dtype):
		return fmt.Errorf("verify: --dtype %q is unknown (choose one of %q)", o.dtype, dtypeNames)
	case o.keyFile != "" && o.against == "":
		return errors.New("verify: --api-key-file is for --against URL")
	case o.against == "":
		return nil
	}
	u, err := url.Parse(o.against)
	if err != nil {
		return fmt.Errorf("verify: --against: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("verify: --against %q is no address of a server (such as http://localhost:8000/classify)", o.against)
	}
	return nil
}

func (o verifyOptions) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	key, err := o.key()
	if err != nil {
		return err
	}
	if o.python, err = findPython(o.python, "torch and transformers"); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := checkTemporaryFolder(); err != nil {
		return err
	}
	given, err := readSamples(o.samples, stdin)
	if err != nil {
		return err
	}
	if o.checkpoint, err = modelFolder(ctx, o.checkpoint, stderr); err != nil {
		return err
	}
	dt, err := inferOptions{checkpoint: o.checkpoint, dtype: o.dtype}.computeType()
	if err != nil {
		return err
	}
	b, err := openBackend(o.device, dt)
	if err != nil {
		return err
	}
	defer b.Close()
	v := &verification{o: o, key: key, b: b, dt: dt, table: stdout}
	if o.asJSON {
		v.table = io.Discard
	}
	if err := v.begin(ctx, given); err != nil {
		return err
	}
	if err := v.takePaths(ctx); err != nil {
		return err
	}
	v.finish()
	if o.asJSON {
		if err := writeJSON(stdout, v.report); err != nil {
			return err
		}
	}
	if !v.report.OK {
		return errSomeBad
	}
	return nil
}

// temporaryFolder creates a folder for what a path writes, such as an exported model.
func temporaryFolder() (string, error) {
	dir, err := os.MkdirTemp("", "rmtrain-verify-*")
	if err != nil {
		return "", fmt.Errorf("verify: create a temporary folder: %w (let TMPDIR name a folder that can be written, with room for the model)", err)
	}
	return dir, nil
}

// checkTemporaryFolder finds out whether there can be one before the long work begins.
func checkTemporaryFolder() error {
	dir, err := temporaryFolder()
	if err != nil {
		return err
	}
	return os.Remove(dir)
}

// open opens the checkpoint, or an export of it.
func (v *verification) open(ctx context.Context, path string, batchTokens int) (*infer.Scorer, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	return infer.Open(path, infer.Options{Backend: v.b, DType: v.dt, MaxLength: v.o.maxLength, BatchTokens: batchTokens})
}
