package nectar

import (
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// A Row is a row in the columns that Nectar itself has.
type Row struct {
	Prompt       string         `json:"prompt"`
	Answers      []RankedAnswer `json:"answers"`
	Turns        int64          `json:"turns"`
	NumResponses int64          `json:"num_responses"`
	Source       []string       `json:"source"`
	GoodNatured  bool           `json:"good_natured"`
}

// A RankedAnswer is one answer of a Row; rank 1 is best.
type RankedAnswer struct {
	Answer string  `json:"answer"`
	Model  string  `json:"model"`
	Rank   float64 `json:"rank"`
}

// rowGroupRows is how many rows WriteParquet puts into a row group.
const rowGroupRows = 1000

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "prompt", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "answers", Nullable: true, Type: arrow.ListOf(arrow.StructOf(
		arrow.Field{Name: "answer", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "model", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "rank", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	))},
	{Name: "turns", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "num_responses", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "source", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	{Name: "good_natured", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
}, nil)

// WriteParquet writes rows in Nectar's schema, compressed with Snappy. The file
// appears whole or not at all.
func WriteParquet(path string, rows []Row) error {
	err := writeWhole(path, func(f *os.File) error { return writeParquet(f, rows) })
	if err != nil {
		return fmt.Errorf("nectar: write %s: %w", path, err)
	}
	return nil
}

func writeParquet(f *os.File, rows []Row) error {
	// A column with a dictionary that falls back to plain text lists its encodings in
	// any order, and the same rows shall give the same bytes.
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy), parquet.WithCreatedBy("rmtrain"), parquet.WithDictionaryDefault(false))
	// The writer would close f, which must still be synced.
	w, err := pqarrow.NewFileWriter(schema, struct{ io.Writer }{f}, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return err
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for len(rows) > 0 {
		n := min(len(rows), rowGroupRows)
		for _, r := range rows[:n] {
			appendRecord(b, r)
		}
		record := b.NewRecord()
		err := w.Write(record)
		record.Release()
		if err != nil {
			return err
		}
		rows = rows[n:]
	}
	return w.Close()
}

func appendRecord(b *array.RecordBuilder, r Row) {
	b.Field(0).(*array.StringBuilder).Append(r.Prompt)
	answers := b.Field(1).(*array.ListBuilder)
	answers.Append(true)
	answer := answers.ValueBuilder().(*array.StructBuilder)
	for _, a := range r.Answers {
		answer.Append(true)
		answer.FieldBuilder(0).(*array.StringBuilder).Append(a.Answer)
		answer.FieldBuilder(1).(*array.StringBuilder).Append(a.Model)
		answer.FieldBuilder(2).(*array.Float64Builder).Append(a.Rank)
	}
	b.Field(2).(*array.Int64Builder).Append(r.Turns)
	b.Field(3).(*array.Int64Builder).Append(r.NumResponses)
	sources := b.Field(4).(*array.ListBuilder)
	sources.Append(true)
	for _, s := range r.Source {
		sources.ValueBuilder().(*array.StringBuilder).Append(s)
	}
	b.Field(5).(*array.BooleanBuilder).Append(r.GoodNatured)
}
