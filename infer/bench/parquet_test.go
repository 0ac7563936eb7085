package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// arenaSchema has every shape that the benchmarks' files have.
var arenaSchema = arrow.NewSchema([]arrow.Field{
	{Name: "winner", Type: arrow.BinaryTypes.String},
	{Name: "conversation_a", Type: messagesType, Nullable: true},
	{Name: "conversation_b", Type: messagesType, Nullable: true},
	{Name: "turn", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "anony", Type: arrow.FixedWidthTypes.Boolean},
	{Name: "tstamp", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "tag", Nullable: true, Type: arrow.StructOf(arrow.Field{Name: "flags", Nullable: true, Type: arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int32))})},
}, nil)

var messagesType = arrow.ListOf(arrow.StructOf(
	arrow.Field{Name: "content", Type: arrow.BinaryTypes.String, Nullable: true},
	arrow.Field{Name: "role", Type: arrow.BinaryTypes.String, Nullable: true},
))

// nestedRows are rows of arenaSchema: lists that are long, empty, and null, and values
// that are null at every depth.
func nestedRows(n int) string {
	var b strings.Builder
	for i := range n {
		tags := []string{`{"flags":[[1,2],[],[3]]}`, `{"flags":[]}`, `{"flags":null}`, `null`}[i%4]
		b.WriteString(oneLine(`{"winner":"model_a",
"conversation_a":[{"content":"question %d","role":"user"},{"content":"%s","role":"assistant"}],
"conversation_b":%s,"turn":%s,"anony":%t,"tstamp":%g,"tag":%s}`,
			i, strings.Repeat("long ", i%40), []string{`[{"content":null,"role":"user"}]`, `[]`, `null`}[i%3], []string{"1", "null"}[i%2], i%2 == 0, float64(i)/8, tags))
	}
	return b.String()
}

func writeNested(t testing.TB, rows string, perGroup int64, codec compress.Compression) []byte {
	t.Helper()
	var out bytes.Buffer
	props := parquet.NewWriterProperties(parquet.WithCompression(codec), parquet.WithDataPageSize(512))
	w, err := pqarrow.NewFileWriter(arenaSchema, struct{ io.Writer }{&out}, props, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arenaSchema)
	defer b.Release()
	for line := range strings.Lines(rows) {
		if err := b.UnmarshalJSON([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if int64(b.Field(0).Len()) == perGroup {
			record := b.NewRecord()
			if err := w.Write(record); err != nil {
				t.Fatal(err)
			}
			record.Release()
		}
	}
	if b.Field(0).Len() > 0 {
		record := b.NewRecord()
		if err := w.Write(record); err != nil {
			t.Fatal(err)
		}
		record.Release()
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// values reads all rows of a file as values of encoding/json.
func values(t testing.TB, path string, columns []string) []map[string]any {
	t.Helper()
	var rows []map[string]any
	err := readerOf(path)(path, columns, func(_ int, line []byte) error {
		var row map[string]any
		rows = append(rows, row)
		return json.Unmarshal(line, &rows[len(rows)-1])
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestNestedParquetIsReadAsWritten(t *testing.T) {
	rows := nestedRows(700)
	want := values(t, write(t, "rows.jsonl", rows), nil)
	for _, codec := range []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd} {
		t.Run(fmt.Sprint(codec), func(t *testing.T) {
			path := write(t, "rows.parquet", string(writeNested(t, rows, 300, codec)))
			if got := values(t, path, nil); !reflect.DeepEqual(got, want) {
				t.Error("the rows differ from those that were written")
			}
		})
	}
}

func TestParquetReadsOnlyTheColumnsThatAreAskedFor(t *testing.T) {
	path := write(t, "rows.parquet", string(writeNested(t, nestedRows(3), 10, compress.Codecs.Snappy)))
	for _, row := range values(t, path, []string{"winner", "tag", "absent"}) {
		if len(row) != 2 || row["winner"] != "model_a" {
			t.Errorf("row %v", row)
		}
	}
}

// TestForeignParquetIsReadLikeItsSource reads files that pyarrow wrote.
func TestForeignParquetIsReadLikeItsSource(t *testing.T) {
	dir := filepath.Join("..", "..", "data", "nectar", "testdata")
	want := values(t, filepath.Join(dir, "rows.jsonl"), nil)
	for _, name := range []string{"none_v1", "snappy_v1", "snappy_v2", "zstd_v1", "zstd_v2", "gzip_v2", "brotli_v2", "large", "dictionary"} {
		t.Run(name, func(t *testing.T) {
			got := values(t, filepath.Join(dir, name+".parquet"), nil)
			if len(got) != len(want) {
				t.Fatalf("%d rows, want %d", len(got), len(want))
			}
			for i := range got {
				if !reflect.DeepEqual(got[i]["answers"], want[i]["answers"]) || !reflect.DeepEqual(got[i]["prompt"], want[i]["prompt"]) {
					t.Fatalf("row %d is\n%v, want\n%v", i+1, got[i], want[i])
				}
			}
		})
	}
}

func TestVotesInParquetAreRead(t *testing.T) {
	rows := oneLine(`{"winner":"model_b","conversation_a":[{"content":"hi","role":"user"},{"content":"A","role":"assistant"}],"conversation_b":[{"content":"hi","role":"user"},{"content":"B","role":"assistant"}],"turn":1,"anony":true,"tstamp":1,"tag":null}`)
	set := load(t, Human, quick(), write(t, "a.parquet", string(writeNested(t, rows, 10, compress.Codecs.Snappy))))
	if got := pairsOf(set.Items); len(got) != 1 || got[0] != "user=hi|assistant=B > user=hi|assistant=A" {
		t.Errorf("pairs %q", got)
	}
}

func TestDamagedParquetIsAnError(t *testing.T) {
	whole := writeNested(t, nestedRows(200), 100, compress.Codecs.Snappy)
	dir := t.TempDir()
	failed := 0
	for i := 4; i < len(whole); i += max(1, len(whole)/150) {
		damaged := bytes.Clone(whole)
		for k := i; k < min(i+8, len(damaged)); k++ {
			damaged[k] ^= 0xa5
		}
		for _, content := range [][]byte{damaged, whole[:i]} {
			path := filepath.Join(dir, "damaged.parquet")
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := readParquet(path, nil, func(int, []byte) error { return nil }); err != nil {
				failed++
			}
		}
	}
	if failed < 150 { // every file that is cut off, at least
		t.Errorf("only %d damaged files were refused", failed)
	}
}
