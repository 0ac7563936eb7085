package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// file puts a header before data.
func file(header string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func open(b []byte) (*File, error) {
	return Open("m.safetensors", bytes.NewReader(b), int64(len(b)))
}

// buffer is an io.WriterAt in memory.
type buffer struct {
	mu sync.Mutex
	b  []byte
}

func (w *buffer) WriteAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if need := int(off) + len(p); need > len(w.b) {
		w.b = append(w.b, make([]byte, need-len(w.b))...)
	}
	return copy(w.b[off:], p), nil
}

func TestGoldenOfPython(t *testing.T) {
	b, err := os.ReadFile("testdata/golden.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	f, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"format": "pt", "made by": "golden.py"}; !reflect.DeepEqual(f.Meta, want) {
		t.Errorf("metadata %v, want %v", f.Meta, want)
	}
	tests := []struct {
		name, dtype string
		shape       []int
		data        []byte
	}{
		{"scalar", "F32", []int{}, []byte{0, 0, 0xc0, 0x3f}},
		{"empty", "F32", []int{0, 3}, []byte{}},
		{"f64", "F64", []int{2}, []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 4, 0xc0}},
		{"f16", "F16", []int{2}, []byte{0, 0x38, 0xff, 0xfb}},
		{"bf16", "BF16", []int{2}, []byte{0x80, 0x3f, 0x40, 0xc0}},
		{"i64", "I64", []int{2}, []byte{255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 1, 0, 0}},
		{"u8", "U8", []int{3}, []byte{1, 2, 255}},
		{"bool", "BOOL", []int{2}, []byte{1, 0}},
		{"f8", "F8_E4M3", []int{2}, []byte{0x38, 0x40}},
	}
	for _, c := range tests {
		h := f.Tensors[c.name]
		if h.DType != c.dtype || !slices.Equal(h.Shape, c.shape) {
			t.Errorf("%s is %s %v, want %s %v", c.name, h.DType, h.Shape, c.dtype, c.shape)
		}
		s, err := f.Section(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, c.data) {
			t.Errorf("%s holds %v (%v), want %v", c.name, got, err, c.data)
		}
	}
	if len(f.Names) != len(tests)+1 { // and f32
		t.Errorf("%d tensors: %v", len(f.Names), f.Names)
	}
	if _, err := f.Section("absent"); err == nil || !strings.Contains(err.Error(), `"absent"`) {
		t.Errorf("a tensor that is not there: %v", err)
	}
}

