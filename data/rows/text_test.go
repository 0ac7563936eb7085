package rows

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// linesOf reads a file and describes what was emitted.
func linesOf(t *testing.T, path string) ([]string, error) {
	t.Helper()
	var lines []string
	last := 0.0
	err := Read(t.Context(), path, nil, func(r Row) error {
		if r.Done < last || r.Done > 1 {
			t.Errorf("progress goes from %v to %v", last, r.Done)
		}
		last = r.Done
		if r.Err != nil {
			r.JSON = []byte(r.Err.Error())
		}
		lines = append(lines, fmt.Sprintf("%d %s", r.Number, r.JSON))
		return nil
	})
	return lines, err
}

func compressed(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestJSONLinesKeepTheirNumbers(t *testing.T) {
	text := "\xef\xbb\xbf{1}\r\n\n  \n{2}\n" + strings.Repeat(" ", 3<<20) + "\n{3}"
	want := []string{"1 {1}", "4 {2}", "6 {3}"}
	for name, content := range map[string]string{
		"a.jsonl": text, "a.json": text, "a.JSONL.gz": compressed(t, text), "a.json.gz": compressed(t, text[:len(text)-3]) + compressed(t, "{3}\n"),
	} {
		got, err := linesOf(t, write(t, name, content))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, error %v", name, got, err)
		}
	}
}

func TestATooLongLineIsBadByItself(t *testing.T) {
	got, err := linesOf(t, write(t, "a.jsonl", "{1}\n"+strings.Repeat("x", maxRow+1)+"\n{3}"))
	if want := []string{"1 {1}", "2 longer than 64 MB", "3 {3}"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, error %v", got, err)
	}
}

func TestAJSONListIsReadElementByElement(t *testing.T) {
	got, err := linesOf(t, write(t, "a.json", "\xef\xbb\xbf\n [{\"a\":\n 1}, 2\n,\"]\"]\n"))
	if want := []string{"1 {\"a\":\n 1}", "2 2", "3 \"]\""}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, error %v", got, err)
	}
	for content, want := range map[string]string{
		`[{"a": 1}, {"b": 2`:   "element 2: unexpected EOF",
		`[{"a": 1} {"b": 2}]`:  "element 2: expected comma",
		`[{"a": 1}, {"b": 2}`:  "element 3: unexpected EOF",
		`[{"a": 1}] {"b": 2}]`: "more after the list",
	} {
		path := write(t, "a.json", content)
		if _, err := linesOf(t, path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", content, err)
		}
	}
}

func TestDamagedCompressionIsAnError(t *testing.T) {
	whole := compressed(t, strings.Repeat("{}\n", 1000)+"tail")
	for name, content := range map[string]string{"cut.jsonl.gz": whole[:len(whole)-6], "none.jsonl.gz": "{}\n", "empty.jsonl.gz": ""} {
		path := write(t, name, content)
		if _, err := linesOf(t, path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestWhatEmitReturnsEndsReading(t *testing.T) {
	stop := errors.New("stop")
	n := 0
	err := Read(t.Context(), write(t, "a.jsonl", "1\n2\n3\n"), nil, func(Row) error {
		n++
		return stop
	})
	if err != stop || n != 1 {
		t.Errorf("error %v after %d lines", err, n)
	}
}

func TestCSVBecomesObjectsByItsHeader(t *testing.T) {
	got, err := linesOf(t, write(t, "a.csv", "\xef\xbb\xbfb, a \n1,\"x\ny\"\n\n\"\"\"\",\n"))
	if want := []string{`1 {"a":"x\ny","b":"1"}`, `2 {"a":"","b":"\""}`}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, error %v", got, err)
	}
	for content, want := range map[string]string{"": "the file is empty", "a,b\n1\n": "wrong number of fields"} {
		path := write(t, "a.csv", content)
		if _, err := linesOf(t, path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: error %v", content, err)
		}
	}
}

// letters never end.
type letters struct{}

func (letters) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func ignore(Row) error { return nil }

func TestAnElementOrRecordWithoutEndIsRefused(t *testing.T) {
	done := func() float64 { return 0 }
	for name, read := range map[string]func() error{
		"list": func() error {
			return readJSON(newText(io.MultiReader(strings.NewReader(`[1, "`), letters{}), done), ignore)
		},
		"csv": func() error {
			return readCSV(newText(io.MultiReader(strings.NewReader("a\n1\n\""), letters{}), done), ignore)
		},
	} {
		if err := read(); !errors.Is(err, errTooLong) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestAGzipFileThatIsNotWholeSaysSo(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	for i := range 1000 {
		fmt.Fprintf(w, "{\"row\": %d}\n", i*i)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := packed.String()
	damaged := []byte(whole)
	damaged[len(damaged)/2] ^= 0xff
	for name, test := range map[string]struct{ content, want string }{
		"cut":        {whole[:len(whole)/2], "cut off (fetch the file again)"},
		"head alone": {whole[:5], "cut off (fetch the file again)"},
		"empty":      {"", "the file is empty"},
		"text":       {"{\"row\": 1, \"of\": \"text\"}\n", "no gzip file (name it without .gz"},
		"damaged":    {string(damaged), "damaged"},
	} {
		path := write(t, "a.jsonl.gz", test.content)
		if _, err := linesOf(t, path); err == nil || !strings.HasPrefix(err.Error(), "data: read "+path) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestAnAbsentFileIsNamedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent.jsonl")
	_, expand := Expand([]string{path}, All)
	for name, err := range map[string]error{"Expand": expand, "Read": Read(t.Context(), path, nil, ignore), "Hash": Hash(t.Context(), []File{{Path: path}})} {
		if want := "data: open " + path + ": no such file or directory"; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestAFolderWithoutDataNamesTheOneBelowThatHasSome(t *testing.T) {
	dir := t.TempDir()
	if _, err := Expand([]string{dir}, All); err == nil || strings.Contains(err.Error(), "name that") {
		t.Errorf("of an empty folder: %v", err)
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "train.jsonl"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Expand([]string{dir}, All); err == nil || !strings.Contains(err.Error(), data+" has: name that") {
		t.Errorf("of a folder with data in another: %v", err)
	}
}
