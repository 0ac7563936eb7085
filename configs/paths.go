package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var hubID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$`)

// IsHubID reports whether model.name_or_path is a name on the Hugging Face hub,
// such as 01-ai/Yi-34B-Chat: it has exactly two parts, and below dir there is no
// folder or file of that path. A path can always be told apart by "./" in front.
func IsHubID(name, dir string) bool {
	if !hubID.MatchString(name) {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, name))
	return err != nil
}

// ResolvePath makes a path absolute: relative to dir, and from the home folder if
// it begins with "~/".
func ResolvePath(path, dir string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("begins with ~, but there is no home folder: %w", err)
		}
		path = filepath.Join(home, rest)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return filepath.Abs(path)
}

// resolve makes the paths in a parsed value absolute.
func (f field) resolve(value any, dir string) (any, error) {
	if !f.isPath() {
		return value, nil
	}
	if list, ok := value.([]string); ok {
		resolved := make([]string, len(list))
		for i, path := range list {
			if isDataset(path, dir) {
				resolved[i] = path
				continue
			}
			var err error
			if resolved[i], err = ResolvePath(path, dir); err != nil {
				return nil, err
			}
		}
		return resolved, nil
	}
	text := value.(string)
	if text == "" || slices.Contains(f.words, text) || f.key == "model.name_or_path" && IsHubID(text, dir) {
		return text, nil
	}
	path, err := ResolvePath(text, dir)
	if err != nil || f.kind == "path" {
		return path, err
	}
	if _, err := os.Stat(path); err != nil {
		if near := nearest(text, f.words); near != "" {
			return nil, fmt.Errorf("is neither a word nor a path that exists; did you mean %s? Allowed is %s", near, f.allowed())
		}
		return nil, fmt.Errorf("does not exist; allowed is %s", f.allowed())
	}
	return path, nil
}

// isDataset reports whether a path of data.train or data.eval is a name on the hub:
// like a model's, but without the ending of a data file.
func isDataset(name, dir string) bool {
	for _, ending := range []string{".parquet", ".json", ".jsonl", ".gz"} {
		if strings.HasSuffix(strings.ToLower(name), ending) {
			return false
		}
	}
	return IsHubID(name, dir)
}
