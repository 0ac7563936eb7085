package rows

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// testdata has files that pyarrow wrote, and the same rows as JSON lines.
var testdata = filepath.Join("..", "nectar", "testdata")

func TestMain(m *testing.M) {
	if ChildMain() {
		return
	}
	// Under the race detector every child would wait for a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// write makes a file in a folder of the test's own.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// count reads a file whose rows are all usable.
func count(ctx context.Context, path string) (n int, err error) {
	err = Read(ctx, path, nil, func(r Row) error {
		n++
		return r.Err
	})
	return n, err
}
