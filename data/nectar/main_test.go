package nectar

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"rmtrain/data"
	"rmtrain/data/rows"
	"rmtrain/data/tokenizer"
)

func TestMain(m *testing.M) {
	if rows.ChildMain() {
		return
	}
	// Under the race detector every child would wait for a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

func openEncoder(t testing.TB, dir string, maxLength int) *tokenizer.Encoder {
	t.Helper()
	tok, err := tokenizer.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	e, err := tokenizer.NewEncoder(tok, tokenizer.Format{MaxLength: maxLength, TruncationSide: "left", ScorePosition: "last_token", PadID: -1})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func testEncoder(t testing.TB) *tokenizer.Encoder {
	return openEncoder(t, filepath.Join("testdata", "tokenizer"), 200)
}

// prepare returns the groups of files, without their sources.
func prepare(t *testing.T, o Options) ([]data.Group, *Report) {
	t.Helper()
	ds, report, err := Prepare(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer ds.Close()
	groups := make([]data.Group, ds.Len())
	for i := range groups {
		groups[i] = ds.Group(i)
		groups[i].Source = ""
	}
	return groups, report
}

// write makes a file in a folder of the test's own.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
