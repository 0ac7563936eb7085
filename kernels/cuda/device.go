//go:build nvidia

package cuda

import (
	"cmp"
	"embed"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"

	"gorgonia.org/cu"
)

//go:embed *.ptx
var embedded embed.FS

// A device is one GPU: its context, two streams, and the kernels.
type device struct {
	ordinal int
	name    string
	cu      cu.Device
	context cu.CUContext
	compute stream // operations and small uploads
	copies  stream // large uploads
	modules []cu.Module
	kernels map[string]*kernel
	scratch atomic.Int64 // bytes of scratch memory
}

type kernel struct {
	cu.Function
	shared int // bytes of dynamic shared memory that launches may have
}

// leastCapability is what the kernels are compiled for, times ten.
const leastCapability = 80

// Devices returns the number of usable GPUs, or why there is none.
func Devices() (int, error) {
	n, err := cu.NumDevices()
	if err != nil {
		return 0, fmt.Errorf("cuda: no device: %w (is an NVIDIA driver installed, and libcuda.so.1 where the loader finds it?)", err)
	}
	if n == 0 {
		return 0, fmt.Errorf("cuda: the driver sees no GPU (does CUDA_VISIBLE_DEVICES hide it?)")
	}
	return n, nil
}

func openDevice(ordinal int, images map[string]string) (*device, error) {
	n, err := Devices()
	if err != nil {
		return nil, err
	}
	if ordinal < 0 || ordinal >= n {
		return nil, fmt.Errorf("cuda: there is no device %d (the driver sees %d, counted from 0)", ordinal, n)
	}
	d := &device{ordinal: ordinal, kernels: map[string]*kernel{}}
	if err := d.open(images); err != nil {
		d.close()
		return nil, fmt.Errorf("cuda: open device %d: %w", ordinal, err)
	}
	return d, nil
}

func (d *device) open(images map[string]string) (err error) {
	if d.cu, err = cu.GetDevice(d.ordinal); err != nil {
		return err
	}
	if d.name, err = d.cu.Name(); err != nil {
		return err
	}
	d.name = strings.TrimRight(d.name, "\x00")
	major, minor, err := d.cu.ComputeCapability()
	if err != nil {
		return err
	}
	if 10*major+minor < leastCapability {
		return fmt.Errorf("%s has compute capability %d.%d, needed is %d.%d or newer (Ampere)", d.name, major, minor, leastCapability/10, leastCapability%10)
	}
	if d.context, err = d.cu.RetainPrimaryCtx(); err != nil {
		return err
	}
	return d.with(func() error {
		if err := cmp.Or(d.compute.open(), d.copies.open()); err != nil {
			return err
		}
		for name, image := range images {
			if err := d.load(image); err != nil {
				return fmt.Errorf("load %s: %w (is the driver older than 525?)", name, err)
			}
		}
		return nil
	})
}

var entries = regexp.MustCompile(`\.visible \.entry (\w+)\(`)

// load makes all kernels of a module known by their names.
func (d *device) load(image string) error {
	m, err := cu.LoadData(image)
	if err != nil {
		return err
	}
	d.modules = append(d.modules, m)
	for _, entry := range entries.FindAllStringSubmatch(image, -1) {
		f, err := m.Function(entry[1])
		if err != nil {
			return fmt.Errorf("kernel %s: %w", entry[1], err)
		}
		d.kernels[entry[1]] = &kernel{Function: f}
	}
	return nil
}

// images returns the PTX of all kernel files by name.
func images() map[string]string {
	files, err := embedded.ReadDir(".")
	if err != nil {
		panic(err) // what is embedded can be read
	}
	all := map[string]string{}
	for _, f := range files {
		text, err := embedded.ReadFile(f.Name())
		if err != nil {
			panic(err)
		}
		all[f.Name()] = string(text)
	}
	return all
}

// with runs f on a thread to which the device's context is current: the driver keeps the
// context of each thread, and goroutines wander between threads.
func (d *device) with(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(d.context); err != nil {
		return err
	}
	return f()
}

// close gives back what open took, as far as it came.
func (d *device) close() error {
	if d.context == (cu.CUContext{}) {
		return nil
	}
	err := d.with(func() error {
		var first error
		for _, m := range d.modules {
			if err := m.Unload(); first == nil {
				first = err
			}
		}
		return cmp.Or(first, d.compute.close(), d.copies.close())
	})
	if e := d.cu.ReleasePrimaryCtx(); err == nil {
		err = e
	}
	d.context, d.modules = cu.CUContext{}, nil
	return err
}

// dim is the size of a grid or a block along x, y and z.
type dim [3]int

// launch runs a kernel of the given name on the stream that computes, with shared bytes of dynamic shared
// memory. Arguments are those of the kernel, in order: an address for a pointer, int32,
// int64 and float32 for int, long long and float. An empty grid does nothing.
func (d *device) launch(name string, grid, block dim, shared int, args ...any) error {
	if grid[0] == 0 || grid[1] == 0 || grid[2] == 0 {
		return nil
	}
	k, ok := d.kernels[name]
	if !ok {
		panic(fmt.Sprintf("cuda: there is no kernel %s", name))
	}
	if shared > 48<<10 && shared > k.shared {
		if err := allowShared(k.Function, shared); err != nil {
			return fmt.Errorf("kernel %s: %w", name, err)
		}
		k.shared = shared
	}
	values, params := make([]uint64, len(args)), make([]unsafe.Pointer, len(args))
	for i, a := range args {
		values[i], params[i] = word(name, i, a), unsafe.Pointer(&values[i])
	}
	if err := k.Launch(grid[0], grid[1], grid[2], block[0], block[1], block[2], shared, d.compute.Stream, params); err != nil {
		return fmt.Errorf("kernel %s: %w", name, err)
	}
	return nil
}

// An address is one in device memory.
type address uint64

// word returns the eight bytes of which a kernel's parameter takes the first.
func word(kernel string, i int, arg any) (w uint64) {
	switch a := arg.(type) {
	case address:
		return uint64(a)
	case int32:
		return uint64(uint32(a))
	case uint32:
		return uint64(a)
	case int64:
		return uint64(a)
	case float32:
		*(*float32)(unsafe.Pointer(&w)) = a
		return w
	}
	panic(fmt.Sprintf("cuda: kernel %s: argument %d is a %T", kernel, i, arg))
}
