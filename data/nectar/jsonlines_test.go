package nectar

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// linesOf reads a file and describes what was emitted.
func linesOf(t *testing.T, path string) ([]string, error) {
	t.Helper()
	var lines []string
	last := 0.0
	err := readerOf(path)(t.Context(), path, func(number int, line []byte, bad error, fraction float64) error {
		if fraction < last || fraction > 1 {
			t.Errorf("progress goes from %v to %v", last, fraction)
		}
		last = fraction
		if bad != nil {
			line = []byte(bad.Error())
		}
		lines = append(lines, fmt.Sprintf("%d %s", number, line))
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
	got, err := linesOf(t, write(t, "a.jsonl", "{1}\n"+strings.Repeat("x", maxLine+1)+"\n{3}"))
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
	err := readJSON(t.Context(), write(t, "a.jsonl", "1\n2\n3\n"), func(int, []byte, error, float64) error {
		n++
		return stop
	})
	if err != stop || n != 1 {
		t.Errorf("error %v after %d lines", err, n)
	}
}

func FuzzReadJSON(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbf{}\n\n{\"a\": 1}"))
	f.Add([]byte(" [1, {}, [\"]\"]]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		in := bufio.NewReaderSize(bytes.NewReader(text), 16)
		read := readLines
		if beginsList(in) {
			read = readList
		}
		last := 0
		err := read(in, func(number int, line []byte, bad error) error {
			if number <= last || len(line) == 0 || bad != nil {
				t.Errorf("line %d after %d: %q, %v", number, last, line, bad)
			}
			last = number
			return nil
		})
		if failed := (*readError)(nil); err != nil && !errors.As(err, &failed) {
			t.Errorf("error %v", err)
		}
	})
}
