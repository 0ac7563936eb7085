package main

import (
	"context"
	"io"

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
		Args: one("the folder of one checkpoint, training state or run"),
		RunE: func(c *cobra.Command, args []string) error {
			folder, err := inspected(c.Context(), args[0], c.ErrOrStderr())
			if err != nil {
				return err
			}
			defer exitWhenStopped(c.Context())()
			s, err := checkpoints.Inspect(folder)
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

// inspected is a path as it is, and for a hub id the folder of its model.
func inspected(ctx context.Context, pathOrID string, w io.Writer) (string, error) {
	if !onHub(pathOrID) {
		return pathOrID, nil
	}
	return modelFolder(ctx, pathOrID, w)
}
