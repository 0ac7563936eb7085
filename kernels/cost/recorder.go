// Package cost predicts how long operations would take on a GPU that is not here.
//
// A Recorder is a backend that computes nothing: it counts floating point operations, bytes
// and kernels. The code that trains runs over it as over any other, so what is counted is
// what would run. A Card turns counts into seconds by a roofline: an operation takes as long
// as its arithmetic or its memory, whichever is longer. Nothing here was measured.
package cost

import (
	"rmtrain/kernels"
)

// A Kind says what bounds an operation besides memory.
type Kind uint8

const (
	Memory        Kind = iota // nothing
	Product                   // tensor cores, in the library's matrix products
	Attention                 // tensor cores, in the forward kernel
	AttentionBack             // tensor cores, in the kernels of the gradients
)

// An Op is one operation on operands of given shapes, and what it takes on a GPU.
type Op struct {
	Phase      string
	Name       string // of kernels.Ops
	Shape      string
	Kind       Kind
	Channels   int     // of a head, in attention
	FLOP       float64 // that tensor cores execute
	Bytes      float64 // that kernels read and write, each operand once a kernel
	Activation float64 // bytes of the operand of that Shape, if memory bounds the operation
	Kernels    int     // launches
}

// An Entry is an operation that was recorded so often.
type Entry struct {
	Op
	Times int
}

// A Recorder is a Backend that counts what it is asked to do. Its tensors have no memory:
// what is downloaded is left as it was.
type Recorder struct {
	phase   string
	at      map[Op]int
	entries []Entry
	used    map[string]int64
}

// NewRecorder returns one that has recorded nothing.
func NewRecorder() *Recorder {
	return &Recorder{at: map[Op]int{}, used: map[string]int64{}}
}

// Phase names what operations from now on belong to.
func (r *Recorder) Phase(name string) { r.phase = name }

// Entries returns what was recorded, in the order of first occurrence.
func (r *Recorder) Entries() []Entry { return r.entries }

func (r *Recorder) add(o Op) {
	o.Phase = r.phase
	i, ok := r.at[o]
	if !ok {
		i = len(r.entries)
		r.at[o], r.entries = i, append(r.entries, Entry{Op: o})
	}
	r.entries[i].Times++
}

// Name says what this is.
func (r *Recorder) Name() string { return "recorder" }

// nowhere is the buffer of all tensors.
var nowhere = &kernels.Buffer{}

// Alloc counts the bytes, and takes none.
func (r *Recorder) Alloc(tag string, dt kernels.DType, shape ...int) (kernels.Tensor, error) {
	t := kernels.Tensor{DType: dt, Shape: [3]int{1, 1, 1}, Buf: nowhere}
	copy(t.Shape[:], shape)
	r.used[tag] += int64(t.Bytes())
	return t, nil
}

// Used returns the bytes that Alloc counted, freed or not.
func (r *Recorder) Used() map[string]int64 { return r.used }

// What crosses to the host is a few numbers a step, and is not counted.
func (r *Recorder) Free(kernels.Tensor)             {}
func (r *Recorder) Upload(kernels.Tensor, []byte)   {}
func (r *Recorder) Download([]byte, kernels.Tensor) {}
func (r *Recorder) Sync() error                     { return nil }
func (r *Recorder) Close() error                    { return nil }
