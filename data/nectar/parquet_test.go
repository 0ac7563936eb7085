package nectar

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
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
		filepath.Join("testdata", "foreign.parquet"): "no column of ranked answers among question, response",
		write(t, "a.parquet", ""):                    "not a Parquet file",
		write(t, "b.parquet", string(whole)):         "not a Parquet file",
		filepath.Join(t.TempDir(), "none.parquet"):   "no such file",
		write(t, "rows.csv", "a,b"):                  "not a known kind of data",
		t.TempDir():                                  "the folder has no .parquet",
		write(t, "empty.jsonl", "\n\n"):              "there are no rows",
	} {
		_, err := Lint(context.Background(), []string{path}, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

// readRows reads a Parquet file through the child.
func readRows(ctx context.Context, path string) (rows int, err error) {
	err = readParquet(ctx, path, func(_ int, _ []byte, bad error, _ float64) error {
		rows++
		return bad
	})
	return rows, err
}

func TestDamagedPagesAreErrorsThatNameTheRowGroup(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "snappy_v1.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	// The text of a page of the second row group.
	at := strings.Index(string(whole), "naïve")
	if at < 0 {
		t.Fatal("no page to damage")
	}
	damaged := append([]byte(nil), whole...)
	for i := at - 40; i < at; i++ {
		damaged[i] = 0xff
	}
	path := write(t, "damaged.parquet", string(damaged))
	_, err = readRows(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), path+": row group 2 of 3: ") {
		t.Errorf("error %v", err)
	}
}

func TestNoDamageEndsTheProcess(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	failed := 0
	files := 200
	if testing.Short() {
		files = 40
	}
	for n := range files {
		whole, err := os.ReadFile(filepath.Join("testdata", []string{"snappy_v1", "zstd_v2", "lz4_v1", "large"}[n%4]+".parquet"))
		if err != nil {
			t.Fatal(err)
		}
		if n%5 == 0 {
			whole = whole[:random.IntN(len(whole))]
		}
		for range 1 + n%20 {
			if len(whole) > 0 {
				whole[random.IntN(len(whole))] ^= byte(1 << random.IntN(8))
			}
		}
		path := write(t, "damaged.parquet", string(whole))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err = readRows(ctx, path)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("file %d: reading does not end", n)
		}
		if err != nil {
			failed++
			if !strings.Contains(err.Error(), path) {
				t.Errorf("file %d: the error names no file: %v", n, err)
			}
		}
	}
	if failed < files/2 {
		t.Errorf("only %d of %d damaged files were noticed", failed, files)
	}
}

func TestReadingParquetCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	rows := 0
	err := readParquet(ctx, filepath.Join("testdata", "zstd_v1.parquet"), func(int, []byte, error, float64) error {
		rows++
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || rows != 1 {
		t.Errorf("error %v after %d rows", err, rows)
	}
	if _, err := readRows(ctx, filepath.Join("testdata", "zstd_v1.parquet")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestWrittenParquetIsReadBack(t *testing.T) {
	rows := make([]Row, 2300)
	for i := range rows {
		rows[i] = Row{Prompt: "\n\nHuman: " + strings.Repeat("why? ", i%50) + "\n\nAssistant: ", Turns: 1, NumResponses: 2, Source: []string{"a", "b"}, GoodNatured: i%2 == 0,
			Answers: []RankedAnswer{{"because ☾", "m", 2}, {strings.Repeat("x", i), "n", 1}}}
	}
	path := filepath.Join(t.TempDir(), "out.parquet")
	if err := WriteParquet(path, rows); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := readParquet(t.Context(), path, func(number int, line []byte, bad error, _ float64) error {
		r, err := ParseRow(line)
		if err != nil || bad != nil {
			t.Fatal(err, bad)
		}
		want := rows[n]
		for k, c := range r.Completions {
			if c.Prompt != want.Prompt || c.Answer != want.Answers[k].Answer || c.Rank != want.Answers[k].Rank {
				t.Fatalf("row %d, answer %d: %+v", number, k, c)
			}
		}
		n++
		return nil
	})
	if err != nil || n != len(rows) {
		t.Errorf("%d rows: %v", n, err)
	}
	if left, _ := filepath.Glob(path + ".tmp*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestATooLongRowIsBadByItself(t *testing.T) {
	rows := make([]Row, 3)
	for i := range rows {
		rows[i] = Row{Prompt: "why?", Answers: []RankedAnswer{{"a", "m", 1}, {"b", "m", 2}}}
	}
	rows[1].Answers[0].Answer = strings.Repeat("x", 1000)
	path := filepath.Join(t.TempDir(), "long.parquet")
	if err := WriteParquet(path, rows); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	out := &frameWriter{w: bufio.NewWriter(&b), maxRow: 1000}
	if err := decodeParquet(path, out); err != nil {
		t.Fatal(err)
	}
	out.write(frameEnd, nil)
	if err := out.flush(); err != nil {
		t.Fatal(err)
	}
	var got []error
	p := &parent{in: bufio.NewReader(&b), emit: func(_ int, json []byte, bad error, _ float64) error {
		if (json == nil) != (bad != nil) {
			t.Errorf("row %s, %v", json, bad)
		}
		got = append(got, bad)
		return nil
	}}
	if err := p.run(); err != nil || !reflect.DeepEqual(got, []error{nil, errTooLong, nil}) {
		t.Errorf("rows %v, error %v", got, err)
	}
}

func TestADecoderThatDiesIsExplained(t *testing.T) {
	for stderr, want := range map[string]string{
		"panic: snappy: corrupt input\n\ngoroutine 1": "the file is damaged: snappy: corrupt input",
		"fatal error: runtime: out of memory\n":       "the decoder failed: fatal error: runtime: out of memory",
		"":                                            "the decoder ended: signal: killed",
	} {
		if got := lastWords(stderr, errors.New("signal: killed")); got.Error() != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
	if got := lastWords("", nil); got.Error() != "the decoder ended early" {
		t.Errorf("%q", got)
	}
}

func FuzzFollowChild(f *testing.F) {
	var b bytes.Buffer
	out := &frameWriter{w: bufio.NewWriter(&b), maxRow: maxLine}
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
		p := &parent{in: bufio.NewReader(bytes.NewReader(stream)), emit: func(_ int, _ []byte, bad error, fraction float64) error {
			if fraction < 0 || fraction > 1 {
				t.Errorf("progress %v", fraction)
			}
			return bad
		}}
		if err := p.run(); err == nil && !bytes.Contains(stream, []byte{frameEnd}) {
			t.Error("a stream without an end is whole")
		}
	})
}
