package bench

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
)

// leafBatch is how many entries of a column are decoded at a time.
const leafBatch = 256

// A leaf is a column: entries of a definition level, a repetition level, and a value
// where the definition level is the highest.
type leaf struct {
	column   file.ColumnChunkReader
	path     string
	def, rep []int16
	values   []any
	entry    int // the next one
	value    int
}

// peek returns the levels of the next entry, or io.EOF.
func (l *leaf) peek() (def, rep int16, err error) {
	if l.entry == len(l.def) {
		if err := l.fill(); err != nil {
			return 0, 0, err
		}
	}
	return l.def[l.entry], l.rep[l.entry], nil
}

// level returns the definition level of the next entry, which must be there.
func (l *leaf) level() (int16, error) {
	def, _, err := l.peek()
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file is damaged: column %s ends early", l.path)
	}
	return def, err
}

// take returns the value of the next entry, nil if there is none.
func (l *leaf) take() (any, error) {
	def, err := l.level()
	if err != nil {
		return nil, err
	}
	l.entry++
	if def < l.column.Descriptor().MaxDefinitionLevel() {
		return nil, nil
	}
	if l.value == len(l.values) {
		return nil, fmt.Errorf("the file is damaged: column %s has fewer values than its levels say", l.path)
	}
	l.value++
	return l.values[l.value-1], nil
}

// fill decodes the next entries.
func (l *leaf) fill() error {
	if !l.column.HasNext() {
		if err := l.column.Err(); err != nil {
			return fmt.Errorf("column %s: %w", l.path, err)
		}
		return io.EOF
	}
	l.def, l.rep = make([]int16, leafBatch), make([]int16, leafBatch)
	l.entry, l.value, l.values = 0, 0, nil
	d := l.column.Descriptor()
	var levels [2][]int16
	if d.MaxDefinitionLevel() > 0 {
		levels[0] = l.def
	}
	if d.MaxRepetitionLevel() > 0 {
		levels[1] = l.rep
	}
	n, err := l.batch(levels[0], levels[1])
	if err != nil {
		return fmt.Errorf("column %s: %w", l.path, err)
	}
	if n <= 0 || n > leafBatch {
		return fmt.Errorf("the file is damaged: column %s has a page of %d entries", l.path, n)
	}
	l.def, l.rep = l.def[:n], l.rep[:n]
	return nil
}

// batch reads entries of the column's own type.
func (l *leaf) batch(def, rep []int16) (int64, error) {
	switch c := l.column.(type) {
	case *file.ByteArrayColumnChunkReader:
		return readValues(l, c.ReadBatch, def, rep, func(v parquet.ByteArray) any { return string(v) })
	case *file.FixedLenByteArrayColumnChunkReader:
		return readValues(l, c.ReadBatch, def, rep, func(v parquet.FixedLenByteArray) any { return string(v) })
	case *file.BooleanColumnChunkReader:
		return readValues(l, c.ReadBatch, def, rep, func(v bool) any { return v })
	case *file.Int32ColumnChunkReader:
		return readValues(l, c.ReadBatch, def, rep, func(v int32) any { return v })
	case *file.Int64ColumnChunkReader:
		return readValues(l, c.ReadBatch, def, rep, func(v int64) any { return v })
	case *file.Float32ColumnChunkReader:
		return readValues(l, c.ReadBatch, def, rep, func(v float32) any { return finite(float64(v)) })
	case *file.Float64ColumnChunkReader:
		return readValues(l, c.ReadBatch, def, rep, finite)
	}
	return 0, fmt.Errorf("values of type %s are not read", l.column.Type())
}

// readValues reads a batch and keeps copies of its values: a page that the library has
// done with is overwritten.
func readValues[T any](l *leaf, read func(int64, []T, []int16, []int16) (int64, int, error), def, rep []int16, keep func(T) any) (int64, error) {
	values := make([]T, leafBatch)
	n, got, err := read(leafBatch, values, def, rep)
	if err != nil {
		return 0, err
	}
	if got < 0 || got > len(values) {
		return 0, errors.New("the file is damaged: more values than entries")
	}
	for _, v := range values[:got] {
		l.values = append(l.values, keep(v))
	}
	return n, nil
}

// finite makes null of numbers that JSON does not have.
func finite(x float64) any {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return x
}
