package llama

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
)

// A piecewise is a kernels.Filler that asks for few elements at a time, all at once, and
// hides that the CPU can address its memory.
type piecewise struct {
	kernels.Backend
	filled int // bytes
}

func (b *piecewise) Fill(dst kernels.Tensor, read func(p []byte, off int64) error) error {
	const elements = 7
	mem, piece := make([]byte, dst.Bytes()), elements*dst.DType.Size()
	errs := make([]error, (len(mem)+piece-1)/piece)
	var g sync.WaitGroup
	for i := range errs {
		g.Go(func() { errs[i] = read(mem[i*piece:min((i+1)*piece, len(mem))], int64(i*piece)) })
	}
	g.Wait()
	b.filled += len(mem)
	b.Upload(dst, mem)
	return errors.Join(errs...)
}

// weightsOf returns the bytes of all parameters.
func weightsOf(m *Model) (all []byte) {
	for _, p := range m.Params() {
		mem := make([]byte, p.Weight.Bytes())
		m.b.Download(mem, p.Weight)
		all = append(all, mem...)
	}
	return all
}

// from is seeded as sources.
func from(read func(string, kernels.DType, []int, []byte) error) func(Param) (Source, error) {
	return func(p Param) (Source, error) {
		all := make([]byte, p.Weight.Bytes())
		err := read(p.Name, p.Weight.DType, p.Shape, all)
		return func(dst []byte, off int64) error {
			copy(dst, all[off:])
			return nil
		}, err
	}
}

func TestLoadFromPartsIsLoad(t *testing.T) {
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
		b, err := cpu.New(dt)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		want := weightsOf(newSeeded(t, b, full, Options{DType: dt}))
		filler := &piecewise{Backend: b}
		for name, backend := range map[string]kernels.Backend{"whole": b, "by parts": filler} {
			m, err := New(backend, full, Options{DType: dt})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.LoadFrom(from(seeded(7))); err != nil {
				t.Fatal(err)
			}
			if got := weightsOf(m); !bytes.Equal(got, want) {
				t.Errorf("%v, %s: other weights than those of Load", dt, name)
			}
		}
		if filler.filled != len(want) {
			t.Errorf("%v: %d bytes came by parts, want %d", dt, filler.filled, len(want))
		}
	}
}

func TestLoadFromNamesTheBrokenParameter(t *testing.T) {
	b, err := cpu.New(kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	broken := errors.New("broken file")
	for name, open := range map[string]func(Param) (Source, error){
		"open": func(Param) (Source, error) { return nil, broken },
		"read": func(Param) (Source, error) { return func([]byte, int64) error { return broken }, nil },
	} {
		for _, backend := range []kernels.Backend{b, &piecewise{Backend: b}} {
			m, err := New(backend, plain, Options{DType: kernels.F32})
			if err != nil {
				t.Fatal(err)
			}
			err = m.LoadFrom(open)
			if !errors.Is(err, broken) || !strings.Contains(err.Error(), m.Params()[0].Name) {
				t.Errorf("%s: %v", name, err)
			}
			m.Close()
		}
	}
}