func TestOrderOfHeaderIsKept(t *testing.T) {
	f, err := open(file(`{"z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, []byte{1, 2}))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"z", "a"}; !slices.Equal(f.Names, want) {
		t.Errorf("names %v, want %v", f.Names, want)
	}
}

func TestMalformedFilesAreRefusedByName(t *testing.T) {
	one := func(name, dtype, shape string, lo, hi int) string {
		return fmt.Sprintf(`"%s":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, name, dtype, shape, lo, hi)
	}
	four := make([]byte, 4)
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "less than the 8"},
		{"short", []byte{1, 2, 3}, "less than the 8"},
		{"huge header", append(binary.LittleEndian.AppendUint64(nil, 1<<40), "{}"...), "not a safetensors file"},
		{"header beyond file", append(binary.LittleEndian.AppendUint64(nil, 100), "{}"...), "truncated"},
		{"lfs pointer", []byte("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"},
		{"not json", file("hello", nil), "not a JSON object"},
		{"array", file("[]", nil), "not a JSON object"},
		{"cut json", file(`{"a":`, nil), `tensor "a"`},
		{"open object", file(`{`, nil), "header"},
		{"two objects", file(`{}{}`, nil), "more text"},
		{"not utf-8", file("{\"\xff\":1}", nil), "UTF-8"},
		{"not an object", file(`{"a":1}`, nil), `tensor "a"`},
		{"no dtype", file(`{"a":{"shape":[1],"data_offsets":[0,4]}}`, four), `tensor "a": dtype, shape or data_offsets is missing`},
		{"no shape", file(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, four), "missing"},
		{"null offsets", file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":null}}`, four), "missing"},
		{"three offsets", file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}`, four), "3 numbers"},
		{"fractional shape", file(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}`, four), `tensor "a"`},
		{"unknown dtype", file(`{`+one("a", "F33", "[1]", 0, 4)+`}`, four), `unknown dtype "F33"`},
		{"negative dimension", file(`{`+one("a", "F32", "[-1]", 0, 4)+`}`, four), "negative dimension"},
		{"overflow", file(`{`+one("a", "F32", "[4294967296,4294967296]", 0, 4)+`}`, four), "overflows"},
		{"overflow in bytes", file(`{`+one("a", "F64", "[2305843009213693952]", 0, 4)+`}`, four), "overflows"},
		{"half a byte", file(`{`+one("a", "F4", "[3]", 0, 1)+`}`, four[:1]), "whole byte"},
		{"size mismatch", file(`{`+one("a", "F32", "[2]", 0, 4)+`}`, four), "takes 8 bytes, but data_offsets hold 4"},
		{"negative offset", file(`{`+one("a", "U8", "[4]", -4, 0)+`}`, four), "not a range"},
		{"reversed offsets", file(`{`+one("a", "U8", "[4]", 4, 0)+`}`, four), "not a range"},
		{"truncated data", file(`{`+one("a", "U8", "[8]", 0, 8)+`}`, four), `tensor "a" ends at byte 8`},
		{"hole at start", file(`{`+one("a", "U8", "[3]", 1, 4)+`}`, four), "1 bytes before"},
		{"hole", file(`{`+one("a", "U8", "[1]", 0, 1)+","+one("b", "U8", "[2]", 2, 4)+`}`, four), `before tensor "b"`},
		{"overlap", file(`{`+one("a", "U8", "[3]", 0, 3)+","+one("b", "U8", "[2]", 2, 4)+`}`, four), `"a" and "b" overlap`},
		{"same range", file(`{`+one("a", "U8", "[4]", 0, 4)+","+one("b", "U8", "[4]", 0, 4)+`}`, four), "overlap"},
		{"rest", file(`{`+one("a", "U8", "[3]", 0, 3)+`}`, four), "1 bytes after"},
		{"data without tensors", file(`{}`, four), "4 bytes after"},
		{"twice", file(`{`+one("a", "U8", "[2]", 0, 2)+","+one("a", "U8", "[2]", 2, 4)+`}`, four), `"a" is there twice`},
		{"metadata of numbers", file(`{"__metadata__":{"a":1}}`, nil), "__metadata__"},
		{"metadata twice", file(`{"__metadata__":{},"__metadata__":{}}`, nil), "two __metadata__"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			_, err := open(c.file)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "m.safetensors") {
				t.Errorf("error %q does not say %q and the file's name", err, c.want)
			}
		})
	}
}

