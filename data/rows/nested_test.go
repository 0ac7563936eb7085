package rows

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/decimal128"
	"github.com/apache/arrow/go/v15/arrow/decimal256"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// nestedSchema has every shape that the files of benchmarks have.
var nestedSchema = arrow.NewSchema([]arrow.Field{
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

// nestedRows are rows of nestedSchema: lists that are long, empty, and null, and values
// that are null at every depth.
func nestedRows(n int) string {
	var b strings.Builder
	for i := range n {
		tags := []string{`{"flags":[[1,2],[],[3]]}`, `{"flags":[]}`, `{"flags":null}`, `null`}[i%4]
		fmt.Fprintf(&b, `{"winner":"model_a","conversation_a":[{"content":"question %d","role":"user"},{"content":"%s","role":"assistant"}],`+
			`"conversation_b":%s,"turn":%s,"anony":%t,"tstamp":%g,"tag":%s}`+"\n",
			i, strings.Repeat("long ", i%40), []string{`[{"content":null,"role":"user"}]`, `[]`, `null`}[i%3], []string{"1", "null"}[i%2], i%2 == 0, float64(i)/8, tags)
	}
	return b.String()
}

func writeNested(t testing.TB, rows string, perGroup int64, codec compress.Compression) []byte {
	t.Helper()
	var out bytes.Buffer
	props := parquet.NewWriterProperties(parquet.WithCompression(codec), parquet.WithDataPageSize(512))
	w, err := pqarrow.NewFileWriter(nestedSchema, struct{ io.Writer }{&out}, props, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, nestedSchema)
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
func values(t testing.TB, path string, columns ...string) []map[string]any {
	t.Helper()
	var out []map[string]any
	err := Read(t.Context(), path, columns, func(r Row) error {
		var row map[string]any
		if err := json.Unmarshal(r.JSON, &row); err != nil {
			return err
		}
		out = append(out, row)
		return r.Err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNestedParquetIsReadAsWritten(t *testing.T) {
	text := nestedRows(700)
	want := values(t, write(t, "rows.jsonl", text))
	for _, codec := range []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Zstd} {
		t.Run(fmt.Sprint(codec), func(t *testing.T) {
			path := write(t, "rows.parquet", string(writeNested(t, text, 300, codec)))
			if got := values(t, path); !reflect.DeepEqual(got, want) {
				t.Error("the rows differ from those that were written")
			}
		})
	}
}

func TestParquetReadsOnlyTheColumnsThatAreAskedFor(t *testing.T) {
	path := write(t, "rows.parquet", string(writeNested(t, nestedRows(3), 10, compress.Codecs.Snappy)))
	for _, row := range values(t, path, "winner", "tag", "absent") {
		if len(row) != 2 || row["winner"] != "model_a" {
			t.Errorf("row %v", row)
		}
	}
}

// TestForeignParquetIsReadLikeItsSource reads files that pyarrow wrote.
func TestForeignParquetIsReadLikeItsSource(t *testing.T) {
	want := values(t, filepath.Join(testdata, "rows.jsonl"))
	for _, name := range []string{"none_v1", "snappy_v1", "snappy_v2", "zstd_v1", "zstd_v2", "gzip_v2", "brotli_v2", "lz4_v1", "lz4_v2",
		"large", "fixed_list", "rank_int8", "rank_uint16", "rank_int64", "rank_float32", "rank_decimal", "dictionary"} {
		t.Run(name, func(t *testing.T) {
			got := values(t, filepath.Join(testdata, name+".parquet"))
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

// A column is one value in a column of a type.
type column struct {
	of   arrow.DataType
	fill func(array.Builder)
	want string // as JSON
}

func TestValuesOfEveryTypeBecomeJSON(t *testing.T) {
	columns := []column{
		{arrow.FixedWidthTypes.Boolean, func(b array.Builder) { b.(*array.BooleanBuilder).Append(true) }, `true`},
		{arrow.PrimitiveTypes.Int16, func(b array.Builder) { b.(*array.Int16Builder).Append(-7) }, `-7`},
		{arrow.PrimitiveTypes.Uint64, func(b array.Builder) { b.(*array.Uint64Builder).Append(1 << 63) }, `9223372036854775808`},
		{arrow.PrimitiveTypes.Float32, func(b array.Builder) { b.(*array.Float32Builder).Append(0.1) }, `0.1`},
		{arrow.BinaryTypes.Binary, func(b array.Builder) { b.(*array.BinaryBuilder).Append([]byte("a\"b")) }, `"a\"b"`},
		{&arrow.FixedSizeBinaryType{ByteWidth: 3}, func(b array.Builder) { b.(*array.FixedSizeBinaryBuilder).Append([]byte("abc")) }, `"abc"`},
		{&arrow.Decimal128Type{Precision: 9, Scale: 2}, func(b array.Builder) { b.(*array.Decimal128Builder).Append(decimal128.FromI64(-125)) }, `-1.25`},
		{&arrow.Decimal256Type{Precision: 50, Scale: 1}, func(b array.Builder) { b.(*array.Decimal256Builder).Append(decimal256.FromI64(25)) }, `2.5`},
		{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), func(b array.Builder) {
			m := b.(*array.MapBuilder)
			m.Append(true)
			m.KeyBuilder().(*array.StringBuilder).Append("k")
			m.ItemBuilder().(*array.Int32Builder).Append(1)
		}, `[{"key":"k","value":1}]`},
		{arrow.FixedWidthTypes.Date32, func(b array.Builder) { b.(*array.Date32Builder).Append(3) }, `{"type":"date32"}`},
	}
	for _, c := range columns {
		t.Run(c.of.String(), func(t *testing.T) {
			path := write(t, "one.parquet", string(writeColumn(t, c)))
			err := Read(t.Context(), path, nil, func(r Row) error {
				if got := string(r.JSON); got != `{"x":`+c.want+`}` {
					t.Errorf("%s, want %s", got, c.want)
				}
				return r.Err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func writeColumn(t *testing.T, c column) []byte {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: c.of, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	c.fill(b.Field(0))
	record := b.NewRecord()
	defer record.Release()
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, struct{ io.Writer }{&out}, nil, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(record); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
