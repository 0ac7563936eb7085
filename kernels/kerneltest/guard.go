package kerneltest

import "rmtrain/kernels"

// guard is the number of random elements before and after every operand. It is
// odd, so that operands begin where only their elements are aligned, as slices do.
const guard = 67

// A guarded tensor lies inside a larger one whose other bytes are known.
type guarded struct {
	kernels.Tensor
	parent kernels.Tensor
	before []byte // what parent held at first
}

func newGuarded(b kernels.Backend, dt kernels.DType, shape []int, elements []byte) (guarded, error) {
	view := kernels.Tensor{DType: dt, Shape: [3]int{1, 1, 1}}
	copy(view.Shape[:], shape)
	margin := guard * dt.Size()
	mem := make([]byte, margin+view.Bytes()+margin)
	r := seeded("guard")
	for i := range margin {
		mem[i], mem[len(mem)-1-i] = byte(r.Uint32()), byte(r.Uint32())
	}
	copy(mem[margin:], elements)
	parent, err := b.Alloc("kerneltest", dt, len(mem)/dt.Size())
	if err != nil {
		return guarded{}, err
	}
	b.Upload(parent, mem)
	view.Buf, view.Off = parent.Buf, parent.Off+margin
	return guarded{view, parent, mem}, nil
}

// read returns the bytes of the tensor now, and whether its guards still hold.
func (g guarded) read(b kernels.Backend) (elements []byte, intact bool) {
	mem, margin := make([]byte, len(g.before)), guard*g.DType.Size()
	b.Download(mem, g.parent)
	end := len(mem) - margin
	intact = string(mem[:margin]) == string(g.before[:margin]) && string(mem[end:]) == string(g.before[end:])
	return mem[margin:end], intact
}

// initial returns the bytes that the tensor had at first.
func (g guarded) initial() []byte {
	margin := guard * g.DType.Size()
	return g.before[margin : len(g.before)-margin]
}
