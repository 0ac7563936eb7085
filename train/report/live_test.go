package report

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A viewer is a page that listens to a run's events.
type viewer struct {
	t      *testing.T
	lines  *bufio.Scanner
	status status
	steps  []int // as drawn
	resets int
}

// watch follows the run in dir.
func watch(t *testing.T, dir string) *viewer {
	t.Helper()
	w := NewWatcher(dir)
	w.poll = time.Millisecond
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	r, err := http.Get(s.URL + "/events")
	check(t, err)
	t.Cleanup(func() { r.Body.Close() })
	if kind := r.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("content type is %q", kind)
	}
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 4*maxChunk)
	return &viewer{t: t, lines: lines}
}

// until reads events until the page shows what done looks for.
func (v *viewer) until(what string, done func() bool) {
	v.t.Helper()
	for !done() {
		if !v.lines.Scan() {
			v.t.Fatalf("the events end before %s: %v", what, v.lines.Err())
		}
		event, ok := strings.CutPrefix(v.lines.Text(), "event: ")
		if !ok {
			v.t.Fatalf("%q is no event", v.lines.Text())
		}
		v.lines.Scan()
		data, ok := strings.CutPrefix(v.lines.Text(), "data: ")
		if v.lines.Scan(); !ok || v.lines.Text() != "" {
			v.t.Fatalf("event %s has the data %q and %q", event, data, v.lines.Text())
		}
		v.take(event, []byte(data))
	}
}

func (v *viewer) take(event string, data []byte) {
	v.t.Helper()
	switch event {
	case "reset":
		v.steps, v.resets = nil, v.resets+1
	case "run":
		v.status = status{}
		check(v.t, json.Unmarshal(data, &v.status))
	case "lines":
		var lines []struct{ Step int }
		check(v.t, json.Unmarshal(data, &lines))
		for _, l := range lines {
			v.steps = append(v.steps, l.Step)
		}
	default:
		v.t.Fatalf("event %s: %s", event, data)
	}
}

func (v *viewer) untilSteps(want ...int) {
	v.t.Helper()
	v.until(fmt.Sprintf("steps %v", want), func() bool { return fmt.Sprint(v.steps) == fmt.Sprint(want) })
}

// log is metrics.jsonl with these steps.
func logOf(steps ...int) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "{\"step\":%d,\"loss\":0.5}\n", s)
	}
	return b.String()
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}

func appendTo(t *testing.T, dir, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, MetricsFile), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteString(text)
	check(t, err)
	check(t, f.Close())
}

func TestARunIsFollowedFromBeforeItsStartToItsEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "runs", "a")
	v := watch(t, dir)
	v.until("the first status", func() bool { return v.status.Name != "" })
	if v.status.Name != "runs/a" || v.status.Exists || string(v.status.Run) != "null" {
		t.Errorf("status before the start is %+v", v.status)
	}
	check(t, os.MkdirAll(dir, 0o777))
	text, err := Run{TotalSteps: 40, Model: "org/base"}.JSON()
	check(t, err)
	put(t, dir, RunFile, string(text))
	v.until("run.json", func() bool { return v.status.Exists && strings.Contains(string(v.status.Run), `"total_steps":40`) })

	put(t, dir, MetricsFile, logOf(10, 20)+`{"step":30,`)
	v.untilSteps(10, 20)
	appendTo(t, dir, `"loss":1}`+"\r\nnot JSON\n{\"step\":\n\n"+logOf(40))
	v.untilSteps(10, 20, 30, 40)

	if len(v.status.Summary) > 0 || v.status.Report {
		t.Errorf("status before the end is %+v", v.status)
	}
	put(t, dir, PageFile, "<p>done")
	put(t, dir, SummaryFile, "{\"step\":40}\n")
	v.until("the summary", func() bool { return strings.Contains(string(v.status.Summary), "40") && v.status.Report })
	if v.resets != 1 {
		t.Errorf("%d resets, want the first", v.resets)
	}
}

