package checkpoints

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTorchViewsReadAsPyTorchReadsThem(t *testing.T) {
	for _, file := range []string{"views.pt", "wrapped.pt"} {
		for dtype, expected := range map[string]string{"F32": "views.safetensors", "BF16": "views_bf16.safetensors"} {
			want, got := openOne(t, expected, formatSafe), openOne(t, file, formatTorch)
			if len(want) != len(got) {
				t.Errorf("%s has %d tensors, want %d", file, len(got), len(want))
			}
			for name, w := range want {
				g := got[name]
				if !slices.Equal(g.shape, w.shape) {
					t.Errorf("%s: %s has shape %v, want %v", file, name, g.shape, w.shape)
					continue
				}
				a, b := make([]byte, w.bytes.Size()), make([]byte, w.bytes.Size())
				if err := w.read(dtype, a); err != nil {
					t.Fatal(err)
				}
				if err := g.read(dtype, b); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(a, b) {
					t.Errorf("%s: %s as %s is %v, want %v", file, name, dtype, b, a)
				}
			}
		}
	}
}

// openOne opens one weight file of testdata.
func openOne(t *testing.T, name, format string) map[string]tensor {
	t.Helper()
	w := &rawWeights{tensors: map[string]tensor{}, format: format}
	t.Cleanup(func() { w.Close() })
	if err := w.openFile("testdata", name); err != nil {
		t.Fatal(err)
	}
	return w.tensors
}

func TestForeignTorchFilesAreRefused(t *testing.T) {
	good, err := os.ReadFile("testdata/views.pt")
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"malicious", read("malicious.pt"), `"posix"."system"`},
		{"legacy", read("legacy.bin"), "before version 1.6"},
		{"protocol 4", read("protocol4.pt"), "protocol 4"},
		{"not only tensors", read("not_only_tensors.pt"), `entry "step"`},
		{"truncated", good[:len(good)-100], "truncated"},
		{"empty", nil, "not a PyTorch file"},
		{"text", []byte("hello, world, this is text"), "not a PyTorch file"},
		{"lfs pointer", []byte("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"},
		{"compressed", rezip(t, good, func(h *zip.FileHeader, b []byte) []byte {
			if strings.Contains(h.Name, "/data/") {
				h.Method = zip.Deflate
			}
			return b
		}), "is compressed"},
		{"short storage", rezip(t, good, func(h *zip.FileHeader, b []byte) []byte {
			if strings.HasSuffix(h.Name, "/data/0") {
				return b[:len(b)-4]
			}
			return b
		}), "should have 24 elements"},
		{"big endian", rezip(t, good, func(h *zip.FileHeader, b []byte) []byte {
			if strings.HasSuffix(h.Name, "/byteorder") {
				return []byte("big")
			}
			return b
		}), "byte order"},
		{"no pickle", rezip(t, good, func(h *zip.FileHeader, b []byte) []byte {
			h.Name = strings.ReplaceAll(h.Name, "data.pkl", "x.pkl")
			return b
		}), "no data.pkl"},
		{"no storage", rezip(t, good, func(h *zip.FileHeader, b []byte) []byte {
			h.Name = strings.ReplaceAll(h.Name, "/data/", "/dat/")
			return b
		}), "no entry"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			_, err := readTorch("m.bin", bytes.NewReader(c.file), int64(len(c.file)))
			wantError(t, err, "m.bin", c.want)
		})
	}
}

