package checkpoints

import (
	"fmt"
	"io"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// pieceElements is how many elements one worker converts at a time, so that no
// conversion needs more than a few megabytes beside its destination.
const pieceElements = 1 << 20

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

func (t tensor) read(dtype string, dst []byte) error {
	convert, err := converter(dtype, t.dtype)
	if err != nil {
		return err
	}
	n, err := t.elements()
	if err != nil {
		return err
	}
	in, out := sizeOf[t.dtype], sizeOf[dtype]
	if len(dst) != n*out {
		return fmt.Errorf("destination has %d bytes, and %v of %s has %d", len(dst), t.shape, dtype, n*out)
	}
	if t.strides != nil {
		return t.readStrided(convert, in, out, dst)
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for lo := 0; lo < n; lo += pieceElements {
		hi := min(lo+pieceElements, n)
		g.Go(func() error {
			to := dst[lo*out : hi*out]
			if t.dtype == dtype {
				return readFull(t.bytes, to, int64(lo)*int64(in))
			}
			from := make([]byte, (hi-lo)*in)
			if err := readFull(t.bytes, from, int64(lo)*int64(in)); err != nil {
				return err
			}
			convert(to, from)
			return nil
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