func TestARunThatResumesIsDrawnAnew(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, MetricsFile, logOf(10, 20, 30))
	v := watch(t, dir)
	v.untilSteps(10, 20, 30)
	check(t, os.Truncate(filepath.Join(dir, MetricsFile), int64(len(logOf(10)))))
	v.untilSteps(10)
	appendTo(t, dir, logOf(25))
	v.untilSteps(10, 25)

	put(t, dir, MetricsFile, logOf(11, 21, 31)) // longer than what was read
	v.untilSteps(11, 21, 31)
	check(t, os.Remove(filepath.Join(dir, MetricsFile)))
	v.untilSteps()
	put(t, dir, MetricsFile, logOf(1))
	v.untilSteps(1)
}

func TestAFinishedRunThatGoesOnIsNotFinished(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, SummaryFile, `{"step":40}`)
	put(t, dir, RunFile, `{"total_steps":80}`)
	later := time.Now().Add(time.Hour)
	check(t, os.Chtimes(filepath.Join(dir, RunFile), later, later))
	if s := readStatus(dir); len(s.Summary) > 0 {
		t.Errorf("the summary is %s", s.Summary)
	}
}

func TestALongLogComesInPieces(t *testing.T) {
	dir := t.TempDir()
	var steps []int
	for i := range 60000 {
		steps = append(steps, i)
	}
	text := logOf(steps...)
	if len(text) < maxChunk {
		t.Fatalf("the log has %d bytes", len(text))
	}
	put(t, dir, MetricsFile, text)
	v := watch(t, dir)
	v.until("all lines", func() bool { return len(v.steps) == len(steps) })
	for i := range steps {
		if v.steps[i] != i {
			t.Fatalf("line %d is of step %d", i, v.steps[i])
		}
	}
}

func TestALineThatIsTooLongIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, MetricsFile, logOf(1)+strings.Repeat("x", 3*maxChunk)+"\n"+logOf(2))
	v := watch(t, dir)
	v.untilSteps(1, 2)
}

func TestThePageAllowsItsOwnScriptOnly(t *testing.T) {
	dir := t.TempDir()
	get := func(path string) *httptest.ResponseRecorder {
		r := httptest.NewRecorder()
		NewWatcher(dir).ServeHTTP(r, httptest.NewRequest("GET", path, nil))
		return r
	}
	page := get("/")
	policy := page.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "script-src 'sha256-") {
		t.Errorf("policy is %q", policy)
	}
	text := page.Body.String()
	for _, part := range []string{"class Chart", "new EventSource(\"events\")", "--train-wash: #3f7fbf22", "@keyframes breathe"} {
		if strings.Count(text, part) != 1 {
			t.Errorf("%q is not there once", part)
		}
	}
	for _, part := range []string{"{{", "src=", "http://127", "https://"} {
		if strings.Contains(text, part) {
			t.Errorf("%q is there", part)
		}
	}
	if r := get("/report"); r.Code != http.StatusNotFound || !strings.Contains(r.Body.String(), "at the end of training") {
		t.Errorf("without a report: %d %s", r.Code, r.Body)
	}
	put(t, dir, PageFile, "<p>done")
	if r := get("/report"); r.Code != http.StatusOK || r.Body.String() != "<p>done" {
		t.Errorf("with a report: %d %s", r.Code, r.Body)
	}
	for _, path := range []string{"/metrics.jsonl", "/report.html", "/../" + RunFile, "/events/x"} {
		if r := get(path); r.Code == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

func FuzzTail(f *testing.F) {
	f.Add([]byte("a\nb\n"), []byte("a\nc\nd\n"), 3)
	f.Add([]byte("a\nb"), []byte(""), 0)
	f.Fuzz(func(t *testing.T, first, second []byte, at int) {
		path := filepath.Join(t.TempDir(), MetricsFile)
		tail := tail{path: path}
		var got []string
		read := func(text []byte) {
			check(t, os.WriteFile(path, text, 0o644))
			lines, again, err := tail.next()
			check(t, err)
			if again {
				got = nil
			}
			for _, l := range lines {
				got = append(got, string(l))
			}
		}
		read(first[:min(max(0, at), len(first))])
		read(first)
		want := strings.Split(string(first), "\n")
		if want = want[:len(want)-1]; fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("lines are %q, want %q", got, want)
		}
		read(second) // with equal lines at equal places it may count as grown
		read(append(second, '\n'))
	})
}
