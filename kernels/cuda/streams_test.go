//go:build nvidia

package cuda

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unsafe"

	"gorgonia.org/cu"

	"rmtrain/kernels"
)

// envBroken is which of the crossings a child process breaks.
const envBroken = "RMTRAIN_TEST_STREAMS"

// bulk is how many float32 an upload has that takes the stream of its own.
const bulk = bulkBytes / 4

// never is a run that no stream reaches: one that knows of it waits for nothing.
const never = math.MaxUint64

// A crossing is work on both streams that something must order. Where broken is true, run
// makes the backend believe that this is done already; then the emulator, or the result,
// must say what report matches.
type crossing struct {
	run    func(c *crossed, broken bool)
	report string
}

var crossings = map[string]crossing{
	"an operation follows an upload": {func(c *crossed, broken bool) {
		x, y := c.tensor(), c.tensor()
		if broken {
			c.b.compute.knows = never
		}
		c.b.Upload(x, filled(1))
		c.b.Add(y, x, x)
		c.want(y, 2)
	}, `race: copy from the host .* an earlier read by work on another stream`},
	"an upload follows the clearing of new memory": {func(c *crossed, broken bool) {
		x := c.tensor()
		if broken {
			c.b.copies.knows = never
		}
		c.b.Upload(x, filled(1))
		c.want(x, 1)
	}, `race: copy from the host .* an earlier write by work on another stream`},
	"an upload follows what reads its destination": {func(c *crossed, broken bool) {
		x, y := c.tensor(), c.tensor()
		c.b.Upload(x, filled(1))
		c.b.Add(y, x, x)
		if broken {
			c.b.copies.knows = never
		}
		c.b.Upload(x, filled(4))
		c.want(y, 2)
		c.want(x, 4)
	}, `race: copy from the host .* an earlier read by work on another stream`},
	"a small upload follows a large one": {func(c *crossed, broken bool) {
		x := c.tensor()
		if broken {
			c.b.compute.knows = never
		}
		c.b.Upload(x, filled(1))
		c.b.Upload(x.Slice(1, 2), filled(4)[:4])
		got := bits(c.t, c.b, x)
		if float(got) != 1 || float(got[4:]) != 4 || float(got[8:]) != 1 {
			c.t.Fatal("the second upload is not there")
		}
	}, `race: copy from the host .* an earlier write by work on another stream`},
	"a slot is filled after its last copy": {func(c *crossed, broken bool) {
		c.b.bulk.bytes = bulkBytes / slots // two tensors take every slot twice
		x, y := c.tensor(), c.tensor()
		c.b.Upload(x, filled(1))
		if broken {
			c.b.bulk.used = [slots]bool{}
		}
		c.b.Upload(y, filled(4))
		c.want(x, 1)
		c.want(y, 4)
	}, `element 0 is 4, want 1`},
	"a small slot is filled after its last copy": {func(c *crossed, broken bool) {
		var x [2 * slots]kernels.Tensor
		for i := range x {
			x[i] = c.tensor().Slice(0, 100)
			if broken {
				c.b.ring.used = [slots]bool{}
			}
			c.b.Upload(x[i], filled(float32(i))[:400])
		}
		for i := range x {
			c.want(x[i], float32(i))
		}
	}, `element 0 is \d+, want \d+`},
	"memory is freed after uploads into it": {func(c *crossed, broken bool) {
		x := c.tensor()
		c.b.Upload(x, filled(1))
		c.waitingForOne(broken, func() { c.b.Free(x) })
		if err := c.b.Sync(); err != nil {
			c.t.Fatal(err)
		}
	}, `copy from the host .* which is no device memory`},
	"a download follows an upload": {func(c *crossed, broken bool) {
		x := c.tensor()
		c.b.Upload(x, filled(1))
		c.waitingForOne(broken, func() { c.want(x, 1) })
	}, `element 0 is 0, want 1`},
	"Sync waits for uploads": {func(c *crossed, broken bool) {
		x := c.tensor()
		c.b.Upload(x, filled(1))
		c.waitingForOne(broken, func() {
			if err := c.b.Sync(); err != nil {
				c.t.Fatal(err)
			}
		})
		got := make([]byte, x.Bytes())
		_, at := c.b.locate(x)
		err := c.b.with(func() error {
			return cu.MemcpyDtoH(unsafe.Pointer(&got[0]), cu.DevicePtr(at), int64(len(got)))
		})
		if err != nil || !bytes.Equal(got, filled(1)) {
			c.t.Fatalf("after Sync the device has not what was uploaded: %v", err)
		}
	}, `after Sync the device has not what was uploaded`},
}

