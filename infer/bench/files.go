package bench

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxRow is the longest row that is read, as JSON.
const maxRow = 64 << 20

// An emitter takes the rows of a file, one after another, and their numbers from 1. It
// may keep them.
type emitter func(number int, row []byte) error

// readers read the kinds of files, by their names. columns are those that a reader may
// confine itself to.
var readers = []struct {
	suffix string
	read   func(path string, columns []string, emit emitter) error
}{
	{".parquet", readParquet},
	{".csv", func(path string, _ []string, emit emitter) error { return readText(path, readCSV, emit) }},
	{".jsonl", readJSONFile}, {".json", readJSONFile}, {".jsonl.gz", readJSONFile}, {".json.gz", readJSONFile},
}

const formats = ".parquet, .csv, .jsonl, .json or .jsonl.gz"

func readerOf(path string) func(string, []string, emitter) error {
	for _, r := range readers {
		if strings.HasSuffix(strings.ToLower(path), r.suffix) {
			return r.read
		}
	}
	return nil
}

// expand lists the files that paths name, those of a folder by name.
func expand(paths []string) ([]string, error) {
	var files []string
	for _, p := range paths {
		info, err := os.Stat(p)
		switch {
		case err != nil:
			return nil, fmt.Errorf("bench: open data: %w", err)
		case info.IsDir():
			inside, err := listFolder(p)
			if err != nil {
				return nil, err
			}
			files = append(files, inside...)
		case readerOf(p) == nil:
			return nil, fmt.Errorf("bench: open %s: not a known kind of file (name it %s; unpack .xz with `xz -d`)", p, formats)
		default:
			files = append(files, p)
		}
	}
	return files, nil
}

func listFolder(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("bench: open data: %w", err)
	}
	var files []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && readerOf(path) != nil {
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("bench: open %s: the folder has no %s file", dir, formats)
	}
	slices.Sort(files)
	return files, nil
}

// digest returns the size and the SHA-256 of a file.
func digest(ctx context.Context, path string) (int64, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", fmt.Errorf("bench: open data: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n := int64(0)
	for buf := make([]byte, 1<<20); ; {
		if err := ctx.Err(); err != nil {
			return 0, "", err
		}
		k, err := f.Read(buf)
		h.Write(buf[:k])
		n += int64(k)
		if err == io.EOF {
			return n, hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return 0, "", fmt.Errorf("bench: read %s: %w", path, err)
		}
	}
}

// readText opens a file, unpacks it if it is named .gz, and skips a byte order mark.
func readText(path string, read func(in *bufio.Reader, emit emitter) error, emit emitter) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var text io.Reader = f
	if strings.HasSuffix(strings.ToLower(path), ".gz") {
		if text, err = gzip.NewReader(bufio.NewReader(f)); err != nil {
			return err
		}
	}
	in := bufio.NewReaderSize(text, 1<<16)
	if mark, _ := in.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = in.Discard(3) // they are in the buffer
	}
	return read(in, emit)
}

func readJSONFile(path string, _ []string, emit emitter) error {
	return readText(path, readJSON, emit)
}

// readJSON reads JSON lines, or one JSON list of rows. Blank lines are left out.
func readJSON(in *bufio.Reader, emit emitter) error {
	if beginsList(in) {
		return readList(in, emit)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 1<<16), maxRow)
	number := 0
	for lines.Scan() {
		number++
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
			if err := emit(number, bytes.Clone(line)); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d MB", number+1, maxRow>>20)
	} else if err != nil {
		return fmt.Errorf("line %d: %w", number+1, err)
	}
	return nil
}

// beginsList tells whether the first byte that is not white space is a bracket.
func beginsList(in *bufio.Reader) bool {
	for n := 1; n <= in.Size(); n++ {
		b, err := in.Peek(n)
		if err != nil {
			return false
		}
		if last := b[n-1]; !strings.ContainsRune(" \t\r\n", rune(last)) {
			return last == '['
		}
	}
	return false
}

func readList(in *bufio.Reader, emit emitter) error {
	d := json.NewDecoder(in)
	if _, err := d.Token(); err != nil {
		return err
	}
	number := 1
	for ; d.More(); number++ {
		var element json.RawMessage
		if err := d.Decode(&element); err != nil {
			return fmt.Errorf("element %d: %w", number, unexpected(err))
		}
		if err := emit(number, element); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("behind element %d: %w", number-1, unexpected(err))
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more after the list")
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readCSV reads a header and makes an object of every other record, by the header's
// names. Rows are numbered without the header.
func readCSV(in *bufio.Reader, emit emitter) error {
	r := csv.NewReader(in)
	header, err := r.Read()
	if err == io.EOF {
		return errors.New("the file is empty")
	}
	if err != nil {
		return err
	}
	for i, name := range header {
		header[i] = strings.TrimSpace(name)
	}
	for number := 1; ; number++ {
		record, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		object := make(map[string]string, len(header))
		for i, name := range header {
			object[name] = record[i]
		}
		line, err := json.Marshal(object)
		if err != nil {
			return err
		}
		if err := emit(number, line); err != nil {
			return err
		}
	}
}
