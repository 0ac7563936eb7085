package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asProcess makes the test program download, with the size of its pieces.
const asProcess = "RMTRAIN_TEST_DOWNLOAD"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) == "" {
		os.Exit(m.Run())
	}
	piece = 4096
	firstPause = time.Millisecond
	folder, err := Fetch(context.Background(), Options{ID: testID, Note: func(s string) { fmt.Println("note:", s) }})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("folder:", folder)
	os.Exit(0)
}

func start(t *testing.T, out *strings.Builder) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), asProcess+"=1")
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTwoProcessesDownloadOnce(t *testing.T) {
	files := tinyModel()
	files["model.safetensors"] = randomBytes(1 << 20)
	h := newFakeHub(t, files)
	var outs [3]strings.Builder
	var cmds [3]*exec.Cmd
	for i := range cmds {
		cmds[i] = start(t, &outs[i])
	}
	for i, c := range cmds {
		if err := c.Wait(); err != nil || !strings.Contains(outs[i].String(), "folder:") {
			t.Errorf("process %d: %v\n%s", i, err, outs[i].String())
		}
	}
	h.checkFiles(t, fetch(t, Options{}), "config.json", "tokenizer.json", "model.safetensors")
	if sent := h.sent.Load(); sent > 1<<20+1000 {
		t.Errorf("%d bytes were sent", sent)
	}
}

func TestKilledDownloadsAreResumed(t *testing.T) {
	files := tinyModel()
	files["model.safetensors"] = randomBytes(4 << 20)
	h := newFakeHub(t, files)
	partial := h.blobPath("model.safetensors") + ".incomplete"
	for _, at := range []int64{1 << 20, 2 << 20} {
		var out strings.Builder
		c := start(t, &out)
		for deadline := time.Now().Add(time.Minute); ; {
			if info, err := os.Stat(partial); err == nil && info.Size() >= at {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("nothing comes")
			}
		}
		if err := c.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.Wait()
		b, err := os.ReadFile(partial)
		if err == nil && string(b) != string(files["model.safetensors"][:len(b)]) {
			t.Fatal("the partial file is not the beginning of the file")
		}
	}
	hurry(t, 1<<20)
	before := h.sent.Load()
	h.checkFiles(t, fetch(t, Options{}), "model.safetensors")
	if sent := h.sent.Load() - before; sent > 2<<20+1000 {
		t.Errorf("the last process was sent %d bytes", sent)
	}
}

func TestLockWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locks", "x.lock")
	unlock, err := lock(t.Context(), path, func() { t.Error("a free lock is waited for") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := 0
	if _, err := lock(ctx, path, func() { waits++; cancel() }); !errors.Is(err, context.Canceled) || waits != 1 {
		t.Errorf("a held lock gives %v after %d notes", err, waits)
	}
	got := make(chan error)
	waiting := make(chan struct{})
	go func() {
		again, err := lock(t.Context(), path, func() { close(waiting) })
		if err == nil {
			again()
		}
		got <- err
	}()
	<-waiting
	if err := os.Remove(path); err != nil { // as some versions of filelock do
		t.Fatal(err)
	}
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := checkSpace(dir, 1); err != nil {
		t.Error(err)
	}
	if err := checkSpace(dir, 1<<60); err == nil || !strings.Contains(err.Error(), "1152921.5 TB are missing") || !strings.Contains(err.Error(), "HF_HUB_CACHE") {
		t.Errorf("no room gives %v", err)
	}
	if err := diskError(&os.PathError{Op: "write", Path: "x", Err: unix.ENOSPC}); !strings.Contains(err.Error(), "no space left on device (free space") {
		t.Errorf("a full disk gives %v", err)
	}
}

// TestWritesThatFail runs where files cannot be larger than the limit, which fails
// like a full disk.
func TestWritesThatFail(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	var out strings.Builder
	c := exec.Command("sh", "-c", `ulimit -f 4 && trap '' XFSZ && exec "$0"`, os.Args[0]) // 2 or 4 KiB
	c.Env = append(os.Environ(), asProcess+"=1")
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err == nil || !strings.Contains(out.String(), "free space, or set HF_HUB_CACHE") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if info, err := os.Stat(h.blobPath("model.safetensors") + ".incomplete"); err != nil || info.Size() == 0 {
		t.Errorf("what had come is gone: %v", err)
	}
	h.checkFiles(t, fetch(t, Options{}), "model.safetensors")
}

func TestUnwritableCache(t *testing.T) {
	newFakeHub(t, tinyModel())
	t.Setenv("HF_HOME", "/proc/self") // where nobody can make folders
	t.Setenv("HF_TOKEN", testToken)
	fetchError(t, Options{}, "/proc/self/hub")
	if err := diskError(&os.PathError{Op: "mkdir", Path: "x", Err: unix.EROFS}); !strings.Contains(err.Error(), "read-only file system (set HF_HUB_CACHE") {
		t.Errorf("a disk that is read only gives %v", err)
	}
}
