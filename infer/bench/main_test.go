package bench

import (
	"os"
	"testing"

	"rmtrain/data/rows"
)

func TestMain(m *testing.M) {
	if rows.ChildMain() {
		return
	}
	// Under the race detector every child would wait for a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}
