package rows

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// appendRow appends row i of record as a JSON object.
func appendRow(b []byte, record arrow.Record, i int) []byte {
	b = append(b, '{')
	for c := range int(record.NumCols()) {
		b = appendField(b, c, record.ColumnName(c))
		b = appendValue(b, record.Column(c), i)
	}
	return append(b, '}')
}

// appendField appends the name of field number c of an object.
func appendField(b []byte, c int, name string) []byte {
	if c > 0 {
		b = append(b, ',')
	}
	return append(appendString(b, name), ':')
}

// appendValue appends value i of a as JSON. Numbers that JSON does not have become
// strings, and values of a kind that no row has become objects that say so; the
// parser of rows then names them as what is wrong.
func appendValue(b []byte, a arrow.Array, i int) []byte {
	if a.IsNull(i) {
		return append(b, "null"...)
	}
	switch a := a.(type) {
	case *array.String:
		return appendString(b, a.Value(i))
	case *array.LargeString:
		return appendString(b, a.Value(i))
	case *array.Binary:
		return appendString(b, string(a.Value(i)))
	case *array.LargeBinary:
		return appendString(b, string(a.Value(i)))
	case *array.FixedSizeBinary:
		return appendString(b, string(a.Value(i)))
	case *array.Struct:
		return appendStruct(b, a, i)
	case array.ListLike:
		return appendList(b, a, i)
	case *array.Boolean:
		return strconv.AppendBool(b, a.Value(i))
	}
	return appendNumber(b, a, i)
}

func appendStruct(b []byte, a *array.Struct, i int) []byte {
	b = append(b, '{')
	for c, field := range a.DataType().(*arrow.StructType).Fields() {
		b = appendField(b, c, field.Name)
		b = appendValue(b, a.Field(c), i)
	}
	return append(b, '}')
}

func appendList(b []byte, a array.ListLike, i int) []byte {
	b = append(b, '[')
	lo, hi := a.ValueOffsets(i)
	for k := lo; k < hi; k++ {
		if k > lo {
			b = append(b, ',')
		}
		b = appendValue(b, a.ListValues(), int(k))
	}
	return append(b, ']')
}

func appendNumber(b []byte, a arrow.Array, i int) []byte {
	switch a := a.(type) {
	case *array.Float64:
		return appendFloat(b, a.Value(i), 64)
	case *array.Float32:
		return appendFloat(b, float64(a.Value(i)), 32)
	case *array.Float16:
		return appendFloat(b, float64(a.Value(i).Float32()), 32)
	case *array.Int64:
		return strconv.AppendInt(b, a.Value(i), 10)
	case *array.Int32:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int16:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Int8:
		return strconv.AppendInt(b, int64(a.Value(i)), 10)
	case *array.Uint64:
		return strconv.AppendUint(b, a.Value(i), 10)
	case *array.Uint32:
		return strconv.AppendUint(b, uint64(a.Value(i)), 10)
	case *array.Uint16:
		return strconv.AppendUint(b, uint64(a.Value(i)), 10)
	case *array.Uint8:
		return strconv.AppendUint(b, uint64(a.Value(i)), 10)
	case *array.Decimal128:
		scale := a.DataType().(*arrow.Decimal128Type).Scale
		return appendFloat(b, a.Value(i).ToFloat64(scale), 64)
	case *array.Decimal256:
		scale := a.DataType().(*arrow.Decimal256Type).Scale
		return appendFloat(b, a.Value(i).ToFloat64(scale), 64)
	}
	b = append(b, `{"type":`...)
	return append(appendString(b, a.DataType().String()), '}')
}

func appendFloat(b []byte, x float64, bits int) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return strconv.AppendQuote(b, strconv.FormatFloat(x, 'g', -1, 64))
	}
	return strconv.AppendFloat(b, x, 'g', -1, bits)
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // Marshal takes every string
	}
	return append(b, quoted...)
}
