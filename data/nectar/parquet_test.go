package nectar

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rmtrain/data/rows"
)

func TestParquetOfEveryKindGivesTheTokensOfJSONLines(t *testing.T) {
	encoder := testEncoder(t)
	for lines, files := range map[string][]string{
		"rows": {"snappy_v1", "snappy_v2", "gzip_v2", "zstd_v1", "zstd_v2", "brotli_v2", "lz4_v1", "lz4_v2", "none_v1", "large",
			"fixed_list", "rank_int8", "rank_uint16", "rank_int64", "rank_float32", "rank_decimal", "dictionary", "columns"},
		"pairs": {"pairs"},
		"texts": {"texts"},
	} {
		want, report := prepare(t, Options{Paths: []string{filepath.Join("testdata", lines+".jsonl")}, Encoder: encoder})
		if len(want) != 12 || report.LeftOut != 0 {
			t.Fatalf("%s: %d groups, %d left out", lines, len(want), report.LeftOut)
		}
		for _, name := range files {
			got, _ := prepare(t, Options{Paths: []string{filepath.Join("testdata", name+".parquet")}, Encoder: encoder})
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s.parquet differs from %s.jsonl", name, lines)
			}
		}
	}
}

func TestNullsAndNaNAreNamedByRow(t *testing.T) {
	path := filepath.Join("testdata", "nulls.parquet")
	_, report := prepare(t, Options{Paths: []string{path}, Encoder: testEncoder(t), SkipBad: true})
	want := []Finding{
		{BadRow, path, 1, "prompt is null"},
		{BadRow, path, 3, "answers is null"},
		{BadRow, path, 4, "0 of at least 2 answers"},
		{BadRow, path, 5, "answers[1] is null"},
		{BadRow, path, 6, "answers[1].answer is null"},
		{BadRow, path, 7, "answers[1].rank is null"},
		{BadRow, path, 8, `answers[1].rank is "NaN", not a finite number`},
		{BadRow, path, 9, "1 of at least 2 answers"},
	}
	if !reflect.DeepEqual(report.Findings, want) {
		t.Errorf("findings %+v", report.Findings)
	}
	if report.Groups != 1 || report.Rows != 9 || report.LeftOut != 8 {
		t.Errorf("%d groups of %d rows, %d left out", report.Groups, report.Rows, report.LeftOut)
	}
	_, _, err := Prepare(context.Background(), Options{Paths: []string{path}, Encoder: testEncoder(t)})
	if err == nil || !strings.Contains(err.Error(), path+":1: prompt is null") {
		t.Errorf("error %v", err)
	}
}

func TestFilesThatAreNoRankedAnswersAreRefused(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "rows.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join("testdata", "foreign.parquet"): "it has the columns question, response, and none of those that are read: prompt, answers",
		write(t, "a.parquet", ""):                    "not a Parquet file",
		write(t, "b.parquet", string(whole)):         "not a Parquet file",
		filepath.Join(t.TempDir(), "none.parquet"):   "no such file",
		write(t, "rows.csv", "a,b"):                  "not a known kind of file",
		t.TempDir():                                  "the folder has no .parquet",
		write(t, "empty.jsonl", "\n\n"):              "there are no rows",
	} {
		_, err := Lint(context.Background(), []string{path}, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

func TestWrittenParquetIsReadBack(t *testing.T) {
	written := make([]Row, 2300)
	for i := range written {
		written[i] = Row{Prompt: "\n\nHuman: " + strings.Repeat("why? ", i%50) + "\n\nAssistant: ", Turns: 1, NumResponses: 2, Source: []string{"a", "b"}, GoodNatured: i%2 == 0,
			Answers: []RankedAnswer{{"because ☾", "m", 2}, {strings.Repeat("x", i), "n", 1}}}
	}
	path := filepath.Join(t.TempDir(), "out.parquet")
	if err := WriteParquet(path, written); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := rows.Read(t.Context(), path, columns, func(found rows.Row) error {
		r, err := ParseRow(found.JSON)
		if err != nil || found.Err != nil {
			t.Fatal(err, found.Err)
		}
		want := written[n]
		for k, c := range r.Completions {
			if c.Prompt != want.Prompt || c.Answer != want.Answers[k].Answer || c.Rank != want.Answers[k].Rank {
				t.Fatalf("row %d, answer %d: %+v", found.Number, k, c)
			}
		}
		n++
		return nil
	})
	if err != nil || n != len(written) {
		t.Errorf("%d rows: %v", n, err)
	}
	if left, _ := filepath.Glob(path + ".tmp*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
}
