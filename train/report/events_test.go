package report

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// logged is a log with everything that its lines may hold.
const logged = `{"step":10,"epoch":0.5,"loss":0.25,"pairwise_accuracy":0.75,"per_rank_accuracy":[1,0.5],"grad_norm":1.5,"nonfinite_steps":0}
{"step":20,"epoch":1,"loss":null,"pairwise_accuracy":0,"per_rank_accuracy":[],"grad_norm":1e-9,"nonfinite_steps":10}
{"step":20,"epoch":1,"eval_loss":0.3,"eval_pairwise_accuracy":0.8,"eval_groups":7}
`

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock ticks a second at each look.
func clock() func() time.Time {
	now := time.Unix(1700000000, 0)
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

// eventsIn returns the only event file in dir.
func eventsIn(t testing.TB, dir string) []byte {
	t.Helper()
	files, err := eventFiles(dir)
	check(t, err)
	if len(files) != 1 {
		t.Fatalf("event files are %q", files)
	}
	text, err := os.ReadFile(files[0])
	check(t, err)
	return text
}

// The golden file was read by TensorBoard: see testdata/README.md.
func TestEventsAreThoseThatTensorBoardHasRead(t *testing.T) {
	dir := t.TempDir()
	e, err := openEvents(dir, nil, clock())
	check(t, err)
	for line := range strings.Lines(logged) {
		check(t, e.Add([]byte(line)))
	}
	check(t, e.Close())
	got := eventsIn(t, dir)
	golden := filepath.Join("testdata", "events.out.tfevents.1700000002.rmtrain")
	if *update {
		check(t, os.WriteFile(golden, got, 0o644))
		check(t, os.WriteFile(filepath.Join("testdata", "metrics.jsonl"), []byte(logged), 0o644))
	}
	want, err := os.ReadFile(golden)
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, filepath.Base(golden))); err != nil {
		t.Error(err)
	}
}

// bodies are the events of a file without their times.
func bodies(t testing.TB, file []byte) (bodies []string, times []float64) {
	t.Helper()
	for _, r := range records(file) {
		at, body, ok := splitEvent(r)
		if !ok {
			t.Fatalf("no time in %q", r)
		}
		bodies, times = append(bodies, string(body)), append(times, at)
	}
	return bodies, times
}

func TestAResumedRunIsOneCurve(t *testing.T) {
	dir, now := t.TempDir(), clock()
	lines := slices.Collect(strings.Lines(logged))
	first, err := openEvents(dir, nil, now)
	check(t, err)
	for _, line := range append(lines, `{"step":30,"loss":9}`) {
		check(t, first.Add([]byte(line)))
	}
	check(t, first.Close())
	_, before := bodies(t, eventsIn(t, dir))

	again, err := openEvents(dir, []byte(lines[0]+lines[1]), now) // step 30 and the evaluation are void
	check(t, err)
	check(t, again.Add([]byte(lines[2])))
	check(t, again.Close())
	got, times := bodies(t, eventsIn(t, dir))

	if len(got) != 5 {
		t.Fatalf("%d events, want version, start and 3 lines", len(got))
	}
	if !slices.Equal(times[2:4], before[2:4]) {
		t.Errorf("kept lines were written at %v, want %v", times[2:4], before[2:4])
	}
	for i, line := range lines {
		s, err := parseLine([]byte(line))
		check(t, err)
		if got[2+i] != string(s.body()) {
			t.Errorf("event %d is %q, want that of %s", i, got[2+i], line)
		}
	}
}

func TestEventsOfARunThatHadNone(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "events.out.tfevents.1.other"), []byte("not ours"), 0o644))
	e, err := OpenEvents(dir, []byte(logged))
	check(t, err)
	check(t, e.Close())
	if got, _ := bodies(t, eventsIn(t, dir)); len(got) != 5 {
		t.Errorf("%d events, want version, start and 3 lines", len(got))
	}
	if _, err := os.Stat(filepath.Join(dir, "events.out.tfevents.1.other")); err != nil {
		t.Errorf("a file that is not ours: %v", err)
	}
}

func TestANewFileComesAfterTheOldOne(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "events.out.tfevents.2000000000.rmtrain") // the clock was set back
	check(t, os.WriteFile(old, []byte("damaged"), 0o644))
	e, err := openEvents(dir, nil, clock())
	check(t, err)
	check(t, e.Close())
	files, err := eventFiles(dir)
	check(t, err)
	if want := []string{filepath.Join(dir, "events.out.tfevents.2000000001.rmtrain")}; !slices.Equal(files, want) {
		t.Errorf("files are %q, want %q", files, want)
	}
}

func TestBadLinesAreErrors(t *testing.T) {
	for line, want := range map[string]string{
		"":                        "not a JSON object",
		"[1]":                     "not a JSON object",
		`{"loss":1}`:              "no step",
		`{"step":"x"}`:            "step:",
		`{"step":1,"loss":`:       "EOF",
		`{"step":1.5,"loss":1}`:   "step:",
		`{"step":1,"loss":1} {}x`: "",
	} {
		_, err := parseLine([]byte(line))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %q", line, err, want)
		}
	}
	if _, err := OpenEvents(t.TempDir(), []byte("{\"step\":1}\n{]\n")); err == nil || !strings.Contains(err.Error(), "metrics.jsonl, line 2") {
		t.Errorf("error is %v", err)
	}
}

func TestAFailureLeavesNoFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(dir, nil, 0o644))
	if _, err := OpenEvents(dir, nil); err == nil || !strings.Contains(err.Error(), "make it writable") {
		t.Errorf("error is %v", err)
	}
}

func TestRecordsEndAtTheFirstDamagedOne(t *testing.T) {
	whole := appendRecord(appendRecord(nil, []byte("one")), []byte("three"))
	if got := records(whole); len(got) != 2 || string(got[0]) != "one" || string(got[1]) != "three" {
		t.Errorf("records are %q", got)
	}
	second := recordHead + len("one") + recordTail
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1
		want := 0
		if i >= second {
			want = 1
		}
		if got := len(records(damaged)); got != want {
			t.Errorf("byte %d damaged: %d records, want %d", i, got, want)
		}
		if got := len(records(whole[:i])); got != want {
			t.Errorf("cut to %d bytes: %d records, want %d", i, got, want)
		}
	}
}

func FuzzRecords(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "events.out.tfevents.1700000002.rmtrain"))
	check(f, err)
	f.Add(golden)
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, file []byte) {
		var again []byte
		for _, r := range records(file) {
			again = appendRecord(again, r)
			if _, body, ok := splitEvent(r); ok && !bytes.HasSuffix(r, body) {
				t.Fatalf("the body of %q is %q", r, body)
			}
		}
		if !bytes.HasPrefix(file, again) {
			t.Fatalf("records of %q are %q", file, again)
		}
	})
}

func FuzzParseLine(f *testing.F) {
	for line := range strings.Lines(logged) {
		f.Add(line)
	}
	f.Add(`{"step":1,"a":[[1]],"b":{"c":1},"d":[null,"x",1]}`)
	f.Fuzz(func(t *testing.T, line string) {
		s, err := parseLine([]byte(line))
		if err == nil && len(records(appendRecord(nil, s.body()))) != 1 {
			t.Fatalf("%q gives no record", line)
		}
	})
}
