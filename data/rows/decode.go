package rows

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// batchRows is how many rows are decoded at a time.
const batchRows = 256

// decodeParquet writes the rows of a file as frames. It runs in a child process.
func decodeParquet(path string, columns []string, out *frameWriter) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	addLZ4()
	props := parquet.NewReaderProperties(memory.DefaultAllocator)
	props.BufferedStreamEnabled = true // a row group may be the whole file
	pf, err := file.NewParquetReader(f, file.WithReadProps(props))
	if err != nil {
		return fmt.Errorf("not a Parquet file, or a damaged one: %w (%s)", err, rewrite)
	}
	// Without the Arrow schema that a writer may have noted, every list is a List
	// and every string a String, whatever they were in its memory.
	pf.MetaData().FileMetaData.KeyValueMetadata = nil
	leaves, err := wantedLeaves(pf, columns)
	if err != nil {
		return err
	}
	arrows, err := pqarrow.NewFileReader(pf, pqarrow.ArrowReadProperties{BatchSize: batchRows}, memory.DefaultAllocator)
	if err != nil {
		return fmt.Errorf("a column has a type that is not read: %w (write the file without it)", err)
	}
	sizes := binary.LittleEndian.AppendUint64(nil, uint64(pf.NumRows()))
	out.write(frameFile, binary.LittleEndian.AppendUint64(sizes, uint64(pf.NumRowGroups())))
	for g := range pf.NumRowGroups() {
		out.write(frameGroup, binary.LittleEndian.AppendUint64(nil, uint64(g)))
		if err := out.flush(); err != nil {
			return err
		}
		if err := decodeRowGroup(arrows, leaves, g, out); err != nil {
			return err
		}
	}
	return nil
}

// wantedLeaves returns the numbers of the leaf columns under columns, or of all.
func wantedLeaves(pf *file.Reader, columns []string) ([]int, error) {
	schema := pf.MetaData().Schema
	var leaves []int
	for i := range schema.NumColumns() {
		path := schema.Column(i).ColumnPath()
		if len(path) > 0 && (len(columns) == 0 || slices.Contains(columns, path[0])) {
			leaves = append(leaves, i)
		}
	}
	if len(leaves) > 0 {
		return leaves, nil
	}
	var names []string
	for i := range schema.Root().NumFields() {
		names = append(names, schema.Root().Field(i).Name())
	}
	return nil, fmt.Errorf("it has the columns %s, and none of those that are read: %s", strings.Join(names, ", "), strings.Join(columns, ", "))
}

func decodeRowGroup(arrows *pqarrow.FileReader, leaves []int, group int, out *frameWriter) error {
	want := arrows.ParquetReader().MetaData().RowGroup(group).NumRows()
	records, err := arrows.GetRecordReader(context.Background(), leaves, []int{group})
	if err != nil {
		return err
	}
	defer records.Release()
	got := int64(0)
	var b []byte
	for records.Next() {
		record := records.Record()
		for i := range int(record.NumRows()) {
			b = appendRow(b[:0], record, i)
			out.writeRow(b)
		}
		got += record.NumRows()
		// The parent waits for every batch, and only so long.
		if err := out.flush(); err != nil {
			return err
		}
	}
	if err := records.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if got != want {
		return fmt.Errorf("the file is damaged: %d rows instead of %d (%s)", got, want, rewrite)
	}
	return nil
}
