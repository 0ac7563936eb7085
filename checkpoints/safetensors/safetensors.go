// Package safetensors reads and writes the safetensors file format: eight bytes of
// header length, a JSON header, and the tensors' bytes without gaps. It knows
// nothing of models.
package safetensors

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxHeader is the largest header that is read, in bytes: the limit of the format's
// own implementation.
const MaxHeader = 100_000_000

// A Header describes one tensor of a file.
type Header struct {
	DType  string
	Shape  []int
	Lo, Hi int64 // byte range in the data section
}

// A File is an open safetensors file. It does not own the reader.
type File struct {
	Tensors map[string]Header
	Names   []string          // of Tensors, in the order of the header
	Meta    map[string]string // __metadata__; nil if there is none

	name string
	r    io.ReaderAt
	base int64 // of the data section
}

// Open reads the header of a file of size bytes; name stands in errors. Every
// offset is checked: afterwards each tensor's range lies in the file, has the size
// that its type and shape ask for, and the ranges fill the data section without
// holes or overlaps.
func Open(name string, r io.ReaderAt, size int64) (*File, error) {
	f := &File{name: name, r: r, Tensors: map[string]Header{}}
	if err := f.open(size); err != nil {
		return nil, fmt.Errorf("safetensors: open %s: %w", name, err)
	}
	return f, nil
}

func (f *File) open(size int64) error {
	header, err := readHeader(f.r, size)
	if err != nil {
		return err
	}
	f.base = 8 + int64(len(header))
	if err := f.parse(header); err != nil {
		return err
	}
	return f.checkLayout(size - f.base)
}

// readHeader returns the JSON header after checking its length.
func readHeader(r io.ReaderAt, size int64) ([]byte, error) {
	if size < 8 {
		return nil, fmt.Errorf("the file has %d bytes, less than the 8 of a header length (is it truncated?)", size)
	}
	var head [8]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("read header length: %w", err)
	}
	if string(head[:]) == "version " {
		return nil, fmt.Errorf("this is a Git LFS pointer, not the file itself (download it, for example with git lfs pull)")
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > MaxHeader {
		return nil, fmt.Errorf("header length %d is above %d: not a safetensors file", n, MaxHeader)
	}
	if int64(n) > size-8 {
		return nil, fmt.Errorf("header of %d bytes does not fit in a file of %d (is it truncated?)", n, size)
	}
	header := make([]byte, n)
	if _, err := r.ReadAt(header, 8); err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	return header, nil
}

// Section returns a reader of the bytes of one tensor.
func (f *File) Section(name string) (*io.SectionReader, error) {
	h, ok := f.Tensors[name]
	if !ok {
		return nil, fmt.Errorf("safetensors: read %s: no tensor %q", f.name, name)
	}
	return io.NewSectionReader(f.r, f.base+h.Lo, h.Hi-h.Lo), nil
}