// rezip copies an archive entry by entry; change may alter header and content.
func rezip(t *testing.T, b []byte, change func(*zip.FileHeader, []byte) []byte) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range in.File {
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		var content bytes.Buffer
		if _, err := content.ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		h := &zip.FileHeader{Name: e.Name, Method: zip.Store}
		data := change(h, content.Bytes())
		to, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPicklesOutsideOfAStateDictAreRefused(t *testing.T) {
	proto := "\x80\x02"
	storage := "(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
	rebuild := func(args string) string {
		return proto + "}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(" + args + "tRs."
	}
	tests := []struct{ name, pickle, want string }{
		{"empty", "", "protocol 2"},
		{"protocol 0", "(dp0\n.", "protocol 2"},
		{"no end", proto + "}", "no end"},
		{"builtin eval", proto + "c__builtin__\neval\nX\x01\x00\x00\x001\x85R.", `"__builtin__"."eval"`},
		{"array", proto + "carray\n_array_reconstructor\n.", "refused"},
		{"copy_reg", proto + "ccopy_reg\n_reconstructor\n.", "refused"},
		{"storage of another module", proto + "cevil\nFloatStorage\n.", "refused"},
		{"stack global", proto + "X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.", "opcode 0x93"},
		{"new object", proto + ")\x81.", "opcode 0x81"},
		{"extension", proto + "\x82\x01.", "opcode 0x82"},
		{"highest opcode", proto + "\xff.", "opcode 0xff"},
		{"huge string", proto + "X\xff\xff\xff\xffabc.", "behind the pickle's end"},
		{"huge long", proto + "\x8a\xffabc.", "behind the pickle's end"},
		{"cut name", proto + "ctorch\nFloat", "behind the pickle's end"},
		{"empty long", proto + "\x8a\x00.", "damaged"},
		{"pop of nothing", proto + "0.", "damaged"},
		{"odd dict", proto + "(K\x01d.", "damaged"},
		{"not a dict", proto + "K\x01.", "no dict"},
		{"key is a number", proto + "}K\x01K\x02s.", "not a string"},
		{"key that holds itself", proto + "}]q\x00h\x00ah\x00s.", "not a string"},
		{"call of a list", proto + "]q\x00h\x00a)R.", "no dict"},
		{"bad persistent id", proto + "K\x01Q.", "persistent id"},
		{"storage without class", proto + "(X\x07\x00\x00\x00storageK\x01K\x01K\x01K\x01tQ.", "a storage is not"},
		{"rebuild without arguments", rebuild(""), "at least 4"},
		{"rebuild of numbers", rebuild("K\x01K\x01K\x01K\x01"), "not storage"},
		{"rebuild of a class", rebuild("ctorch\nFloatStorage\nK\x00K\x02\x85K\x01\x85"), "not storage"},
		{"ranks differ", rebuild(storage + "K\x00K\x02\x85K\x01K\x01\x86"), "not storage"},
		{"negative size", rebuild(storage + "K\x00J\xff\xff\xff\xff\x85K\x01\x85"), "not storage"},
		{"offset beyond storage", rebuild(storage + "K\x05K\x01\x85K\x01\x85"), "does not fit"},
		{"size beyond storage", rebuild(storage + "K\x00K\x05\x85K\x01\x85"), "does not fit"},
		{"offset and size", rebuild(storage + "K\x02K\x03\x85K\x01\x85"), "does not fit"},
		{"huge stride", rebuild(storage + "K\x00K\x02\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"), "does not fit"},
		{"huge size, no stride", rebuild(storage + "K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85K\x00\x85"), "impossible shape"},
		{"size above an int", rebuild(storage + "K\x00\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x85K\x00\x85"), "not storage"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			file := torchZip(t, []byte(c.pickle), make([]byte, 16))
			_, err := readTorch("m.bin", bytes.NewReader(file), int64(len(file)))
			wantError(t, err, c.want)
		})
	}
	file := torchZip(t, []byte(rebuild(storage+"K\x01K\x03\x85K\x01\x85")), make([]byte, 16))
	if _, err := readTorch("m.bin", bytes.NewReader(file), int64(len(file))); err != nil {
		t.Errorf("a view that fits is refused: %v", err)
	}
}

// torchZip makes a file of torch.save from a pickle and one storage.
func torchZip(t testing.TB, pickled, storage []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range []struct {
		name string
		data []byte
	}{{"m/data.pkl", pickled}, {"m/data/0", storage}} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: e.name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzUnpickle checks that no pickle crashes the reader, and that every tensor that
// it accepts can be read.
func FuzzUnpickle(f *testing.F) {
	for _, name := range []string{"views.pt", "malicious.pt", "wrapped.pt"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range z.File {
			if filepath.Base(e.Name) != "data.pkl" {
				continue
			}
			r, err := e.Open()
			if err != nil {
				f.Fatal(err)
			}
			var pickled bytes.Buffer
			if _, err := pickled.ReadFrom(r); err != nil {
				f.Fatal(err)
			}
			f.Add(pickled.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, pickled []byte) {
		file := torchZip(t, pickled, make([]byte, 96))
		found, err := readTorch("m.bin", bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		for name, x := range found {
			n, err := x.elements()
			if err != nil {
				t.Fatal(err)
			}
			if !convertible(x.dtype) || n > 1<<16 {
				continue
			}
			if err := x.read("F32", make([]byte, 4*n)); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}
