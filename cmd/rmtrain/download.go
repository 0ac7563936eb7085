package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"rmtrain/checkpoints"
	"rmtrain/checkpoints/hub"
)

func downloadCommand() *cobra.Command {
	o := hub.Options{Newest: true}
	c := &cobra.Command{
		Use:   "download ID",
		Short: "Download a model or dataset from the Hugging Face hub",
		Long: `Download what training and scoring read of a model (config.json, tokenizer, weights in one
format) or a dataset (Parquet or JSON lines) into the cache that huggingface_hub uses too, and
print the folder. An interrupted download goes on where it stopped. What is there is not
downloaded again.

HF_ENDPOINT, HF_TOKEN (or the file that hf auth login writes), HF_HOME, HF_HUB_CACHE and
HF_HUB_OFFLINE mean what they mean to huggingface_hub.`,
		Example: `  rmtrain download 01-ai/Yi-34B-Chat
  rmtrain download --dataset berkeley-nest/Nectar`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("download: give the id of one repository, such as berkeley-nest/Nectar (see rmtrain download --help)")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.ID = args[0]
			folder, err := fetch(c.Context(), o, c.ErrOrStderr())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), folder)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Revision, "revision", "", "`branch`, tag or commit (default: main)")
	f.BoolVar(&o.Dataset, "dataset", false, "ID is a dataset, not a model")
	f.BoolVar(&o.All, "all", false, "download every file, not only those that rmtrain reads")
	return c
}

// fetch downloads with a bar and notes on w, the bar only if w is a terminal.
func fetch(ctx context.Context, o hub.Options, w io.Writer) (string, error) {
	var bar *progressbar.ProgressBar
	clean := func() {
		if bar != nil {
			_ = bar.Clear() // a terminal that is gone shows nothing
		}
	}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		o.Progress = func(done, total int64) {
			if bar == nil {
				bar = progressbar.DefaultBytes(total, o.ID)
			}
			_ = bar.Set64(min(done, total))
		}
	}
	o.Note = func(line string) { fmt.Fprintf(w, "note: %s\n", line) }
	folder, err := hub.Fetch(ctx, o)
	clean()
	return folder, err
}

// modelFolder returns the folder of the model that a setting or flag means: a path
// as it is, and for a hub id its folder in the cache, into which it is downloaded if
// it is not there.
func modelFolder(ctx context.Context, nameOrPath string, w io.Writer) (string, error) {
	if !onHub(nameOrPath) {
		return checkpoints.Resolve(nameOrPath)
	}
	return fetch(ctx, hub.Options{ID: nameOrPath, SkipLMHead: true}, w)
}

// dataFiles returns paths with hub ids replaced by the files of those datasets. Of a
// dataset that has several splits, those of split come: train or test.
func dataFiles(ctx context.Context, paths []string, split string, w io.Writer) ([]string, error) {
	var out []string
	for _, p := range paths {
		if !onHub(p) {
			out = append(out, p)
			continue
		}
		folder, err := fetch(ctx, hub.Options{ID: p, Dataset: true}, w)
		if err != nil {
			return nil, fmt.Errorf("%s is not a path here, and as a dataset on the hub: %w", p, err)
		}
		files, err := splitFiles(folder, split)
		if err != nil {
			return nil, fmt.Errorf("dataset %s: %w", p, err)
		}
		out = append(out, files...)
	}
	return out, nil
}

// onHub tells whether a path is a hub id: nothing of that name is here, and it has its
// organization, and no ending of a data file.
func onHub(s string) bool {
	return !exists(s) && hub.IsID(s) && strings.Contains(s, "/") && len(hub.DataFiles([]string{s})) == 0
}

// splits are the words in names of files by which the hub tells splits apart.
var splits = map[string][]string{
	"train": {"train", "training"},
	"test":  {"test", "testing", "eval", "evaluation", "validation", "valid", "val", "dev"},
}

// splitFiles lists the data files of a dataset that are of a split. Files without
// any split in their names are train.
func splitFiles(folder, split string) ([]string, error) {
	names, err := walkFiles(folder)
	if err != nil {
		return nil, err
	}
	names = hub.DataFiles(names)
	var found []string
	for _, name := range names {
		if splitOf(name) == split {
			found = append(found, filepath.Join(folder, name))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("none of its files is of the split %s: %s (give the paths of files below %s)", split, strings.Join(names, ", "), folder)
	}
	return found, nil
}

// splitOf finds the split in a name such as data/train-00000-of-00001.parquet.
func splitOf(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune("/-_. ", r) })
	for i := len(words) - 1; i >= 0; i-- {
		for split, of := range splits {
			if slices.Contains(of, words[i]) {
				return split
			}
		}
	}
	return "train"
}

// walkFiles lists the files below folder by their slash paths, sorted.
func walkFiles(folder string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(folder, p)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	slices.Sort(names)
	return names, err
}
