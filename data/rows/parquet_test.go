package rows

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
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/parquet/compress"
)

func TestDamagedPagesAreErrorsThatNameTheRowGroup(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(testdata, "snappy_v1.parquet"))
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
	_, err = count(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), path+": row group 2 of 3: ") {
		t.Errorf("error %v", err)
	}
}

func TestNoDamageEndsTheProcess(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	failed := 0
	files := 100
	if testing.Short() {
		files = 40
	}
	for n := range files {
		whole, err := os.ReadFile(filepath.Join(testdata, []string{"snappy_v1", "zstd_v2", "lz4_v1", "large"}[n%4]+".parquet"))
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
		_, err = count(ctx, path)
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
	path := filepath.Join(testdata, "zstd_v1.parquet")
	rows := 0
	err := Read(ctx, path, nil, func(Row) error {
		rows++
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || rows != 1 {
		t.Errorf("error %v after %d rows", err, rows)
	}
	if _, err := count(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestADecoderIsEndedAtItsLimits(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe.parquet")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("y", 1<<20)
	wide := write(t, "wide.parquet", string(writeNested(t, strings.Repeat(strings.ReplaceAll(nestedRows(1), "model_a", long), 24), 24, compress.Codecs.Snappy)))
	whole, err := os.Stat(wide)
	if err != nil {
		t.Fatal(err)
	}
	generous := limits{silence: time.Minute, memory: 4 << 30, output: 100 << 20}
	silent, small, short := generous, generous, generous
	silent.silence, small.memory, short.output = 100*time.Millisecond, 8<<20, 20<<20-expansion*whole.Size()
	for _, test := range []struct {
		name, path string
		limits     limits
		want       string
	}{
		{"silence", pipe, silent, "no row was decoded in 100ms"},
		{"memory", wide, small, "it takes more memory to decode"},
		{"output", wide, short, "its rows are more than 1000 times as large as the file"},
		{"none", wide, generous, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.limits.readParquet(t.Context(), test.path, nil, ignore)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestATooLongRowIsBadByItself(t *testing.T) {
	text := nestedRows(1) + strings.ReplaceAll(nestedRows(1), "model_a", strings.Repeat("x", 1000)) + nestedRows(1)
	path := write(t, "long.parquet", string(writeNested(t, text, 10, compress.Codecs.Snappy)))
	var b bytes.Buffer
	out := &frameWriter{w: bufio.NewWriter(&b), maxRow: 1000}
	if err := decodeParquet(path, nil, out); err != nil {
		t.Fatal(err)
	}
	out.write(frameEnd, nil)
	if err := out.flush(); err != nil {
		t.Fatal(err)
	}
	var got []error
	p := &parent{in: bufio.NewReader(&b), left: 1 << 20, emit: func(r Row) error {
		if (r.JSON == nil) != (r.Err != nil) {
			t.Errorf("row %s, %v", r.JSON, r.Err)
		}
		got = append(got, r.Err)
		return nil
	}}
	if err := p.run(); err != nil || !reflect.DeepEqual(got, []error{nil, errTooLong, nil}) {
		t.Errorf("rows %v, error %v", got, err)
	}
}

func TestADecoderThatDiesIsExplained(t *testing.T) {
	for stderr, want := range map[string]string{
		"panic: snappy: corrupt input\n\ngoroutine 1":                                            "the file is damaged: snappy: corrupt input (" + rewrite + ")",
		"runtime: out of memory: cannot allocate 4194304-byte block":                             "more memory to decode than the 4 GB",
		"runtime/cgo: pthread_create failed: Resource temporarily unavailable\nSIGABRT: abort\n": "more memory to decode than the 4 GB",
		"fatal error: stack overflow\n":                                                          "the decoder failed: fatal error: stack overflow (" + rewrite + ")",
		"":                                                                                       "the decoder ended: signal: killed (" + rewrite + ")",
	} {
		if got := usual.lastWords(stderr, errors.New("signal: killed")); !strings.Contains(got.Error(), want) {
			t.Errorf("%q instead of %q", got, want)
		}
	}
	if got := usual.lastWords("", nil); !strings.HasPrefix(got.Error(), "the decoder ended early") {
		t.Errorf("%q", got)
	}
}
