package safetensors

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

const metadataKey = "__metadata__"

// entry is the JSON of one tensor. Pointers tell a missing key from a zero.
type entry struct {
	DType   *string  `json:"dtype"`
	Shape   *[]int   `json:"shape"`
	Offsets *[]int64 `json:"data_offsets"`
}

// parse reads the header's object key by key, because decoding into a map would
// lose the order and hide names that occur twice.
func (f *File) parse(header []byte) error {
	if !utf8.Valid(header) {
		return errors.New("header is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(header))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("header is not a JSON object")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return fmt.Errorf("header: %w", err)
		}
		if err := f.parseEntry(d, t.(string)); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("header: %w", noEOF(err))
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("header: more text after the JSON object")
	}
	return nil
}

func (f *File) parseEntry(d *json.Decoder, name string) error {
	if name == metadataKey {
		if f.Meta != nil {
			return errors.New("two __metadata__ objects")
		}
		if err := d.Decode(&f.Meta); err != nil {
			return fmt.Errorf("__metadata__ is not a map of strings: %w", noEOF(err))
		}
		if f.Meta == nil {
			f.Meta = map[string]string{}
		}
		return nil
	}
	var e entry
	if err := d.Decode(&e); err != nil {
		return fmt.Errorf("tensor %q: %w", name, noEOF(err))
	}
	h, err := e.header()
	if err != nil {
		return fmt.Errorf("tensor %q: %w", name, err)
	}
	if _, twice := f.Tensors[name]; twice {
		return fmt.Errorf("tensor %q is there twice", name)
	}
	f.Tensors[name] = h
	f.Names = append(f.Names, name)
	return nil
}

// noEOF names the end of a header for what it is: a header cut short.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (e entry) header() (Header, error) {
	if e.DType == nil || e.Shape == nil || e.Offsets == nil {
		return Header{}, errors.New("dtype, shape or data_offsets is missing")
	}
	if len(*e.Offsets) != 2 {
		return Header{}, fmt.Errorf("data_offsets has %d numbers, not 2", len(*e.Offsets))
	}
	h := Header{DType: *e.DType, Shape: *e.Shape, Lo: (*e.Offsets)[0], Hi: (*e.Offsets)[1]}
	if h.Lo < 0 || h.Hi < h.Lo {
		return Header{}, fmt.Errorf("data_offsets [%d, %d] are not a range", h.Lo, h.Hi)
	}
	size, err := Size(h.DType, h.Shape)
	if err != nil {
		return Header{}, err
	}
	if size != h.Hi-h.Lo {
		return Header{}, fmt.Errorf("%s %v takes %d bytes, but data_offsets hold %d", h.DType, h.Shape, size, h.Hi-h.Lo)
	}
	return h, nil
}

// checkLayout proves that the tensors fill the data section of size bytes exactly.
func (f *File) checkLayout(size int64) error {
	order := slices.Clone(f.Names)
	slices.SortStableFunc(order, func(a, b string) int {
		ha, hb := f.Tensors[a], f.Tensors[b]
		if ha.Lo != hb.Lo {
			return cmp.Compare(ha.Lo, hb.Lo)
		}
		return cmp.Compare(ha.Hi, hb.Hi)
	})
	end, last := int64(0), ""
	for _, name := range order {
		h := f.Tensors[name]
		switch {
		case h.Hi > size:
			return fmt.Errorf("tensor %q ends at byte %d, after the end of the data at %d (is the file truncated?)", name, h.Hi, size)
		case h.Lo < end:
			return fmt.Errorf("tensors %q and %q overlap", last, name)
		case h.Lo > end:
			return fmt.Errorf("%d bytes before tensor %q belong to none", h.Lo-end, name)
		}
		end, last = h.Hi, name
	}
	if end != size {
		return fmt.Errorf("%d bytes after the last tensor belong to none", size-end)
	}
	return nil
}
