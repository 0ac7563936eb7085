package checkpoints

import (
	"fmt"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// pieceElements is how many elements one worker reads at a time: few enough that they
// are still in its cache when it converts them, and that small tensors have some.
const pieceElements = 1 << 16

// largestPiece bounds a piece that is read to where it stays and needs no cache. Large ones
// take less CPU time, most likely since fewer huge pages are touched first by two workers
// at once, which both clear one.
const largestPiece = 1 << 20

// Read converts the named tensor to dtype, F32 or BF16, into dst, little endian.
// Widening is exact; narrowing rounds to nearest, ties to even.
func (d *Dir) Read(name, dtype string, dst []byte) error {
	t, ok := d.tensors[name]
	if !ok {
		return fmt.Errorf("checkpoints: read %s: no tensor %s", d.Path, name)
	}
	if err := t.read(dtype, dst); err != nil {
		return fmt.Errorf("checkpoints: read %s: %s in %s: %w", d.Path, name, t.file, err)
	}
	return nil
}

// Tensor returns the named tensor as something to write, converted to dtype, F32 or
// BF16. Its elements are read when they are written.
func (d *Dir) Tensor(name, dtype string) (Tensor, error) {
	t, ok := d.tensors[name]
	if !ok {
		return Tensor{}, fmt.Errorf("checkpoints: read %s: no tensor %s", d.Path, name)
	}
	if _, err := converter(dtype, t.dtype); err != nil {
		return Tensor{}, fmt.Errorf("checkpoints: read %s: %s in %s: %w", d.Path, name, t.file, err)
	}
	return Tensor{Name: name, DType: dtype, Shape: t.shape, Gathered: t.strides != nil, Read: func(dst []byte, off int64) error {
		if err := t.readAt(dtype, dst, off); err != nil {
			return fmt.Errorf("checkpoints: read %s: %s in %s: %w", d.Path, name, t.file, err)
		}
		return nil
	}}, nil
}

// readAt fills dst with the converted bytes that start at off. A view that is not
// contiguous is gathered whole each time; such views are small or rare.
func (t tensor) readAt(dtype string, dst []byte, off int64) error {
	n, err := t.elements()
	if err != nil {
		return err
	}
	out := int64(sizeOf[dtype])
	if off < 0 || off > int64(n)*out || int64(len(dst)) > int64(n)*out-off || off%out != 0 || int64(len(dst))%out != 0 {
		return fmt.Errorf("bytes [%d, %d) are not elements of %v of %s", off, off+int64(len(dst)), t.shape, dtype)
	}
	if t.strides == nil {
		return t.readFrom(dtype, dst, int(off/out))
	}
	whole := make([]byte, int64(n)*out)
	if err := t.read(dtype, whole); err != nil {
		return err
	}
	copy(dst, whole[off:])
	return nil
}

// DType returns the element type that most of the model's elements have.
func (d *Dir) DType() string {
	count := map[string]int64{}
	for _, t := range d.tensors {
		n, err := t.elements()
		if err == nil { // else Read of the tensor fails
			count[t.dtype] += int64(n)
		}
	}
	best := ""
	for _, dtype := range slices.Sorted(maps.Keys(count)) {
		if best == "" || count[dtype] > count[best] {
			best = dtype
		}
	}
	return best
}

// elements returns the product of the shape, if it fits an int.
func (t tensor) elements() (int, error) {
	n := 1
	for _, d := range t.shape {
		if d < 0 || d > 0 && n > math.MaxInt/8/d {
			return 0, fmt.Errorf("impossible shape %v", t.shape)
		}
		n *= d
	}
	return n, nil
}

// read converts the whole tensor.
func (t tensor) read(dtype string, dst []byte) error {
	n, err := t.elements()
	if err != nil {
		return err
	}
	if out := sizeOf[dtype]; len(dst) != n*out {
		return fmt.Errorf("destination has %d bytes, and %v of %s has %d", len(dst), t.shape, dtype, n*out)
	}
	if t.strides == nil {
		return t.readFrom(dtype, dst, 0)
	}
	convert, err := converter(dtype, t.dtype)
	if err != nil {
		return err
	}
	return t.readStrided(convert, sizeOf[t.dtype], sizeOf[dtype], dst)
}

// readFrom converts the elements of a contiguous tensor from the given one on, until
// dst is full. Several workers take a piece each.
func (t tensor) readFrom(dtype string, dst []byte, first int) error {
	convert, err := converter(dtype, t.dtype)
	if err != nil {
		return err
	}
	in, out := sizeOf[t.dtype], sizeOf[dtype]
	n, workers, piece := len(dst)/out, runtime.GOMAXPROCS(0), pieceElements
	if t.dtype == dtype {
		piece = min(max(piece, n/workers), largestPiece)
	}
	pieces := (n + piece - 1) / piece
	var next atomic.Int64
	var g errgroup.Group
	for range min(pieces, workers) {
		g.Go(func() error {
			var from []byte
			for {
				i := int(next.Add(1)) - 1
				if i >= pieces {
					return nil
				}
				lo, hi := i*piece, min((i+1)*piece, n)
				to, off := dst[lo*out:hi*out], int64(first+lo)*int64(in)
				if t.dtype == dtype {
					from = to
				} else {
					from = slices.Grow(from[:0], (hi-lo)*in)[:(hi-lo)*in]
				}
				if err := readFull(t.bytes, from, off); err != nil {
					return err
				}
				if t.dtype != dtype {
					convert(to, from)
				}
			}
		})
	}
	return g.Wait()
}

// readStrided gathers a view that is not contiguous, such as a transposed matrix.
// It holds the part of the storage that the view touches, which lies in the file.
func (t tensor) readStrided(convert func(dst, src []byte), in, out int, dst []byte) error {
	span := make([]byte, t.bytes.Size())
	if err := readFull(t.bytes, span, 0); err != nil {
		return err
	}
	at := make([]int, len(t.shape))
	off := 0
	for i := 0; i < len(dst); i += out {
		convert(dst[i:i+out], span[off*in:off*in+in])
		for d := len(at) - 1; d >= 0; d-- {
			at[d]++
			off += t.strides[d]
			if at[d] < t.shape[d] {
				break
			}
			off -= at[d] * t.strides[d]
			at[d] = 0
		}
	}
	return nil
}

// readFull reads len(p) bytes; the end of the file comes too early by definition.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
