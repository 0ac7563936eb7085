package train

import (
	"fmt"
	"os"
	"path/filepath"
)

// writeFile writes a file that is complete or as it was.
func writeFile(path string, text []byte) error {
	if err := ReplaceFile(path, text); err != nil {
		return fmt.Errorf("train: write %s: %w (free space, or make the folder writable)", path, err)
	}
	return nil
}

// ReplaceFile writes a file that is complete or as it was. Its error needs the operation and a remedy.
func ReplaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
