package main

import (
	"github.com/spf13/cobra"

	"rmtrain/checkpoints"
)

func inspectCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect DIR",
		Short: "Say what a checkpoint, a training state or a run's folder holds, and verify it",
		Example: `  rmtrain inspect out
  rmtrain inspect --json out/checkpoint-120`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			defer exitWhenStopped(c.Context())()
			s, err := checkpoints.Inspect(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), s)
			}
			return s.WriteTable(c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
