// Package rows reads files of other people's rows (Parquet, JSON lines, JSON lists, CSV)
// as JSON objects, one after another. Training and evaluation read the same kinds of
// files, so there is one reader of them, and it is the one place that decodes Parquet.
//
// Whatever a file holds, reading it ends: with its rows, or with an error that names it.
package rows

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxRow is the longest row that is read, as JSON.
const maxRow = 64 << 20

var errTooLong = fmt.Errorf("longer than %d MB", maxRow>>20)

// A Row is one row as it was found: JSON, or why there is none.
type Row struct {
	Number int     // in its file, from 1; for JSON lines that of the line
	JSON   []byte  // whoever gets it may keep it
	Err    error   // the row is unusable, the file goes on
	Done   float64 // the share of the file that has been read, from 0 to 1
}

// An Emit takes the rows of a file in their order. What it returns ends reading and is
// returned from there as it is.
type Emit func(Row) error

// A reader reads one kind of file. Its errors do not name the file.
type reader func(ctx context.Context, path string, columns []string, emit Emit) error

var readers = map[string]reader{
	".parquet":  readParquet,
	".jsonl":    readText(readJSON),
	".json":     readText(readJSON),
	".jsonl.gz": readText(readJSON),
	".json.gz":  readText(readJSON),
	".csv":      readText(readCSV),
}

// Kinds are endings of names of files.
type Kinds []string

var (
	// Typed are the kinds whose values have types.
	Typed = Kinds{".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz"}
	// All adds CSV, where all values are text.
	All = append(slices.Clone(Typed), ".csv")
)

func (k Kinds) String() string {
	return strings.Join(k[:len(k)-1], ", ") + " or " + k[len(k)-1]
}

// of returns which of k the file at path is, "" if none.
func (k Kinds) of(path string) string {
	for _, kind := range k {
		if strings.HasSuffix(strings.ToLower(path), kind) {
			return kind
		}
	}
	return ""
}

// Read hands the rows of the file at path to emit. Of Parquet it reads the top-level
// columns that are named, or all if none is; of other files always all.
func Read(ctx context.Context, path string, columns []string, emit Emit) error {
	read := readers[All.of(path)]
	if read == nil {
		return unknown(path, All)
	}
	before, err := os.Stat(path)
	if err != nil {
		return cannotOpen(path, err)
	}
	var refused error
	err = read(ctx, path, columns, func(r Row) error {
		r.Done = min(r.Done, 1)
		refused = emit(r)
		return refused
	})
	if refused != nil {
		return refused
	}
	if err != nil {
		return fmt.Errorf("data: read %s: %w", path, cause(err))
	}
	after, err := os.Stat(path)
	if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return fmt.Errorf("data: read %s: it changed while it was read", path)
	}
	return nil
}

// cannotOpen says why the file at path cannot be opened.
func cannotOpen(path string, err error) error {
	return fmt.Errorf("data: open %s: %w", path, cause(err))
}

// cause is what went wrong, without the path and the system call, which the error around
// it names in its own way.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func unknown(path string, k Kinds) error {
	return fmt.Errorf("data: open %s: not a known kind of file (name it %v; unpack .xz with `xz -d`)", path, k)
}

// A File is a file of rows.
type File struct {
	Path   string
	Bytes  int64
	SHA256 [32]byte // of its content, once it was hashed
}

// Expand lists the files that paths name, those of a folder by name.
func Expand(paths []string, kinds Kinds) ([]File, error) {
	if len(paths) == 0 {
		return nil, errors.New("data: no data files are named")
	}
	var files []File
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, cannotOpen(p, err)
		}
		inside := []string{p}
		if info.IsDir() {
			if inside, err = listFolder(p, kinds); err != nil {
				return nil, err
			}
		} else if kinds.of(p) == "" {
			return nil, unknown(p, kinds)
		}
		for _, path := range inside {
			info, err := os.Stat(path)
			if err != nil {
				return nil, cannotOpen(path, err)
			}
			files = append(files, File{Path: path, Bytes: info.Size()})
		}
	}
	return files, nil
}

func listFolder(dir string, kinds Kinds) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, cannotOpen(dir, err)
	}
	var files []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && kinds.of(path) != "" {
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("data: open %s: the folder has no %v file%s", dir, kinds, below(dir, kinds))
	}
	slices.Sort(files)
	return files, nil
}

// below names a folder inside of dir that has files of kinds. They are not taken by
// themselves, since splits that must stay apart lie in such folders.
func below(dir string, kinds Kinds) string {
	found := ""
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && kinds.of(path) != "" {
			found = filepath.Dir(path)
			return fs.SkipAll
		}
		return nil
	}) // what cannot be read is not named
	if found == "" {
		return ""
	}
	return fmt.Sprintf(" (%s has: name that, or its files)", found)
}

// Hash fills in what the content of the files is.
func Hash(ctx context.Context, files []File) error {
	for i := range files {
		f, err := os.Open(files[i].Path)
		if err != nil {
			return cannotOpen(files[i].Path, err)
		}
		h := sha256.New()
		files[i].Bytes, err = io.CopyBuffer(struct{ io.Writer }{h}, &interruptible{ctx, f}, make([]byte, 1<<20))
		f.Close()
		if err != nil {
			return fmt.Errorf("data: read %s: %w", files[i].Path, cause(err))
		}
		h.Sum(files[i].SHA256[:0])
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
