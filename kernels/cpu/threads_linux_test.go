package cpu

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"rmtrain/kernels"
)

func TestThreadsThatAreThereBecomeBatchWork(t *testing.T) {
	before, err := unix.SchedGetAttr(os.Getpid(), 0)
	if err != nil {
		t.Skipf("this system does not tell scheduling policies: %v", err)
	}
	b, err := New(kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	after, err := unix.SchedGetAttr(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	want := before.Policy
	if want == unix.SCHED_NORMAL {
		want = unix.SCHED_BATCH
	}
	if after.Policy != want || after.Nice != before.Nice {
		t.Errorf("the first thread has policy %d and nice %d, want %d and %d", after.Policy, after.Nice, want, before.Nice)
	}
}
