package bench

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// arenaSchema has the columns of lmsys/chatbot_arena_conversations that are read, and
// one that is not.
var arenaSchema = arrow.NewSchema([]arrow.Field{
	{Name: "question_id", Type: arrow.BinaryTypes.String},
	{Name: "winner", Type: arrow.BinaryTypes.String},
	{Name: "conversation_a", Type: messagesType, Nullable: true},
	{Name: "conversation_b", Type: messagesType, Nullable: true},
	{Name: "turn", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "language", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "tstamp", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
}, nil)

var messagesType = arrow.ListOf(arrow.StructOf(
	arrow.Field{Name: "content", Type: arrow.BinaryTypes.String, Nullable: true},
	arrow.Field{Name: "role", Type: arrow.BinaryTypes.String, Nullable: true},
))

// votesInParquet writes votes, which are JSON lines, as a Parquet file.
func votesInParquet(t testing.TB, lines string) []byte {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, arenaSchema)
	defer b.Release()
	for line := range strings.Lines(lines) {
		if err := b.UnmarshalJSON([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	record := b.NewRecord()
	defer record.Release()
	var out bytes.Buffer
	w, err := pqarrow.NewFileWriter(arenaSchema, struct{ io.Writer }{&out}, nil, pqarrow.DefaultWriterProps())
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

func TestVotesInParquetAreRead(t *testing.T) {
	file := votesInParquet(t, oneLine(arenaRow, "model_b")+oneLine(arenaRow, "tie"))
	set := load(t, Human, quick(), write(t, "a.parquet", string(file)))
	if got := pairsOf(set.Items); len(got) != 1 || got[0] != "user=hi|assistant=B > user=hi|assistant=A" || set.LeftOut["tie"] != 1 {
		t.Errorf("pairs %q, left out %v", got, set.LeftOut)
	}
}

func TestDamagedOrForeignParquetIsRefusedByName(t *testing.T) {
	whole := votesInParquet(t, oneLine(arenaRow, "model_b"))
	for _, test := range []struct{ bench, content, want string }{
		{Human, string(whole[:len(whole)/2]), "not a Parquet file, or a damaged one"},
		{Safety, string(whole), "it has the columns question_id, winner"},
	} {
		path := write(t, "a.parquet", test.content)
		_, err := Load(t.Context(), test.bench, []string{path}, quick(), rankedRow)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v", test.bench, err)
		}
	}
}
