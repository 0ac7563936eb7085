package rows

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/parquet/compress"
)

// FuzzParquet reads any file as a program does, through a child, only with less
// patience: reading ends within the limits, with rows that are JSON or with an error.
func FuzzParquet(f *testing.F) {
	f.Add(writeNested(f, nestedRows(5), 3, compress.Codecs.Uncompressed))
	f.Add(writeNested(f, nestedRows(9), 9, compress.Codecs.Snappy))
	short := limits{silence: 2 * time.Second, memory: 1 << 30, output: 1 << 20}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := write(t, "fuzz.parquet", string(content))
		begin := time.Now()
		err := short.readParquet(t.Context(), path, nil, func(r Row) error {
			if r.Err == nil && !json.Valid(r.JSON) {
				t.Errorf("row %d became %q", r.Number, r.JSON)
			}
			return nil
		})
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("reading took %v", took)
		}
		if err != nil && strings.Contains(err.Error(), "ChildMain") {
			t.Error(err)
		}
	})
}

func FuzzFollowChild(f *testing.F) {
	var b bytes.Buffer
	out := &frameWriter{w: bufio.NewWriter(&b), maxRow: maxRow}
	out.write(frameFile, make([]byte, 16))
	out.write(frameGroup, make([]byte, 8))
	out.write(frameRow, []byte("{}"))
	out.write(frameEnd, nil)
	if err := out.flush(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("PASS\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		p := &parent{in: bufio.NewReader(bytes.NewReader(stream)), left: 1 << 20, emit: func(r Row) error { return r.Err }}
		if err := p.run(); err == nil && !bytes.Contains(stream, []byte{frameEnd}) {
			t.Error("a stream without an end is whole")
		}
	})
}

func FuzzReadJSON(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbf{}\n\n{\"a\": 1}"))
	f.Add([]byte(" [1, {}, [\"]\"]]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		last := 0
		_ = readJSON(newText(bytes.NewReader(text), func() float64 { return 0 }), func(r Row) error {
			if r.Number <= last || len(r.JSON) == 0 || r.Err != nil {
				t.Errorf("line %d after %d: %q, %v", r.Number, last, r.JSON, r.Err)
			}
			last = r.Number
			return nil
		})
	})
}

func FuzzReadCSV(f *testing.F) {
	f.Add([]byte("a,a\n\"x\ny\",\"\"\"\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_ = readCSV(newText(bytes.NewReader(text), func() float64 { return 0 }), func(r Row) error {
			if r.Err != nil || !json.Valid(r.JSON) {
				t.Errorf("record %d became %q, %v", r.Number, r.JSON, r.Err)
			}
			return nil
		})
	})
}
