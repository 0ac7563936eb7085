//go:build nvidia

// Package emulator tests the emulator beside it, which is written in C++: a stand-in for
// NVIDIA's libcuda.so.1 and libcublasLt.so.13 that runs PTX on the CPU. See docs/cuda.md.
package emulator

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

const folder = "../../build/emulator" // of the libraries and of the program that check.cpp becomes

// check runs one case of check.cpp.
func check(t *testing.T, name string, env ...string) (output string, err error) {
	t.Helper()
	program := filepath.Join(folder, "check")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v (make emulator builds it)", err)
	}
	cmd := exec.Command(program, "testdata", name)
	cmd.Env = append(append(os.Environ(), "LD_LIBRARY_PATH="+folder), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func seed(n int) string { return fmt.Sprint("EMULATOR_SEED=", n) }

func TestSoundKernelsAreRightAndRaiseNoAlarm(t *testing.T) {
	for _, name := range []string{"matmul", "sum_and_count", "collatz", "vectors", "integers", "floats", "doubles", "streams", "turns"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := range 20 {
				if out, err := check(t, name, seed(n)); err != nil || out != "" {
					t.Fatalf("seed %d: %v\n%s", n, err, out)
				}
			}
			for _, mode := range []string{"EMULATOR_CHECK=0", "EMULATOR_LAZY=0"} {
				if out, err := check(t, name, mode); err != nil || out != "" {
					t.Errorf("%s: %v\n%s", mode, err, out)
				}
			}
		})
	}
}

func TestTensorCoresMayTruncate(t *testing.T) {
	if out, err := check(t, "matmul", "EMULATOR_TRUNCATE=1"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestApproximationsMayBeOff(t *testing.T) {
	if out, err := check(t, "floats", "EMULATOR_JITTER=4096"); err == nil {
		t.Errorf("functions that are off by 4096 units passed\n%s", out)
	}
}

func TestMistakesAreReported(t *testing.T) {
	for _, m := range []struct{ name, want string }{
		{"no_barrier", `race: this (read|write) .* not ordered|shared memory that this block never wrote`},
		{"no_syncwarp", `race: this read and an earlier write`},
		{"overwritten_early", `race: this (write and an earlier read|read and an earlier write)`},
		{"two_blocks_one_element", `race: this write and an earlier write`},
		{"block_reads_what_another_writes", `race: this (write and an earlier read|read and an earlier write)`},
		{"stale_read", `ld\.nc \(__ldg, const __restrict__\) of memory that this launch writes`},
		{"copies_not_waited_for", `cp\.async\.wait_group is missing`},
		{"stage_overwritten", `race: this write and an earlier read`},
		{"divergent_sync", `__syncthreads in divergent code: lanes 0000ffff of ffffffff`},
		{"half_the_block_syncs", `deadlock: this warp waits at barrier 1`},
		{"shuffle_of_few", `shfl\.sync names the lanes ffffffff, but 0000007f are here`},
		{"endless", `more than 100000 instructions`},
		{"misaligned", `misaligned write of 16 bytes`},
		{"out_of_bounds", `write of 16 bytes at offset 512 of an allocation of 512 bytes`},
		{"before_the_start", `write of 4 bytes at 0x\w+, which is no device memory`},
		{"reads_garbage", `read of device memory that nobody wrote`},
		{"reads_garbage_of_its_block", `read of shared memory that this block never wrote`},
		{"outside_of_shared", `at offset \d+ of 256 bytes of shared memory`},
		{"no_event", `device memory that nobody wrote`},
		{"copy_too_late", `race: copy from the host of 512 bytes and an earlier write by work on another stream`},
		{"kernel_too_late", `race: this write and an earlier write by work on another stream`},
		{"event_too_early", `race: copy from the host of 512 bytes and an earlier write by work on another stream`},
		{"freed_too_early", `which is no device memory`},
		{"pinned_memory_freed", `page-locked memory that was freed before the copy was done`},
		{"no_synchronize", `copy to the host of 512 bytes of device memory of which byte 0 was never written`},
		{"pinned_memory_reused", `the device has what was written later`},
		{"host_pointer", `no device memory \(a host pointer\?\)`},
		{"freed_memory", `which is no device memory`},
		{"too_much_shared", `65536 bytes of dynamic shared memory, allowed are 49152: cuFuncSetAttribute is missing`},
		{"too_many_threads", `1056 threads, compiled for 1024`},
		{"no_context", `returned 201`},
		{"unloaded_module", `returned 400`},
		{"cubin", `error 209: this is a cubin`},
		{"unknown_instruction", `PTX line 8: not supported: frob\.u32`},
		{"unknown_modifier", `PTX line 8: not supported: \.cc of add: add\.cc\.u32`},
		{"unknown_register", `PTX line 8: unknown operand %x3`},
		{"unknown_label", `unknown label \$nowhere`},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			want := regexp.MustCompile(m.want)
			for n := range 8 {
				out, err := check(t, m.name, seed(n), "EMULATOR_LIMIT=100000")
				if err == nil {
					t.Fatalf("seed %d: not noticed\n%s", n, out)
				}
				if !want.MatchString(out) {
					t.Fatalf("seed %d: noticed for another reason:\n%s", n, out)
				}
			}
		})
	}
}

// What orders streams is seen from events and waits, whenever work is done here: a missing one
// is reported although the work was done in the right order.
func TestMissingOrderOfStreamsIsReportedInTheRightOrder(t *testing.T) {
	for name, want := range map[string]string{
		"no_event":        `race: this read and an earlier write by work on another stream`,
		"copy_too_late":   `race: this write and an earlier write by work on another stream`,
		"kernel_too_late": `race: copy from the host of 512 bytes and an earlier write by work on another stream`,
		"event_too_early": `race: copy from the host of 512 bytes and an earlier write by work on another stream`,
		"freed_too_early": `race: free of 512 bytes and an earlier write by work on another stream`,
		"no_synchronize":  `race: copy to the host of 512 bytes and an earlier write by work on another stream`,
	} {
		out, err := check(t, name, "EMULATOR_LAZY=0")
		if err == nil || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// Every mistake of the device names its kernel, block, thread and line.
func TestReportsSayWhere(t *testing.T) {
	out, _ := check(t, "no_syncwarp", seed(0))
	if want := regexp.MustCompile(`kernel no_syncwarp, block \(0,0,0\), thread \d+, PTX line \d+: race`); !want.MatchString(out) {
		t.Errorf("got:\n%s", out)
	}
}
