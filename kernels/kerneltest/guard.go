package kerneltest

import "rmtrain/kernels"

// before is the number of random elements before every operand. It is odd, so that
// operands begin where only their elements are aligned, as slices do.
const before = 67

// A guarded tensor lies inside a larger one whose other bytes are known.
type guarded struct {
	kernels.Tensor
	parent kernels.Tensor
	held   []byte // by parent at first
}

func newGuarded(b kernels.Backend, dt kernels.DType, shape []int, elements []byte) (guarded, error) {
	g := guarded{Tensor: kernels.Tensor{DType: dt, Shape: [3]int{1, 1, 1}}}
	copy(g.Shape[:], shape)
	lo, hi := g.bounds()
	g.held = make([]byte, hi+behind*dt.Size())
	r := seeded("guard")
	for _, margin := range [][]byte{g.held[:lo], g.held[hi:]} {
		for i := range margin {
			margin[i] = byte(r.Uint32())
		}
	}
	copy(g.held[lo:hi], elements)
	var err error
	if g.parent, err = b.Alloc("kerneltest", dt, len(g.held)/dt.Size()); err != nil {
		return guarded{}, err
	}
	b.Upload(g.parent, g.held)
	g.Buf, g.Off = g.parent.Buf, g.parent.Off+lo
	return g, nil
}

// read returns the bytes of the tensor now, and whether its guards still hold.
func (g guarded) read(b kernels.Backend) (elements []byte, intact bool) {
	mem := make([]byte, len(g.held))
	b.Download(mem, g.parent)
	lo, hi := g.bounds()
	intact = string(mem[:lo]) == string(g.held[:lo]) && string(mem[hi:]) == string(g.held[hi:])
	return mem[lo:hi], intact
}

// initial returns the bytes that the tensor had at first.
func (g guarded) initial() []byte {
	lo, hi := g.bounds()
	return g.held[lo:hi]
}

// bounds returns where in its parent the tensor begins and ends.
func (g guarded) bounds() (lo, hi int) {
	lo = before * g.DType.Size()
	return lo, lo + g.Bytes()
}
