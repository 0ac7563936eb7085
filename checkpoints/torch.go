package checkpoints

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// maxPickle bounds data.pkl, which holds names and shapes but no elements: some
// hundred bytes a tensor.
const maxPickle = 64 << 20

// A torchFile is a file of torch.save: a zip archive in which data.pkl describes
// the tensors and data/0, data/1, ... are their storages, stored as they are.
type torchFile struct {
	name    string
	r       io.ReaderAt
	size    int64
	prefix  string // folder inside the archive
	entries map[string]*zip.File
}

// readTorch reads the tensors of a state dict. Elements stay in the file.
func readTorch(name string, r io.ReaderAt, size int64) (map[string]tensor, error) {
	f := &torchFile{name: name, r: r, size: size, entries: map[string]*zip.File{}}
	found, err := f.tensors()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return found, nil
}

func (f *torchFile) tensors() (map[string]tensor, error) {
	if err := f.openZip(); err != nil {
		return nil, err
	}
	pickled, err := f.readEntry("data.pkl", maxPickle)
	if err != nil {
		return nil, err
	}
	if order, err := f.readEntry("byteorder", 16); err == nil && string(order) != "little" {
		return nil, fmt.Errorf("byte order %q is not supported, only little", order)
	}
	values, err := unpickle(pickled, f)
	if err != nil {
		return nil, err
	}
	found := make(map[string]tensor, len(values))
	for key, v := range values {
		t, err := f.locate(v)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", key, err)
		}
		found[key] = t
	}
	return found, nil
}

func (f *torchFile) openZip() error {
	if err := f.checkMagic(); err != nil {
		return err
	}
	z, err := zip.NewReader(f.r, f.size)
	if err != nil {
		return fmt.Errorf("not a complete PyTorch file: %w (is it truncated?)", err)
	}
	for _, e := range z.File {
		if _, twice := f.entries[e.Name]; twice {
			return fmt.Errorf("archive entry %q is there twice", e.Name)
		}
		f.entries[e.Name] = e
		if path.Base(e.Name) != "data.pkl" {
			continue
		}
		if f.prefix != "" {
			return errors.New("the archive has several data.pkl")
		}
		f.prefix = path.Dir(e.Name)
	}
	if f.prefix == "" {
		return errors.New("the archive has no data.pkl: not a file of torch.save")
	}
	return nil
}

// checkMagic tells what else a file named *.bin or *.pt may be.
func (f *torchFile) checkMagic() error {
	head := make([]byte, 16)
	n, err := f.r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return nil
	case bytes.HasPrefix(head, []byte("version ")):
		return errors.New("this is a Git LFS pointer, not the file itself (download it, for example with git lfs pull)")
	case bytes.HasPrefix(head, []byte{0x80}):
		return errors.New("this is a bare pickle, PyTorch's format before version 1.6, which is not read " +
			"(convert it: torch.save(torch.load(FILE, weights_only=True), FILE))")
	}
	return errors.New("not a PyTorch file in zip form")
}

func (f *torchFile) entry(name string) (*zip.File, error) {
	e, ok := f.entries[path.Join(f.prefix, name)]
	if !ok {
		return nil, fmt.Errorf("the archive has no entry %s", name)
	}
	return e, nil
}

// readEntry reads a small entry whole.
func (f *torchFile) readEntry(name string, limit int64) ([]byte, error) {
	e, err := f.entry(name)
	if err != nil {
		return nil, err
	}
	r, err := e.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return b, nil
}

// storage returns the bytes of a storage where they lie in the file.
func (f *torchFile) storage(key string) (*io.SectionReader, error) {
	if key == "" || strings.ContainsAny(key, "/\\") {
		return nil, fmt.Errorf("storage %q has an impossible name", key)
	}
	e, err := f.entry("data/" + key)
	if err != nil {
		return nil, err
	}
	if e.Method != zip.Store {
		return nil, fmt.Errorf("storage %s is compressed, which torch.save never does (load and save the file with PyTorch)", key)
	}
	off, err := e.DataOffset()
	if err != nil {
		return nil, fmt.Errorf("storage %s: %w", key, err)
	}
	size := int64(e.UncompressedSize64)
	if size < 0 || off > f.size || size > f.size-off {
		return nil, fmt.Errorf("storage %s ends after the end of the file (is it truncated?)", key)
	}
	return io.NewSectionReader(f.r, off, size), nil
}

// locate turns a pickled tensor into a range of the file, after checking that
// every element of the view lies inside its storage.
func (f *torchFile) locate(v *torchTensor) (tensor, error) {
	t := tensor{file: f.name, dtype: v.storage.dtype, shape: v.shape, strides: v.strides}
	storage, err := f.storage(v.storage.key)
	if err != nil {
		return t, err
	}
	width := int64(v.storage.width)
	if held := storage.Size() / width; v.storage.elements > held {
		return t, fmt.Errorf("storage %s should have %d elements, but its entry has %d", v.storage.key, v.storage.elements, held)
	}
	n, err := t.elements()
	if err != nil {
		return t, err
	}
	span, err := v.span(n)
	if err != nil {
		return t, err
	}
	if v.offset > v.storage.elements || span > v.storage.elements-v.offset {
		return t, fmt.Errorf("shape %v with strides %v at %d does not fit in a storage of %d elements", v.shape, v.strides, v.offset, v.storage.elements)
	}
	if contiguous(v.shape, v.strides) {
		t.strides = nil
	}
	t.bytes = io.NewSectionReader(storage, v.offset*width, span*width)
	return t, nil
}

// span returns how many elements of the storage lie between the first and the last
// of the view, both included.
func (v *torchTensor) span(n int) (int64, error) {
	if n == 0 {
		return 0, nil
	}
	last := int64(0)
	for i, d := range v.shape {
		stride := int64(v.strides[i])
		if stride > 0 && int64(d-1) > (v.storage.elements-last)/stride {
			return 0, fmt.Errorf("shape %v with strides %v does not fit in a storage of %d elements", v.shape, v.strides, v.storage.elements)
		}
		last += int64(d-1) * stride
	}
	return last + 1, nil
}

// contiguous tells whether the view is plain row-major order.
func contiguous(shape, strides []int) bool {
	want := 1
	for i := len(shape) - 1; i >= 0; i-- {
		if shape[i] != 1 && strides[i] != want {
			return false
		}
		want *= shape[i]
	}
	return true
}
