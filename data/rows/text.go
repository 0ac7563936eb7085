package rows

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// A text is a file that is read from its beginning to its end.
type text struct {
	*bufio.Reader
	rest *allowance
	done func() float64
}

// readText opens a file, unpacks it if it is named .gz, and skips a byte order mark.
func readText(read func(in *text, emit Emit) error) reader {
	return func(ctx context.Context, path string, _ []string, emit Emit) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		raw := &counter{r: &interruptible{ctx, f}}
		var plain io.Reader = raw
		if strings.HasSuffix(strings.ToLower(path), ".gz") {
			if plain, err = newUnpacker(raw); err != nil {
				return err
			}
		}
		return read(newText(plain, func() float64 { return float64(raw.n) / float64(max(info.Size(), 1)) }), emit)
	}
}

// newText reads from plain; done is how much of the file has been read.
func newText(plain io.Reader, done func() float64) *text {
	rest := &allowance{r: plain}
	in := &text{bufio.NewReaderSize(rest, 1<<20), rest, done}
	rest.renew()
	if mark, _ := in.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = in.Discard(3) // they are in the buffer
	}
	return in
}

// An unpacker reads gzip, and says so if that fails.
type unpacker struct{ r io.Reader }

func newUnpacker(raw io.Reader) (*unpacker, error) {
	r, err := gzip.NewReader(bufio.NewReader(raw))
	if err == io.EOF {
		return nil, errors.New("the file is empty")
	}
	if err != nil {
		return nil, notGzip(err)
	}
	return &unpacker{r}, nil
}

func (u *unpacker) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	return n, notGzip(err)
}

// notGzip explains errors of package gzip, and leaves others alone.
func notGzip(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the gzip data are cut off (fetch the file again)")
	case errors.Is(err, gzip.ErrHeader):
		return fmt.Errorf("%w: it is no gzip file (name it without .gz, or fetch it again)", err)
	case errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return fmt.Errorf("the gzip data are damaged: %w (fetch the file again)", err)
	}
	return err
}

// A counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// An allowance fails when a row is too long for whoever keeps all of it in memory.
type allowance struct {
	r    io.Reader
	left int
}

// renew is called before each row.
func (a *allowance) renew() { a.left = maxRow }

func (a *allowance) Read(b []byte) (int, error) {
	if a.left <= 0 {
		return 0, errTooLong
	}
	n, err := a.r.Read(b)
	a.left -= n
	return n, err
}

// readJSON reads JSON lines, or one JSON list of rows.
func readJSON(in *text, emit Emit) error {
	if beginsList(in.Reader) {
		return readList(in, emit)
	}
	return readLines(in, emit)
}

// beginsList tells whether a JSON list follows white space that fits the buffer.
func beginsList(in *bufio.Reader) bool {
	for n := 1; n <= in.Size(); n++ {
		b, err := in.Peek(n)
		if err != nil {
			return false
		}
		if last := b[n-1]; last != ' ' && last != '\t' && last != '\r' && last != '\n' {
			return last == '['
		}
	}
	return false
}

// readList emits every element of a JSON list. Without the end of an element that is
// too long the next is not found, so that it ends the file.
func readList(in *text, emit Emit) error {
	decoder := json.NewDecoder(in)
	number := 1
	failed := func(err error) error {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("element %d: %w", number, err)
	}
	if _, err := decoder.Token(); err != nil {
		return failed(err)
	}
	for ; decoder.More(); number++ {
		in.rest.renew()
		var element json.RawMessage
		if err := decoder.Decode(&element); err != nil {
			return failed(err)
		}
		if err := emit(Row{Number: number, JSON: element, Done: in.done()}); err != nil {
			return err
		}
	}
	in.rest.renew()
	if _, err := decoder.Token(); err != nil {
		return failed(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return failed(errors.New("there is more after the list"))
	}
	return nil
}

// readLines emits every line that is not blank. One that is too long is bad by itself.
func readLines(in *text, emit Emit) error {
	for number := 1; ; number++ {
		line, tooLong, err := readLine(in)
		if err != nil && err != io.EOF {
			return fmt.Errorf("line %d: %w", number, err)
		}
		r := Row{Number: number, JSON: bytes.TrimSpace(line), Done: in.done()}
		if tooLong {
			r.JSON, r.Err = nil, errTooLong
		}
		if r.Err != nil || len(r.JSON) > 0 {
			if err := emit(r); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readLine reads up to a line feed or the end, which it returns as io.EOF. Of a
// line over maxRow it keeps nothing.
func readLine(in *text) (line []byte, tooLong bool, err error) {
	for {
		in.rest.renew()
		part, err := in.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > maxRow; tooLong {
			line = nil
		} else {
			line = append(line, part...)
		}
		if err != bufio.ErrBufferFull {
			return line, tooLong, err
		}
	}
}

// readCSV reads a header and makes an object of every other record, by the header's
// names. Rows are numbered without the header.
func readCSV(in *text, emit Emit) error {
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
		in.rest.renew()
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
		if err := emit(Row{Number: number, JSON: line, Done: in.done()}); err != nil {
			return err
		}
	}
}
