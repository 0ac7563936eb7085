package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// hubID is what Hugging Face accepts as the name of a repository.
var hubID = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$`)

// Resolve returns the folder that nameOrPath means: an existing folder as it is; a
// hub cache folder (models--org--name) as its current snapshot; and a hub id
// ("org/name") as the snapshot in the local hub cache. Nothing is downloaded.
func Resolve(nameOrPath string) (string, error) {
	if nameOrPath == "" {
		return "", errors.New("checkpoints: find model: the path is empty")
	}
	if _, err := os.Stat(nameOrPath); err == nil {
		return snapshot(nameOrPath)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("checkpoints: find model: %w", err)
	}
	if !hubID.MatchString(nameOrPath) {
		return "", fmt.Errorf("checkpoints: find model %s: no such folder", nameOrPath)
	}
	caches := hubCaches()
	folder := "models--" + strings.ReplaceAll(nameOrPath, "/", "--")
	for _, c := range caches {
		if path := filepath.Join(c, folder); exists(path) {
			return snapshot(path)
		}
	}
	return "", fmt.Errorf("checkpoints: find model %s: no such folder, and not in the hub cache at %s (download it first: rmtrain download %[1]s)",
		nameOrPath, strings.Join(caches, ", "))
}

// hubCaches lists where huggingface_hub keeps its cache, first the one that it
// would use.
func hubCaches() []string {
	var dirs []string
	add := func(base string, elem ...string) {
		if base != "" {
			dirs = append(dirs, filepath.Join(append([]string{base}, elem...)...))
		}
	}
	add(os.Getenv("HF_HUB_CACHE"))
	add(os.Getenv("HUGGINGFACE_HUB_CACHE"))
	add(os.Getenv("HF_HOME"), "hub")
	add(os.Getenv("XDG_CACHE_HOME"), "huggingface", "hub")
	if home, err := os.UserHomeDir(); err == nil {
		add(home, ".cache", "huggingface", "hub")
	}
	return dirs
}

// snapshot returns the current snapshot of a hub cache folder, and any other path
// as it is.
func snapshot(path string) (string, error) {
	dir := filepath.Join(path, "snapshots")
	if exists(filepath.Join(path, configName)) || !exists(dir) {
		return path, nil
	}
	revision, err := currentRevision(path, dir)
	if err != nil {
		return "", fmt.Errorf("checkpoints: open hub cache %s: %w", path, err)
	}
	found := filepath.Join(dir, revision)
	if !exists(found) {
		return "", fmt.Errorf("checkpoints: open hub cache %s: refs/main names snapshot %s, which is missing (download the model again)", path, revision)
	}
	return found, nil
}

// currentRevision is what refs/main says or, without it, the only snapshot.
func currentRevision(path, snapshots string) (string, error) {
	ref, err := readSmall(filepath.Join(path, "refs", "main"))
	if err == nil {
		revision := strings.TrimSpace(string(ref))
		if !plainName(revision) {
			return "", fmt.Errorf("refs/main holds %q, not a revision", revision)
		}
		return revision, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	entries, err := os.ReadDir(snapshots)
	if err != nil {
		return "", err
	}
	if len(entries) != 1 {
		return "", fmt.Errorf("no refs/main and %d snapshots (give the path of one snapshot)", len(entries))
	}
	return entries[0].Name(), nil
}

// plainName tells whether name is a file name without any folder, so that a file
// named by foreign JSON cannot lie outside of its folder.
func plainName(name string) bool {
	return name == filepath.Base(name) && filepath.IsLocal(name) && name != "." && !strings.ContainsAny(name, "/\\")
}
