package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lacksModel says what a snapshot lacks to be a whole model, or nil.
func lacksModel(folder string, skipHead bool) error {
	names, err := filesIn(folder)
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for _, n := range names {
		has[n] = true
	}
	if !has[configName] {
		return errors.New("config.json is not in the cache")
	}
	files, index, err := chooseModel(names)
	if err != nil {
		return errors.New("its weights are not in the cache")
	}
	if index != "" {
		b, err := os.ReadFile(filepath.Join(folder, index))
		if err != nil {
			return err
		}
		if files, err = shards(b, skipHead); err != nil {
			return fmt.Errorf("%s: %w", index, err)
		}
	}
	var missing []string
	for _, f := range files {
		if !has[f] {
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d of its weight files are not in the cache: %s", len(missing), strings.Join(missing, ", "))
	}
	for _, t := range tokenizers {
		if has[t] {
			return nil
		}
	}
	return errors.New("its tokenizer is not in the cache")
}

// lacksData says what a snapshot visibly lacks to be a whole dataset, or nil. A file
// that stands for itself can be missing unseen.
func lacksData(folder string) error {
	names, err := filesIn(folder)
	if err != nil {
		return err
	}
	data := DataFiles(names)
	if len(data) == 0 {
		return errors.New("its data is not in the cache")
	}
	return checkNumbers(data)
}

// filesIn lists the files below folder, behind links too, by their slash paths.
func filesIn(folder string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := os.Stat(p); err != nil || !info.Mode().IsRegular() {
			return nil // a link whose content is gone
		}
		rel, err := filepath.Rel(folder, p)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	return names, err
}
