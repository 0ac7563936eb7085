package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
)

// A Writer writes a file whose tensors are declared up front, so that they can be
// filled piece by piece, in any order and by many goroutines.
type Writer struct {
	w     io.WriterAt
	base  int64
	order []string
	lo    map[string]int64
	size  map[string]int64

	mu      sync.Mutex
	written map[string][]span // disjoint, sorted
}

type span struct{ lo, hi int64 }

// Create lays out a file with tensors in the given order and writes its header.
// Lo and Hi of tensors are ignored: Create chooses them.
func Create(w io.WriterAt, order []string, tensors map[string]Header, meta map[string]string) (*Writer, error) {
	s := &Writer{w: w, order: order, lo: map[string]int64{}, size: map[string]int64{}, written: map[string][]span{}}
	header, err := s.layout(tensors, meta)
	if err != nil {
		return nil, fmt.Errorf("safetensors: create: %w", err)
	}
	head := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	if _, err := w.WriteAt(append(head, header...), 0); err != nil {
		return nil, fmt.Errorf("safetensors: create: write header: %w", err)
	}
	s.base = int64(8 + len(header))
	return s, nil
}

// layout returns the header, padded with spaces so that the data section starts at
// a multiple of 8 bytes.
func (s *Writer) layout(tensors map[string]Header, meta map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	if meta != nil {
		writeKey(&b, metadataKey)
		writeMeta(&b, meta)
	}
	end := int64(0)
	for _, name := range s.order {
		h, ok := tensors[name]
		if !ok {
			return nil, fmt.Errorf("tensor %q is ordered but not described", name)
		}
		if _, twice := s.lo[name]; twice || name == metadataKey {
			return nil, fmt.Errorf("tensor %q: the name is taken", name)
		}
		size, err := Size(h.DType, h.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		s.lo[name], s.size[name] = end, size
		writeKey(&b, name)
		writeEntry(&b, h, end, end+size)
		end += size
	}
	b.WriteByte('}')
	if len(s.lo) != len(tensors) {
		return nil, fmt.Errorf("%d tensors are described but %d ordered", len(tensors), len(s.lo))
	}
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > MaxHeader {
		return nil, fmt.Errorf("header of %d bytes is above the format's limit of %d", b.Len(), MaxHeader)
	}
	return b.Bytes(), nil
}

func writeKey(b *bytes.Buffer, key string) {
	if b.Len() > 1 {
		b.WriteByte(',')
	}
	writeString(b, key)
	b.WriteByte(':')
}

func writeString(b *bytes.Buffer, s string) {
	q, _ := json.Marshal(s) // a string always marshals
	b.Write(q)
}

// writeMeta writes keys in order, so that equal files have equal bytes.
func writeMeta(b *bytes.Buffer, meta map[string]string) {
	b.WriteByte('{')
	for i, k := range slices.Sorted(maps.Keys(meta)) {
		if i > 0 {
			b.WriteByte(',')
		}
		writeString(b, k)
		b.WriteByte(':')
		writeString(b, meta[k])
	}
	b.WriteByte('}')
}

func writeEntry(b *bytes.Buffer, h Header, lo, hi int64) {
	b.WriteString(`{"dtype":"` + h.DType + `","shape":[`)
	for i, d := range h.Shape {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "%d", d)
	}
	fmt.Fprintf(b, `],"data_offsets":[%d,%d]}`, lo, hi)
}

// WriteAt writes p at byte off of the named tensor.
func (s *Writer) WriteAt(name string, p []byte, off int64) error {
	size, ok := s.size[name]
	if !ok {
		return fmt.Errorf("safetensors: write: no tensor %q was declared", name)
	}
	if off < 0 || off > size || int64(len(p)) > size-off {
		return fmt.Errorf("safetensors: write %q: bytes [%d, %d) are outside its %d", name, off, off+int64(len(p)), size)
	}
	if len(p) == 0 {
		return nil
	}
	if _, err := s.w.WriteAt(p, s.base+s.lo[name]+off); err != nil {
		return fmt.Errorf("safetensors: write %q: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written[name] = insert(s.written[name], span{off, off + int64(len(p))})
	return nil
}

// insert adds n to sorted disjoint spans, joining what touches or overlaps.
func insert(spans []span, n span) []span {
	lo := 0
	for lo < len(spans) && spans[lo].hi < n.lo {
		lo++
	}
	hi := lo
	for hi < len(spans) && spans[hi].lo <= n.hi {
		n.lo, n.hi = min(n.lo, spans[hi].lo), max(n.hi, spans[hi].hi)
		hi++
	}
	return slices.Replace(spans, lo, hi, n)
}

// Close fails if a byte of a tensor was never written. It does not close the
// underlying file.
func (s *Writer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.order {
		if s.size[name] == 0 {
			continue
		}
		got := s.written[name]
		if len(got) != 1 || got[0] != (span{0, s.size[name]}) {
			return fmt.Errorf("safetensors: close: tensor %q of %d bytes is incomplete: %v were written", name, s.size[name], got)
		}
	}
	return nil
}
