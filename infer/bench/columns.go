package bench

import (
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// rowGroupRows is how many rows a row group of scores.parquet has.
const rowGroupRows = 4096

var scoresSchema = arrow.NewSchema([]arrow.Field{
	{Name: "bench", Type: arrow.BinaryTypes.String},
	{Name: "id", Type: arrow.BinaryTypes.String},
	{Name: "source", Type: arrow.BinaryTypes.String},
	{Name: "subset", Type: arrow.BinaryTypes.String},
	{Name: "labels", Type: arrow.ListOf(arrow.BinaryTypes.String)},
	{Name: "ranks", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64)},
	{Name: "characters", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)},
	{Name: "scores", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64)},
	{Name: "tokens", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)},
	{Name: "truncated", Type: arrow.ListOf(arrow.FixedWidthTypes.Boolean)},
	{Name: "correct", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "error", Type: arrow.BinaryTypes.String},
	{Name: "other_scores", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64)},
	{Name: "other_error", Type: arrow.BinaryTypes.String},
}, nil)

// writeParquet writes the same as writeLines, in columns.
func (r *Report) writeParquet(out io.Writer) error {
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy), parquet.WithCreatedBy("rmtrain"))
	// The writer would close what it can, but the file must still be synced.
	w, err := pqarrow.NewFileWriter(scoresSchema, struct{ io.Writer }{out}, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return err
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, scoresSchema)
	defer b.Release()
	rows := 0
	flush := func() error {
		rows = 0
		record := b.NewRecord()
		defer record.Release()
		return w.Write(record)
	}
	err = r.lines(func(l line) error {
		appendLine(b, l)
		if rows++; rows < rowGroupRows {
			return nil
		}
		return flush()
	})
	if err == nil && rows > 0 {
		err = flush()
	}
	if err != nil {
		return err
	}
	return w.Close()
}

func appendLine(b *array.RecordBuilder, l line) {
	for i, s := range map[int]string{0: l.Bench, 1: l.ID, 2: l.Source, 3: l.Subset, 11: l.Error, 13: l.OtherError} {
		b.Field(i).(*array.StringBuilder).Append(s)
	}
	list(b, 4).(*array.StringBuilder).AppendValues(l.Labels, nil)
	list(b, 5).(*array.Float64Builder).AppendValues(l.Ranks, nil)
	list(b, 6).(*array.Int64Builder).AppendValues(l.Characters, nil)
	list(b, 7).(*array.Float64Builder).AppendValues(l.Scores, nil)
	list(b, 8).(*array.Int64Builder).AppendValues(l.Tokens, nil)
	list(b, 9).(*array.BooleanBuilder).AppendValues(l.Truncated, nil)
	if correct := b.Field(10).(*array.Float64Builder); l.Correct != nil {
		correct.Append(*l.Correct)
	} else {
		correct.AppendNull()
	}
	list(b, 12).(*array.Float64Builder).AppendValues(l.OtherScores, nil)
}

// list begins a list in column i and returns what takes its values.
func list(b *array.RecordBuilder, i int) array.Builder {
	l := b.Field(i).(*array.ListBuilder)
	l.Append(true)
	return l.ValueBuilder()
}