func TestWriterRoundTripInAnyOrder(t *testing.T) {
	order := []string{"big", "none", "scalar", "<odd>\n\"name\""}
	tensors := map[string]Header{
		"big": {DType: "F32", Shape: []int{50, 20}}, "none": {DType: "BF16", Shape: []int{0, 7}},
		"scalar": {DType: "I64", Shape: []int{}}, "<odd>\n\"name\"": {DType: "U8", Shape: []int{3}},
	}
	meta := map[string]string{"format": "pt", "ä": "€"}
	w := new(buffer)
	s, err := Create(w, order, tensors, meta)
	if err != nil {
		t.Fatal(err)
	}
	data := map[string][]byte{}
	type piece struct {
		name string
		off  int
	}
	var pieces []piece
	for _, name := range order {
		size, err := Size(tensors[name].DType, tensors[name].Shape)
		if err != nil {
			t.Fatal(err)
		}
		data[name] = make([]byte, size)
		for i := range data[name] {
			data[name][i] = byte(rand.Uint32())
		}
		for off := 0; off < int(size); off += 7 {
			pieces = append(pieces, piece{name, off})
		}
	}
	rand.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	var wg sync.WaitGroup
	for _, p := range pieces {
		wg.Go(func() {
			d := data[p.name]
			if err := s.WriteAt(p.name, d[p.off:min(p.off+7, len(d))], int64(p.off)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(w.b); n%8 != 0 {
		t.Errorf("header of %d bytes: data is not aligned", n)
	}
	f, err := open(w.b)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.Names, order) || !reflect.DeepEqual(f.Meta, meta) {
		t.Errorf("names %q, metadata %v", f.Names, f.Meta)
	}
	for name, want := range data {
		r, err := f.Section(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q differs (%v)", name, err)
		}
	}
}

func TestWriterRefusesMistakes(t *testing.T) {
	u8 := func(n int) Header { return Header{DType: "U8", Shape: []int{n}} }
	for _, c := range []struct {
		name    string
		order   []string
		tensors map[string]Header
		want    string
	}{
		{"undescribed", []string{"a"}, nil, "not described"},
		{"unordered", nil, map[string]Header{"a": u8(1)}, "1 tensors are described but 0 ordered"},
		{"twice", []string{"a", "a"}, map[string]Header{"a": u8(1)}, "taken"},
		{"metadata", []string{"__metadata__"}, map[string]Header{"__metadata__": u8(1)}, "taken"},
		{"dtype", []string{"a"}, map[string]Header{"a": {DType: "X"}}, "unknown dtype"},
	} {
		if _, err := Create(new(buffer), c.order, c.tensors, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	s, err := Create(new(buffer), []string{"a"}, map[string]Header{"a": u8(4)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		n    int
		off  int64
	}{{"b", 1, 0}, {"a", 5, 0}, {"a", 1, 4}, {"a", 1, -1}, {"a", 1, 1 << 62}} {
		if err := s.WriteAt(c.name, make([]byte, c.n), c.off); err == nil {
			t.Errorf("writing %d bytes at %d of %s succeeds", c.n, c.off, c.name)
		}
	}
}

func TestCloseFindsWhatWasNotWritten(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes [][2]int64
		whole  bool
	}{
		{"nothing", nil, false},
		{"start only", [][2]int64{{0, 3}}, false},
		{"end only", [][2]int64{{1, 4}}, false},
		{"hole", [][2]int64{{0, 1}, {2, 4}}, false},
		{"overlapping", [][2]int64{{1, 4}, {0, 2}}, true},
		{"filled hole", [][2]int64{{0, 1}, {3, 4}, {1, 3}}, true},
	} {
		s, err := Create(new(buffer), []string{"a"}, map[string]Header{"a": {DType: "U8", Shape: []int{4}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range c.writes {
			if err := s.WriteAt("a", make([]byte, w[1]-w[0]), w[0]); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); (err == nil) != c.whole {
			t.Errorf("%s: Close returns %v", c.name, err)
		}
	}
}

// FuzzOpen checks that whatever is accepted is consistent: ranges fill the data.
func FuzzOpen(f *testing.F) {
	golden, err := os.ReadFile("testdata/golden.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"__metadata__":{"k":"v"}}`, make([]byte, 4)))
	f.Add(file(`{}`, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := open(b)
		if err != nil {
			return
		}
		total := 0
		for _, name := range s.Names {
			r, err := s.Section(name)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if size, err := Size(s.Tensors[name].DType, s.Tensors[name].Shape); err != nil || int(size) != len(data) {
				t.Fatalf("%q has %d bytes, want %d (%v)", name, len(data), size, err)
			}
			total += len(data)
		}
		if headerLen := int(binary.LittleEndian.Uint64(b)); total != len(b)-8-headerLen {
			t.Fatalf("tensors hold %d of %d data bytes", total, len(b)-8-headerLen)
		}
		if _, err := json.Marshal(s.Meta); err != nil {
			t.Fatal(err)
		}
	})
}
