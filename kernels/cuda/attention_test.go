//go:build nvidia

package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
	"rmtrain/kernels/reference"
)

// attended holds the bytes of what attention and its gradient write.
type attended struct{ out, lse, dqkv []byte }

// attend runs both operations on random operands which begin shift elements into their
// memory. Other than kerneltest's they may be aligned, and have 256 channels.
func attend(t *testing.T, b kernels.Backend, dt kernels.DType, segs []kernels.Segment, rows int, h kernels.Heads, shift int) attended {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(h.Dim), uint64(rows)))
	tensor := func(dt kernels.DType, cols int, random bool) kernels.Tensor {
		parent, err := b.Alloc("test", dt, rows*cols+shift)
		if err != nil {
			t.Fatal(err)
		}
		view := kernels.Tensor{DType: dt, Shape: [3]int{rows, cols, 1}, Buf: parent.Buf, Off: shift * dt.Size()}
		if random {
			b.Upload(view, normal(r, dt, rows*cols))
		}
		return view
	}
	qkv, dout := tensor(dt, h.QKV(), true), tensor(dt, h.Q*h.Dim, true)
	out, lse, dqkv := tensor(dt, h.Q*h.Dim, false), tensor(dt.Stat(), h.Q, false), tensor(dt, h.QKV(), false)
	b.Attention(out, lse, qkv, segs, h)
	b.AttentionBack(dqkv, dout, out, lse, qkv, segs, h)
	bytes := func(x kernels.Tensor) []byte {
		mem := make([]byte, x.Bytes())
		b.Download(mem, x)
		b.Free(x)
		return mem
	}
	a := attended{bytes(out), bytes(lse), bytes(dqkv)}
	b.Free(qkv)
	b.Free(dout)
	if err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	return a
}

// normal returns n random elements which bfloat16 holds exactly, so that all types get the
// same.
func normal(r *rand.Rand, dt kernels.DType, n int) (mem []byte) {
	for range n {
		x := math.Float32frombits(math.Float32bits(float32(r.NormFloat64())) &^ 0xffff)
		switch dt {
		case kernels.BF16:
			mem = binary.LittleEndian.AppendUint16(mem, uint16(math.Float32bits(x)>>16))
		case kernels.F32:
			mem = binary.LittleEndian.AppendUint32(mem, math.Float32bits(x))
		case kernels.F64:
			mem = binary.LittleEndian.AppendUint64(mem, math.Float64bits(float64(x)))
		}
	}
	return mem
}

// relative returns the error of elements of type dt against float64, as kerneltest.Tol
// bounds it.
func relative(got []byte, dt kernels.DType, want []byte) float64 {
	var wrong, size float64
	for i := range len(want) / 8 {
		w, g := math.Float64frombits(binary.LittleEndian.Uint64(want[8*i:])), 0.
		if dt == kernels.BF16 {
			g = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(got[2*i:])) << 16))
		} else {
			g = float64(math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:])))
		}
		wrong, size = wrong+(g-w)*(g-w), size+w*w
	}
	return math.Sqrt(wrong / size)
}

var attentionBatch = []kernels.Segment{
	{Lo: 0, Hi: 41, From: 30},
	{PrefixHi: 41, Lo: 41, Hi: 50},
	{PrefixHi: 41, Lo: 50, Hi: 74, From: 52},
	{Lo: 75, Hi: 82},
}

const attentionRows = 83

// Every number of channels that has kernels of its own, and some between.
func TestAttentionOfAllHeadSizes(t *testing.T) {
	for _, dt := range types {
		b := newBackend(t, dt)
		for _, channels := range []int{24, 64, 72, 96, 128, 200, 256} {
			t.Run(fmt.Sprintf("%v/%d channels", dt, channels), func(t *testing.T) {
				if err := attentionError(t, b, dt, channels); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// attentionError returns how attention over attentionBatch is wrong beyond tolerance, without a
// window and with one that hides the first tiles of keys.
func attentionError(t *testing.T, b kernels.Backend, dt kernels.DType, channels int) (err error) {
	for _, window := range []int{0, 20} {
		h := kernels.Heads{Q: 6, KV: 2, Dim: channels, Window: window}
		got := attend(t, b, dt, attentionBatch, attentionRows, h, 0)
		want := attend(t, reference.New(kernels.F64), kernels.F64, attentionBatch, attentionRows, h, 0)
		for _, c := range []struct {
			what      string
			got, want []byte
			dt        kernels.DType
			class     kerneltest.Class
		}{
			{"out", got.out, want.out, dt, kerneltest.Attending},
			{"lse", got.lse, want.lse, kernels.F32, kerneltest.Attending},
			{"dqkv", got.dqkv, want.dqkv, dt, kerneltest.AttendingBack},
		} {
			if e, tol := relative(c.got, c.dt, c.want), kerneltest.Tol[c.dt][c.class]; !(e <= tol) {
				err = errors.Join(err, fmt.Errorf("%s with window %d: relative error %.2g > %.2g", c.what, window, e, tol))
			}
		}
	}
	return err
}

// kerneltest's operands begin at odd elements and so pass through copies; those of a network
// do not.
func TestAttentionInPlaceIsThatOfCopies(t *testing.T) {
	b := newBackend(t, kernels.BF16)
	for _, channels := range []int{64, 72, 128, 256} {
		h := kernels.Heads{Q: 4, KV: 2, Dim: channels}
		in := attend(t, b, kernels.BF16, attentionBatch, attentionRows, h, 0)
		copied := attend(t, b, kernels.BF16, attentionBatch, attentionRows, h, 1)
		if string(in.out) != string(copied.out) || string(in.lse) != string(copied.lse) || string(in.dqkv) != string(copied.dqkv) {
			t.Errorf("%d channels: copies of the operands give other bits", channels)
		}
	}
}

func TestAttentionOfTooManyChannelsIsAnError(t *testing.T) {
	for _, dt := range types {
		b, err := newFrom(dt, 0, images())
		if err != nil {
			needDevice(t)
			t.Fatal(err)
		}
		h := kernels.Heads{Q: 1, KV: 1, Dim: 264}
		tensor := func(dt kernels.DType, cols int) kernels.Tensor {
			x, err := b.Alloc("test", dt, 2, cols)
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		b.Attention(tensor(dt, h.Dim), tensor(kernels.F32, 1), tensor(dt, h.QKV()), []kernels.Segment{{Hi: 2}}, h)
		const want = "cuda: Attention: heads of 264 channels: the kernels have up to 256 (use device cpu)"
		if err := b.Sync(); err == nil || err.Error() != want {
			t.Errorf("%v: error %v, want %s", dt, err, want)
		}
		b.Close()
	}
}

// The static table counts the shared memory that launches ask for.
func TestTableKnowsDynamicSharedMemory(t *testing.T) {
	text, err := os.ReadFile("testdata/dynamic_shared.txt")
	if err != nil {
		t.Fatal(err)
	}
	line := func(kernel string, bytes int) {
		if want := fmt.Sprintf("%s %d\n", kernel, bytes); !strings.Contains(string(text), want) {
			t.Errorf("testdata/dynamic_shared.txt lacks %q", want)
		}
	}
	for _, dt := range types {
		numbers := floatChannels
		if dt == kernels.BF16 {
			numbers = tensorChannels
		}
		for _, n := range numbers {
			forward, err := forwardKernel(dt, n)
			if err != nil {
				t.Fatal(err)
			}
			back, err := backKernels(dt, n)
			if err != nil {
				t.Fatal(err)
			}
			line(forward.name, forward.shared)
			line(back.name, back.shared)
			line(back.byKeys, back.byKeysShared)
		}
	}
}
