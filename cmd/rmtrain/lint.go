package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rmtrain/data/nectar"
	"rmtrain/data/tokenizer"
)

func dataCommand() *cobra.Command {
	var asJSON bool
	var model string
	var maxLength int
	c := &cobra.Command{
		Use:   "data FILE|DIR...",
		Short: "Look for mistakes in ranked answers before training",
		Long: `Read ranked answers (Parquet, JSON lines; folders of them; the id of a dataset on the hub, of which
the files to train on are read), and print what is in them and every
finding by row: missing ranks, ties, empty or double answers, leaking turns, and more. With
--model, tokens are counted as training would: what truncation cuts, what shared prompts save.
Ends with status 0 if something usable remains.`,
		Example: `  rmtrain data train.parquet
  rmtrain data berkeley-nest/Nectar
  rmtrain data --json --model Llama-2-7b-chat-hf Nectar/data`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("data: give files of ranked answers, or folders of them (see rmtrain data --help)")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			enc, err := lintEncoder(c.Context(), model, maxLength, c.ErrOrStderr())
			if err != nil {
				return err
			}
			paths, err := dataFiles(c.Context(), args, "train", c.ErrOrStderr())
			if err != nil {
				return err
			}
			report, err := nectar.Lint(c.Context(), paths, enc)
			if err != nil {
				return err
			}
			if report.Groups == 0 {
				return fmt.Errorf("data: no usable group of ranked answers in %q", args)
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), report)
			}
			return report.WriteTable(c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&model, "model", "", "`model` whose tokenizer counts tokens: a folder, or an id on the hub")
	f.IntVar(&maxLength, "max-length", 2048, "with --model: tokens that a conversation keeps")
	return c
}

// lintEncoder returns the encoder of a model's folder, or nil for no folder.
func lintEncoder(ctx context.Context, model string, maxLength int, w io.Writer) (*tokenizer.Encoder, error) {
	if model == "" {
		return nil, nil
	}
	dir, err := modelFolder(ctx, model, w)
	if err != nil {
		return nil, err
	}
	t, err := tokenizer.Open(dir)
	if err != nil {
		return nil, err
	}
	return tokenizer.NewEncoder(t, tokenizer.Format{Template: t.ChatTemplate(), MaxLength: maxLength, TruncationSide: "left", ScorePosition: "last_token", PadID: -1})
}
