package nectar

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A row is one row as it was found: JSON, or why there is none.
type row struct {
	file   string
	number int // in its file, from 1; for JSON lines that of the line
	json   []byte
	err    error // the row is unusable, the file goes on
	done   int64 // bytes of input up to here, all files together
}

// A reader hands the rows of one file to emit, in order. An error is the end of
// the file: a row that is only bad by itself is emitted with its err. fraction is
// how much of the file has been read.
type reader func(ctx context.Context, path string, emit func(number int, json []byte, bad error, fraction float64) error) error

var readers = []struct {
	suffix string
	read   reader
}{
	{".parquet", readParquet},
	{".jsonl", readJSON}, {".json", readJSON},
	{".jsonl.gz", readGzip}, {".json.gz", readGzip},
}

func readerOf(path string) reader {
	for _, r := range readers {
		if strings.HasSuffix(strings.ToLower(path), r.suffix) {
			return r.read
		}
	}
	return nil
}

const formats = ".parquet, .jsonl, .json or .jsonl.gz"

// An input is a file to read.
type input struct {
	path   string
	size   int64
	digest [32]byte // SHA-256 of its content, once it was hashed
}

// expand lists the files that paths name, those of a folder by name.
func expand(paths []string) ([]input, error) {
	if len(paths) == 0 {
		return nil, errors.New("nectar: no data files are named")
	}
	var inputs []input
	for _, p := range paths {
		files := []string{p}
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("nectar: open data: %w", err)
		}
		if info.IsDir() {
			if files, err = listFolder(p); err != nil {
				return nil, err
			}
		} else if readerOf(p) == nil {
			return nil, fmt.Errorf("nectar: open %s: not a known kind of data (name it %s)", p, formats)
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				return nil, fmt.Errorf("nectar: open data: %w", err)
			}
			inputs = append(inputs, input{path: f, size: info.Size()})
		}
	}
	return inputs, nil
}

func listFolder(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("nectar: open data: %w", err)
	}
	var files []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && readerOf(path) != nil {
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("nectar: open %s: the folder has no %s file", dir, formats)
	}
	slices.Sort(files)
	return files, nil
}

// readAll hands the rows of all inputs to emit, in order.
func readAll(ctx context.Context, inputs []input, emit func(row) error) error {
	base := int64(0)
	for _, in := range inputs {
		before, err := os.Stat(in.path)
		if err != nil {
			return fmt.Errorf("nectar: open data: %w", err)
		}
		err = readerOf(in.path)(ctx, in.path, func(number int, json []byte, bad error, fraction float64) error {
			done := base + int64(fraction*float64(in.size))
			return emit(row{in.path, number, json, bad, done})
		})
		if err != nil {
			return err
		}
		after, err := os.Stat(in.path)
		if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
			return fmt.Errorf("nectar: read %s: it changed while it was read", in.path)
		}
		base += in.size
	}
	return nil
}

// hash fills the digests of inputs.
func hash(ctx context.Context, inputs []input) error {
	for i := range inputs {
		f, err := os.Open(inputs[i].path)
		if err != nil {
			return fmt.Errorf("nectar: open data: %w", err)
		}
		h := sha256.New()
		_, err = io.CopyBuffer(struct{ io.Writer }{h}, &interruptible{ctx, f}, make([]byte, 1<<20))
		f.Close()
		if err != nil {
			return fmt.Errorf("nectar: read %s: %w", inputs[i].path, err)
		}
		h.Sum(inputs[i].digest[:0])
	}
	return nil
}

// An interruptible reader ends when its context does.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (r *interruptible) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