type crossed struct {
	t *testing.T
	b *backend
}

func (c *crossed) tensor() kernels.Tensor {
	x, err := c.b.Alloc("test", kernels.F32, bulk)
	if err != nil {
		c.t.Fatal(err)
	}
	return x
}

func (c *crossed) want(x kernels.Tensor, want float32) {
	c.t.Helper()
	got := bits(c.t, c.b, x)
	for i := 0; i < len(got); i += 4 {
		if float(got[i:]) != want {
			c.t.Fatalf("element %d is %g, want %g", i/4, float(got[i:]), want)
		}
	}
}

// waitingForOne runs f; if broken, what waits for both streams then waits for one alone.
func (c *crossed) waitingForOne(broken bool, f func()) {
	both := c.b.copies.Stream
	if broken {
		c.b.copies.Stream = c.b.compute.Stream
	}
	f()
	c.b.copies.Stream = both
}

func float(mem []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(mem)) }

func filled(v float32) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)), bulk)
}

func TestStreamsAreInOrder(t *testing.T) {
	for name, c := range crossings {
		t.Run(name, func(t *testing.T) { c.run(&crossed{t, newBackend(t, kernels.F32)}, false) })
	}
}

// What a missing wait does is seen, so the test above can fail.
func TestBrokenOrderOfStreamsIsSeen(t *testing.T) {
	needEmulator(t)
	for name, c := range crossings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestBrokenCrossing$")
			cmd.Env = append(os.Environ(), envBroken+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !regexp.MustCompile(c.report).Match(out) {
				t.Errorf("%v, want a report of %q:\n%s", err, c.report, out)
			}
		})
	}
}

// TestBrokenCrossing is the process of one of them: what the emulator stops spoils its process.
func TestBrokenCrossing(t *testing.T) {
	c, ok := crossings[os.Getenv(envBroken)]
	if !ok {
		t.Skip("the test above runs this")
	}
	c.run(&crossed{t, newBackend(t, kernels.F32)}, true)
}

func needEmulator(t *testing.T) {
	t.Helper()
	needDevice(t)
	if info, err := Describe(0); err != nil || !strings.Contains(info.Name, "emulator") {
		t.Skipf("%s does its work when it likes: %v", info.Name, err)
	}
}

// An upload waits for no operation if the host has waited for all that use its destination.
func TestUploadsPassOperations(t *testing.T) {
	needEmulator(t)
	c := &crossed{t, newBackend(t, kernels.F32)}
	x, y := c.tensor(), c.tensor()
	if err := c.b.Sync(); err != nil {
		t.Fatal(err)
	}
	c.b.Add(y, y, y)
	c.b.Upload(x, filled(1))
	err := c.b.with(func() error {
		if err := c.b.copies.Synchronize(); err != nil {
			return err
		}
		if c.b.compute.Query() == nil {
			t.Error("the upload came after an operation on another tensor")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.want(x, 1)
}

// TestUploadsOfAnySize sends pieces of less, as much and more than slots have, from one
// goroutine and several.
func TestUploadsOfAnySize(t *testing.T) {
	b := newBackend(t, kernels.F32)
	b.bulk.bytes = bulkBytes / 3
	for _, n := range []int{0, 1, bulk - 1, bulk, bulk + 1, 4 * bulk} {
		mem := make([]byte, 4*n)
		for i := range mem {
			mem[i] = byte(i * 7 >> 3)
		}
		x := upload(t, b, kernels.F32, 1, n, mem)
		if !bytes.Equal(bits(t, b, x), mem) {
			t.Errorf("an upload of %d bytes does not come back", len(mem))
		}
		b.Free(x)
	}
}

// A source that fails is not the device's failure, and nobody fills the ring afterwards.
func TestFillReturnsWhatItsSourceSays(t *testing.T) {
	b := newBackend(t, kernels.F32)
	b.bulk.bytes = bulkBytes / (2 * slots)
	for _, n := range []int{1, bulk} {
		x := upload(t, b, kernels.F32, 1, n, make([]byte, 4*n))
		broken := fmt.Errorf("broken at the end of %d", n)
		err := b.Fill(x, func(p []byte, off int64) error {
			if int(off)+len(p) == 4*n {
				return broken
			}
			return nil
		})
		if !errors.Is(err, broken) || b.Sync() != nil {
			t.Errorf("Fill of %d: %v; Sync: %v", n, err, b.Sync())
		}
		if err := b.Fill(x, from(filled(3)[:4*n])); err != nil || float(bits(t, b, x)) != 3 {
			t.Errorf("Fill of %d again: %v", n, err)
		}
	}
}
