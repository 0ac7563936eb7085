package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// command is the command line: the root trains, as in `rmtrain --config F`.
func command() *cobra.Command {
	var o trainOptions
	root := &cobra.Command{
		Use:   "rmtrain --config FILE",
		Short: "Train a reward model on ranked answers, and score with it",
		Long: `rmtrain turns a Llama, Mistral or Qwen2 chat model into a reward model: it trains on
ranked answers with the K-wise Plackett-Luce likelihood, and scores with the result.`,
		Example: `  rmtrain example hello && rmtrain --config hello/nectar.yaml
  rmtrain --config nectar.yaml --set train.learning_rate=2e-5
  rmtrain infer --checkpoint out < samples.jsonl`,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.file == "" {
				_ = c.Help() // it goes to the terminal or nowhere
				return fmt.Errorf("no --config given (write an example with `rmtrain example DIR`)")
			}
			return o.run(c.Context(), c.OutOrStdout())
		},
	}
	f := root.Flags()
	f.StringVar(&o.file, "config", "", "the run's YAML `file`")
	f.StringArrayVar(&o.sets, "set", nil, "set a `key=value` of the configuration (repeatable)")
	f.BoolVar(&o.dryRun, "dry-run", false, "check everything, print the plan, and stop before training")
	f.BoolVar(&o.print, "print-config", false, "print the effective configuration and stop")
	root.AddCommand(inferCommand(), exportCommand(), inspectCommand(), dataCommand(), exampleCommand())
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}
