package checkpoints

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// golden is the tiny model that golden.py writes in several layouts.

// goldenWant lists the tensors of golden's network.

// readAll reads every tensor as dtype.

// save writes a safetensors file of tensors whose bytes are given.

// folder makes a model folder with a config.json.

func TestLayoutsOfHuggingFaceHoldTheSameTrunk(t *testing.T) {
	base := mustOpen(t, golden+"base")
	want := readAll(t, base, "BF16")
	head := []byte{}
	for i := range 8 {
		v := math.Float32bits(float32(i)/8 - 0.5)
		head = binary.LittleEndian.AppendUint16(head, uint16(v>>16))
	}
	tests := []struct {
		name, dialect string
		head          bool
		notes         []string
	}{
		{"base", Base, false, []string{"lm_head.weight is left out"}},
		{"sharded", HuggingFace, true, nil},
		{"torch-sharded", HuggingFace, true, nil},
		{"starling-7b", Starling, true, []string{"inv_freq", "second copy of the trunk, model.model.* (20 tensors)", "lm_head.weight is left out"}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			d := mustOpen(t, golden+c.name)
			if d.Dialect != c.dialect || d.Has(headName) != c.head {
				t.Errorf("dialect %s, head %v", d.Dialect, d.Has(headName))
			}
			if err := d.Check(goldenWant()); err != nil {
				t.Fatal(err)
			}
			if len(d.Notes) != len(c.notes) {
				t.Errorf("notes %q, want %q", d.Notes, c.notes)
			}
			for _, n := range c.notes {
				if !strings.Contains(strings.Join(d.Notes, "\n"), n) {
					t.Errorf("notes %q do not say %q", d.Notes, n)
				}
			}
			got := readAll(t, d, "BF16")
			if c.head && !bytes.Equal(got[headName], head) {
				t.Errorf("head %v, want %v", got[headName], head)
			}
			for name, w := range want {
				if !bytes.Equal(got[name], w) {
					t.Errorf("%s differs from the base model's", name)
				}
			}
		})
	}
}

// rezip copies an archive entry by entry; change may alter header and content.

// FuzzUnpickle checks that no pickle crashes the reader, and that every tensor that

// it accepts can be read.

func TestLargeTensorIsReadInPieces(t *testing.T) {
	dir := folder(t, `{}`)
	n := 3*smallestShare + pieceElements + 3
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(i % 251)
	}
	save(t, filepath.Join(dir, safeName), map[string]saved{"model.norm.weight": {"F32", []int{n}, floats(values...)}})
	d := mustOpen(t, dir)
	got := make([]byte, 2*n)
	if err := d.Read("model.norm.weight", "BF16", got); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if b := uint32(binary.LittleEndian.Uint16(got[2*i:])) << 16; math.Float32frombits(b) != v {
			t.Fatalf("element %d is %v, want %v", i, math.Float32frombits(b), v)
		}
	}
}

func TestTensorStreamsWhatReadReads(t *testing.T) {
	transposed := openOne(t, "views.pt", formatTorch)["transposed"]
	d := mustOpen(t, golden+"base")
	d.tensors["model.transposed"] = transposed
	for _, name := range []string{embedName, "model.transposed"} {
		for _, dtype := range []string{"F32", "BF16"} {
			source, err := d.Tensor(name, dtype)
			if err != nil {
				t.Fatal(err)
			}
			if source.Gathered != (name != embedName) {
				t.Errorf("%s: Gathered is %t", name, source.Gathered)
			}
			want := readAll(t, d, dtype)[name]
			got := make([]byte, len(want))
			for off := 0; off < len(got); off += 20 {
				if err := source.Read(got[off:min(off+20, len(got))], int64(off)); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s as %s differs", name, dtype)
			}
			wantError(t, source.Read(make([]byte, 4), int64(len(want))), "are not elements")
			wantError(t, source.Read(make([]byte, 3), 0), "are not elements")
		}
	}
	if _, err := d.Tensor("absent", "F32"); err == nil {
		t.Error("a tensor that is not there")
	}
	if _, err := d.Tensor(embedName, "F16"); err == nil {
		t.Error("a type that is not converted to")
	}
	if got := d.DType(); got != "BF16" {
		t.Errorf("most elements are %s", got)
	}
}

func TestReadRefusesWrongDestination(t *testing.T) {
	dir := folder(t, `{}`)
	save(t, filepath.Join(dir, safeName), map[string]saved{"model.norm.weight": ones(2), "model.ids": {"I64", []int{1}, make([]byte, 8)}})
	d := mustOpen(t, dir)
	wantError(t, d.Read("model.norm.weight", "F32", make([]byte, 7)), "7 bytes", "model.norm.weight")
	wantError(t, d.Read("model.norm.weight", "F16", make([]byte, 4)), "F16")
	wantError(t, d.Read("model.ids", "F32", make([]byte, 4)), "I64")
	wantError(t, d.Read("absent", "F32", nil), "no tensor absent")
}

func TestIndexAndMetaMustBeValidJSON(t *testing.T) {
	dir := copyFolder(t, golden+"sharded")
	put(t, filepath.Join(dir, metaName), []byte("{"))
	_, err := Open(dir)
	wantError(t, err, metaName)
	meta, err := json.Marshal(Meta{Version: "1", Step: 7})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, metaName), meta)
	if d := mustOpen(t, dir); d.Meta == nil || d.Meta.Step != 7 {
		t.Errorf("meta %v", d.Meta)
	}
	put(t, filepath.Join(dir, safeIndexName), []byte(`{"weight_map": []}`))
	_, err = Open(dir)
	wantError(t, err, safeIndexName)
	put(t, filepath.Join(dir, configName), []byte("nope"))
	_, err = Open(dir)
	wantError(t, err, "config.json is not valid JSON")
}
