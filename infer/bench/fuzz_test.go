package bench

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rmtrain/data/rows"
)

// parseAll gives a row to every benchmark. An item must be usable.
func parseAll(t *testing.T, line []byte) {
	r, err := parseRow(line)
	if err != nil {
		return
	}
	for _, b := range benchmarks {
		if b.parse == nil {
			continue
		}
		it, err := b.parse(r, quick())
		if err != nil {
			continue
		}
		if len(it.Completions) < 2 || len(it.Pairs) == 0 {
			t.Fatalf("%s made an item of %d completions and %d pairs of %q", b.name, len(it.Completions), len(it.Pairs), line)
		}
		for _, p := range it.Pairs {
			if it.Completions[p.Better].Rank >= it.Completions[p.Worse].Rank {
				t.Fatalf("%s made a pair against the ranks of %q", b.name, line)
			}
		}
	}
}

// parseFile gives the rows of a file to every benchmark. A file may be refused, in time.
func parseFile(t *testing.T, name string, content []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_ = rows.Read(ctx, write(t, name, string(content)), nil, func(r rows.Row) error {
		if r.Number < 1 {
			t.Fatalf("row %d", r.Number)
		}
		if r.Err != nil {
			return nil
		}
		if _, err := parseRow(r.JSON); err != nil && !strings.HasPrefix(name, "fuzz.json") {
			t.Fatalf("a row became %q: %v", r.JSON, err)
		}
		parseAll(t, r.JSON)
		return ctx.Err()
	})
}

func FuzzJSONRows(f *testing.F) {
	f.Add([]byte(oneLine(arenaRow, "model_a")))
	f.Add([]byte(oneLine(safetyRow, true, false)))
	f.Add([]byte(`[{"prompt":"p","chosen":"c","rejected":"r","subset":"math-prm"}, null, 3]`))
	f.Add([]byte(`{"id":"tied:1","prompt":"p","chosen":["c"],"rejected":["r","s"],"num_correct":1,"total_completions":3,"subset":"Ties"}`))
	f.Add([]byte("\n\n{\"Question\":\"q\",\"Best Answer\":\"a\",\"Correct Answers\":\";\",\"Incorrect Answers\":\"b;;c\"}\r\n{"))
	f.Fuzz(func(t *testing.T, content []byte) { parseFile(t, "fuzz.jsonl", content) })
}

func FuzzCSVRows(f *testing.F) {
	f.Add([]byte("Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\nA,C,Q,B,\"a; b\",c;d,u\n"))
	f.Add([]byte("prompt,response_0,response_1,is_response_0_safe,is_response_1_safe\nq,a,b,True,False\n"))
	f.Add([]byte("a,a\n\"x\ny\",\"\"\"\"\n"))
	f.Fuzz(func(t *testing.T, content []byte) { parseFile(t, "fuzz.csv", content) })
}

func FuzzParquetRows(f *testing.F) {
	f.Add(votesInParquet(f, oneLine(arenaRow, "model_b")))
	f.Fuzz(func(t *testing.T, content []byte) { parseFile(t, "fuzz.parquet", content) })
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte("{\"identity\":{\"a\":\"b\"}}\n{\"bench\":\"human\",\"id\":\"x\",\"scores\":[1,2]}\n{\"bench\""))
	f.Add([]byte("{\"identity\":{\"a\":\"c\"}}\n"))
	f.Add([]byte("\x00\x01\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // what was opened once can be opened again
			j, err := OpenJournal(path, map[string]string{"a": "b"}, true)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
