package nectar

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// realData returns a folder of real data, and skips the test where there is none.
func realData(t *testing.T) string {
	dir := os.Getenv("RMTRAIN_REALDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no real data here; RMTRAIN_REALDATA may name its folder")
	}
	return dir
}

func TestRealParquetAndJSONLinesGiveTheSameTokens(t *testing.T) {
	dir := realData(t)
	encoder := openEncoder(t, filepath.Join(dir, "models", "tinystories-656k"), 512)
	base := filepath.Join(dir, "preference", "alpacaeval_nectar_test")
	fromLines, report := prepare(t, Options{Paths: []string{base + ".jsonl"}, Encoder: encoder})
	fromParquet, _ := prepare(t, Options{Paths: []string{base + ".parquet"}, Encoder: encoder})
	if len(fromLines) != 150 || !reflect.DeepEqual(fromLines, fromParquet) {
		t.Errorf("%d and %d groups differ", len(fromLines), len(fromParquet))
	}
	if report.Pairs+report.TiedPairs != 150*21 || report.LongerWins.Characters < 0.69 || report.LongerWins.Characters > 0.71 {
		t.Errorf("%d pairs, of which the longer one wins %v", report.Pairs, report.LongerWins)
	}
}

func TestRealPairsOfWholeTranscriptsAreRead(t *testing.T) {
	path := filepath.Join(realData(t), "raw", "hh-rlhf", "harmless-base_test.jsonl.gz")
	report, err := Lint(t.Context(), []string{path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Groups != 2312 || report.LeftOut != 0 || report.Prompts != 2310 {
		t.Errorf("%d of %d rows left out, %d prompts: %+v", report.LeftOut, report.Rows, report.Prompts, report.Totals)
	}
}
