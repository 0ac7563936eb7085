package bench

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/apache/arrow/go/v15/parquet/compress"
	"os"
	"path/filepath"
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

func FuzzJSONRows(f *testing.F) {
	f.Add([]byte(oneLine(arenaRow, "model_a")))
	f.Add([]byte(oneLine(safetyRow, true, false)))
	f.Add([]byte(`[{"prompt":"p","chosen":"c","rejected":"r","subset":"math-prm"}, null, 3]`))
	f.Add([]byte(`{"id":"tied:1","prompt":"p","chosen":["c"],"rejected":["r","s"],"num_correct":1,"total_completions":3,"subset":"Ties"}`))
	f.Add([]byte("\n\n{\"Question\":\"q\",\"Best Answer\":\"a\",\"Correct Answers\":\";\",\"Incorrect Answers\":\"b;;c\"}\r\n{"))
	f.Fuzz(func(t *testing.T, content []byte) {
		_ = readJSON(bufio.NewReader(bytes.NewReader(content)), func(number int, line []byte) error {
			if number < 1 {
				t.Fatalf("row %d", number)
			}
			parseAll(t, line)
			return nil
		})
	})
}

func FuzzCSVRows(f *testing.F) {
	f.Add([]byte("Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\nA,C,Q,B,\"a; b\",c;d,u\n"))
	f.Add([]byte("prompt,response_0,response_1,is_response_0_safe,is_response_1_safe\nq,a,b,True,False\n"))
	f.Add([]byte("a,a\n\"x\ny\",\"\"\"\"\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		_ = readCSV(bufio.NewReader(bytes.NewReader(content)), func(_ int, line []byte) error {
			if _, err := parseRow(line); err != nil {
				t.Fatalf("a record became %q: %v", line, err)
			}
			parseAll(t, line)
			return nil
		})
	})
}

func FuzzParquet(f *testing.F) {
	f.Add(writeNested(f, nestedRows(5), 3, compress.Codecs.Uncompressed))
	f.Add(writeNested(f, nestedRows(9), 9, compress.Codecs.Snappy))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "fuzz.parquet")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = readParquet(path, nil, func(_ int, line []byte) error {
			if _, err := parseRow(line); err != nil {
				t.Fatalf("a row became %q: %v", line, err)
			}
			return nil
		})
	})
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
