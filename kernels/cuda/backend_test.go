//go:build nvidia

package cuda

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"rmtrain/kernels"
)

func TestNewRefuses(t *testing.T) {
	needDevice(t)
	for _, c := range []struct {
		dt      kernels.DType
		ordinal int
		want    string
	}{
		{kernels.F64, 0, "cannot compute in F64"},
		{kernels.I32, 0, "cannot compute in I32"},
		{kernels.F32, 99, "there is no device 99"},
		{kernels.F32, -1, "there is no device -1"},
	} {
		if b, err := New(c.dt, c.ordinal); err == nil || b != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%v, %d): %v, want %q", c.dt, c.ordinal, err, c.want)
		}
	}
}

func TestNewNamesTheModuleThatDoesNotLoad(t *testing.T) {
	needDevice(t)
	_, err := newFrom(kernels.F32, 0, map[string]string{"broken.ptx": ".version 8.0\n.target sm_80\nnonsense"})
	if err == nil || !strings.Contains(err.Error(), "broken.ptx") {
		t.Errorf("newFrom of a broken module: %v", err)
	}
}

func TestBackendsShareNothing(t *testing.T) {
	a, b := newBackend(t, kernels.F32), newBackend(t, kernels.BF16)
	x, err := a.Alloc("weights", kernels.F32, 5)
	if err != nil {
		t.Fatal(err)
	}
	if used := tensorsOf(b); len(used) != 0 {
		t.Errorf("the other backend has %v", used)
	}
	defer func() {
		if recover() == nil {
			t.Error("an operation took a tensor of another backend")
		}
	}()
	b.Zero(x)
}

// tensorsOf returns what is in use but for scratch memory.
func tensorsOf(b *backend) map[string]int64 {
	used := b.Used()
	delete(used, kernels.ScratchTag)
	return used
}

func TestScratchMemoryIsAccounted(t *testing.T) {
	needDevice(t)
	b, err := newFrom(kernels.F32, 0, images())
	if err != nil {
		t.Fatal(err)
	}
	const rows, cols = 2 * partRows, 3
	idle := b.Used()[kernels.ScratchTag]
	if want := int64(workspaceBytes + b.fault.bytes); idle != want {
		t.Errorf("an idle backend uses %d bytes, want %d", idle, want)
	}
	sums, x := upload(t, b, kernels.F32, 1, cols, make([]byte, 4*cols)), upload(t, b, b.act, rows, cols, make([]byte, 4*rows*cols))
	for range 2 { // the second time it is there
		b.AddBiasBack(sums, x)
		if got, want := b.Used()[kernels.ScratchTag]-idle, int64(b.parts.bytes); got != want || want < 4*2*cols {
			t.Errorf("sums of columns take %d bytes, want %d", got, want)
		}
	}
	if err := b.Close(); err != nil || len(b.Used()) != 0 {
		t.Errorf("closed: %v, in use are %v", err, b.Used())
	}
}

func TestAllocRefusesWhatTheDeviceLacks(t *testing.T) {
	b := newBackend(t, kernels.F32)
	if _, err := b.Alloc("optimizer", kernels.F32, 1<<20); err != nil {
		t.Fatal(err) // 4 MiB
	}
	for _, shape := range [][]int{{1 << 31, 1 << 31, 1 << 31}, {1 << 20, 1 << 22}} {
		_, err := b.Alloc("weights", kernels.F32, shape...)
		if err == nil || !strings.Contains(err.Error(), "weights") {
			t.Errorf("Alloc(%v): %v, want an error that names the purpose", shape, err)
		}
		if shape[0] == 1<<20 && !strings.Contains(err.Error(), "in use here are scratch 0.0313, optimizer 0.00391 GiB") {
			t.Errorf("Alloc(%v): %v, want what is in use", shape, err)
		}
	}
	if err := b.Sync(); err != nil || len(tensorsOf(b)) != 1 {
		t.Errorf("a refused allocation leaves %v, %v", err, b.Used())
	}
}

// An index outside of its table is found on the device, and stops everything after it.
func TestFirstFailureStopsEverything(t *testing.T) {
	const cols = 3
	for name, run := range map[string]func(b *backend, table, x, ids, score, w kernels.Tensor){
		"RoPE": func(b *backend, table, x, ids, score, w kernels.Tensor) {
			h := kernels.Heads{Q: 1, KV: 1, Dim: 2}
			qkv, _ := b.Alloc("test", b.act, 2, h.QKV())
			angles, _ := b.Alloc("test", kernels.F32, 4, 2)
			b.RoPE(qkv, ids, angles, h, false)
		},
		"Embed":     func(b *backend, table, x, ids, score, w kernels.Tensor) { b.Embed(x, table, ids) },
		"EmbedBack": func(b *backend, table, x, ids, score, w kernels.Tensor) { b.EmbedBack(table, x, ids, -1) },
		"Scatter":   func(b *backend, table, x, ids, score, w kernels.Tensor) { b.Scatter(table, x, ids) },
		"ValueHead": func(b *backend, table, x, ids, score, w kernels.Tensor) { b.ValueHead(score, table, ids, w) },
		"ValueHeadBack": func(b *backend, table, x, ids, score, w kernels.Tensor) {
			dx, _ := b.Alloc("test", b.act, table.Rows(), cols)
			b.ValueHeadBack(dx, w, score, table, ids, w)
		},
	} {
		for _, bad := range []int32{-7, 4} {
			b := newBackend(t, kernels.F32)
			ids := upload(t, b, kernels.I32, 1, 2, binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0}, uint32(bad)))
			zeros := make([]byte, 4*4*cols)
			table, x := upload(t, b, b.act, 4, cols, zeros), upload(t, b, b.act, 2, cols, zeros[:4*2*cols])
			score, w := upload(t, b, kernels.F32, 1, 2, zeros[:8]), upload(t, b, b.act, 1, cols, zeros[:4*cols])
			run(b, table, x, ids, score, w)
			err := b.Sync()
			if err == nil || !strings.HasPrefix(err.Error(), "cuda: read the fault word: "+name+": a") {
				t.Errorf("%s with index %d: %v", name, bad, err)
				continue
			}
			b.Upload(table, bytes.Repeat([]byte{1}, len(zeros)))
			got := bytes.Repeat([]byte{7}, len(zeros))
			if b.Download(got, table); !bytes.Equal(got, bytes.Repeat([]byte{7}, len(zeros))) {
				t.Errorf("%s: a Download after the failure has bytes", name)
			}
			if again := b.Sync(); again != err {
				t.Errorf("%s: Sync() = %v, then %v", name, err, again)
			}
			b.err = nil // or closing the backend would fail the test
		}
	}
}

func TestFreeOfForeignTensorPanics(t *testing.T) {
	b := newBackend(t, kernels.F32)
	x := upload(t, b, kernels.F32, 1, 1, make([]byte, 4))
	b.Free(x)
	defer func() {
		if recover() == nil {
			t.Error("a tensor was freed twice")
		}
	}()
	b.Free(x)
}
