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

// pieceElements is how many elements are read before they are converted: few enough that
// they are still in the cache then.
const pieceElements = 1 << 14

// Workers take shares of a tensor that are large, since a huge page on the border of two
// may be touched first by two workers at once, which both clear it, and not so large that
// one waits long for the other.
const (
	smallestShare = 1 << 16 // elements
	largestShare  = 1 << 20
)

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
// dst is full. Several workers take a share each, again and again.
func (t tensor) readFrom(dtype string, dst []byte, first int) error {
	convert, err := converter(dtype, t.dtype)
	if err != nil {
		return err
	}
	in, out := sizeOf[t.dtype], sizeOf[dtype]
	n, workers := len(dst)/out, runtime.GOMAXPROCS(0)
	share := shareOf(n, workers)
	shares := ceil(n, share)
	var next atomic.Int64
	var g errgroup.Group
	for range min(shares, workers) {
		g.Go(func() error {
			var piece []byte
			if t.dtype != dtype {
				piece = make([]byte, min(pieceElements, n)*in)
			}
			for {
				i := int(next.Add(1)) - 1
				if i >= shares {
					return nil
				}
				lo, hi := i*share, min((i+1)*share, n)
				if err := t.readShare(convert, dst[lo*out:hi*out], first+lo, hi-lo, piece); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// shareOf returns how many of n elements a worker takes at a time. All workers get as many
// shares, and these are of one size, but for rounding.
func shareOf(n, workers int) int {
	rounds := max(1, ceil(n, workers*largestShare))
	return max(smallestShare, ceil(n, workers*rounds))
}

func ceil(n, d int) int { return (n + d - 1) / d }

// readShare fills dst with n elements from the given one on, through piece, or straight
// from the file where there is none.
func (t tensor) readShare(convert func(dst, src []byte), dst []byte, first, n int, piece []byte) error {
	in, off := sizeOf[t.dtype], int64(first)*int64(sizeOf[t.dtype])
	if piece == nil {
		return readFull(t.bytes, dst, off)
	}
	out := len(dst) / n
	for len(dst) > 0 {
		k := min(len(piece)/in, len(dst)/out)
		if err := readFull(t.bytes, piece[:k*in], off); err != nil {
			return err
		}
		convert(dst[:k*out], piece[:k*in])
		dst, off = dst[k*out:], off+int64(k*in)
	}
	return nil
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
	piece := make([]byte, 0, min(pieceElements*in, len(dst)/out*in))
	for left := len(dst) / out; left > 0; left-- {
		piece = append(piece, span[off*in:off*in+in]...)
		if len(piece) == cap(piece) || left == 1 {
			n := len(piece) / in * out
			convert(dst[:n], piece)
			dst, piece = dst[n:], piece[:0]
		}
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
