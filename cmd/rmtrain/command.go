package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rmtrain/configs"
)

// command is the command line: the root trains, as in `rmtrain --config F`.
func command() *cobra.Command {
	var o trainOptions
	root := &cobra.Command{
		Use:   "rmtrain --config FILE",
		Short: "Train a reward model on ranked answers, and score with it",
		Long: `rmtrain turns a Llama, Mistral or Qwen2 chat model into a reward model: it trains on
ranked answers with the K-wise Plackett-Luce likelihood, and scores with the result.

Settings are read from --set, then from the environment (RMTRAIN_TRAIN_LEARNING_RATE), then
from the file; --print-config lists all of them with what they mean. Interrupted training
saves its state, and the same command goes on from there.`,
		Example: `  rmtrain example hello && rmtrain --config hello/nectar.yaml
  rmtrain --config nectar.yaml --set train.learning_rate=2e-5
  rmtrain infer --checkpoint hello/out --input hello/samples.jsonl`,
		Version:       version,
		Args:          noArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.file == "" {
				fmt.Fprintln(c.ErrOrStderr(), c.UsageString())
				return errors.New("no --config FILE given (`rmtrain example DIR` writes one to begin with)")
			}
			if o.gpu != "" && !o.dryRun {
				return errors.New("--gpu is for --dry-run: training takes the device that the configuration names")
			}
			return o.run(c.Context(), c.OutOrStdout())
		},
	}
	f := root.Flags()
	f.StringVar(&o.file, "config", "", "the run's YAML `file`")
	f.StringArrayVar(&o.sets, "set", nil, "set a `key=value` of the configuration (repeatable)")
	f.BoolVar(&o.dryRun, "dry-run", false, "check everything, print the plan, and stop before training")
	f.StringVar(&o.gpu, "gpu", "", "with --dry-run: print the memory, and a predicted time, on a `GPU` that need not be here, by name (h100-80gb) or size (80GiB); of the model, config.json is enough")
	f.BoolVar(&o.print, "print-config", false, "print the effective configuration and stop")
	root.MarkFlagsMutuallyExclusive("dry-run", "print-config")
	root.AddCommand(inferCommand(), evalCommand(), serveCommand(), verifyCommand(), watchCommand(), exportCommand(), inspectCommand(), dataCommand(), downloadCommand(), exampleCommand(), doctorCommand(), rooflineCommand(), benchCommand())
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w (see %s --help)", err, c.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	complete(root, "gpu", cobra.ShellCompDirectiveNoFileComp, gpuNames()...)
	complete(root, "set", cobra.ShellCompDirectiveNoSpace, assignments()...)
	return root
}

// noArgs refuses what stands where a subcommand would, and says what was meant.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if strings.HasSuffix(args[0], ".yaml") || strings.HasSuffix(args[0], ".yml") {
		return fmt.Errorf("%s is not a command (to train with it: rmtrain --config %[1]s)", args[0])
	}
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("%s is not a command (did you mean %s?)", args[0], strings.Join(near, " or "))
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return fmt.Errorf("%s is not a command (there are %s, and --config to train)", args[0], strings.Join(names, ", "))
}

// only refuses words that belong to no flag, and says what the required flags are for.
func only(required ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%s: %q belongs to no flag (see %s --help)", c.Name(), args[0], c.CommandPath())
		}
		return given(c, required...)
	}
}

// given names the first of the flags that is missing.
func given(c *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if f := c.Flags().Lookup(name); !f.Changed {
			return fmt.Errorf("%s: --%s is missing (%s; see %s --help)", c.Name(), name, strings.ReplaceAll(f.Usage, "`", ""), c.CommandPath())
		}
	}
	return nil
}

// one takes a single argument, which what describes.
func one(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s: give %s, and nothing else (see %s --help)", c.Name(), what, c.CommandPath())
		}
		return nil
	}
}

// assignments completes --set.
func assignments() []string {
	keys := configs.Keys()
	for i := range keys {
		keys[i] += "="
	}
	return keys
}

// complete offers the values of a flag to the shell.
func complete(c *cobra.Command, flag string, directive cobra.ShellCompDirective, values ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, directive)); err != nil {
		panic(err) // the flag does not exist
	}
}
