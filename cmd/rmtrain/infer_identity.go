package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rmtrain/infer"
	"rmtrain/kernels"
)

// An inputFile is where requests come from.
type inputFile struct {
	io.Reader
	path     string // absolute, or - for standard input
	size     int64  // -1 if it is unknown
	modified time.Time
	file     *os.File // to close
}

// openInput opens a file, or takes stdin for "-".
func openInput(path string, stdin io.Reader) (*inputFile, error) {
	if path == "-" {
		return &inputFile{Reader: stdin, path: path, size: -1}, nil
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("infer: open input: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("infer: open input: %w", err)
	}
	in := &inputFile{Reader: f, path: absolute, size: -1, file: f}
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("infer: open input: %w", err), f.Close())
	case st.IsDir():
		return nil, errors.Join(fmt.Errorf("infer: input %s is a folder, not a file of JSON lines", path), f.Close())
	case st.Mode().IsRegular():
		in.size, in.modified = st.Size(), st.ModTime()
		if err := otherKind(f); err != nil {
			return nil, errors.Join(fmt.Errorf("infer: input %s is %w", path, err), f.Close())
		}
	}
	return in, nil
}

// otherKind refuses files that are no JSON lines by their first bytes, each line of which
// would be an error of its own.
func otherKind(f *os.File) error {
	var head [4]byte
	n, err := f.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return err
	}
	switch start := string(head[:n]); {
	case start == "PAR1":
		return errors.New("a Parquet file (write its rows as JSON lines)")
	case strings.HasPrefix(start, "\x1f\x8b"):
		return errors.New("compressed (gzip -dc FILE | rmtrain infer ...)")
	}
	return nil
}

func (in *inputFile) Close() error {
	if in.file == nil {
		return nil
	}
	return in.file.Close()
}

// identity says what the lines of an output depend on, so that only the same command
// with the same files resumes it.
func (o inferOptions) identity(s *infer.Scorer, b kernels.Backend, dt kernels.DType, in *inputFile) (map[string]string, error) {
	checkpoint, err := filepath.Abs(s.Dir.Path)
	if err != nil {
		return nil, fmt.Errorf("infer: describe output: %w", err)
	}
	files, err := listing(checkpoint)
	if err != nil {
		return nil, fmt.Errorf("infer: describe output: %w", err)
	}
	id := map[string]string{
		"rmtrain":          version,
		"input":            in.path,
		"checkpoint":       checkpoint,
		"checkpoint files": files,
		"device":           b.Name(),
		"dtype":            dt.String(),
		"max length":       strconv.Itoa(s.Encoder.Format().MaxLength),
		"keep":             strconv.FormatBool(o.keep),
	}
	if in.size >= 0 {
		id["input file"] = fmt.Sprintf("%d bytes of %s", in.size, in.modified.UTC().Format(time.RFC3339Nano))
	}
	return id, nil
}

// listedFiles are the kinds of files of which a model consists.
var listedFiles = []string{".json", ".safetensors", ".bin", ".pt", ".jinja", ".model"}

// listing is a digest of the names, sizes and times of the model files in a folder:
// it changes when a model is replaced, and costs no reading of weights.
func listing(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, e := range entries {
		if !slices.Contains(listedFiles, filepath.Ext(e.Name())) {
			continue
		}
		st, err := os.Stat(filepath.Join(dir, e.Name())) // behind a link: the hub cache is full of them
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %d %d\n", e.Name(), st.Size(), st.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
