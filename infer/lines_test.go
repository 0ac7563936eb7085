package infer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"rmtrain/kernels"
)

// scoreLines returns the answers to input, a line each.
func scoreLines(t testing.TB, s *Scorer, input io.Reader, o LineOptions) ([]string, Stats) {
	t.Helper()
	var out bytes.Buffer
	stats, err := s.ScoreLines(context.Background(), input, &out, o)
	if err != nil {
		t.Fatal(err)
	}
	if out.Len() == 0 {
		return nil, stats
	}
	if !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		t.Fatalf("the output has an open end: %q", out.Bytes())
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n"), stats
}

const good = `{"text": "Hello"}`

func TestEveryLineIsAnsweredInItsPlace(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	answers, _ := scoreLines(t, s, strings.NewReader(good), LineOptions{})
	scored := answers[0]
	bad := func(n int) string { return fmt.Sprintf(`"line": %d}`, n) }
	for _, c := range []struct {
		name, in string
		want     []string // ends of the answers
	}{
		{"nothing", "", nil},
		{"no end of line", good, []string{scored}},
		{"end of line", good + "\n", []string{scored}},
		{"carriage returns", good + "\r\n" + good + "\r\n", []string{scored, scored}},
		{"byte order mark", "\xef\xbb\xbf" + good + "\n" + good, []string{scored, scored}},
		{"byte order mark elsewhere", good + "\n\xef\xbb\xbf" + good, []string{scored, bad(2)}},
		{"blank lines", "\n" + good + "\n \t\n\n" + good + "\n\n", []string{bad(1), scored, bad(3), bad(4), scored, bad(6)}},
		{"bad lines", "{\n" + good + "\n[]\n\x00\n" + good + "\nnull", []string{bad(1), scored, bad(3), bad(4), scored, bad(6)}},
		{"UTF-16", "\xff\xfe{\x00}\x00\n\x00", []string{bad(1), bad(2)}},
		{"longer than the buffer", `{"x": "` + strings.Repeat("y", 3<<20) + `", "text": "Hello"}` + "\n" + good, []string{scored, scored}},
		{"unknown ids", `{"input_ids": [300]}` + "\n" + `{"input_ids": [-1]}` + "\n" + good, []string{bad(1), bad(2), scored}},
		{"last message not the assistant's", `{"messages": [{"role": "user", "content": "a"}]}` + "\n" + good, []string{bad(1), scored}},
		{"no token", `{"text": ""}` + "\n" + good, []string{bad(1), scored}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, stats := scoreLines(t, s, strings.NewReader(c.in), LineOptions{})
			if len(got) != len(c.want) {
				t.Fatalf("%d answers %q, want %d", len(got), got, len(c.want))
			}
			errors := 0
			for i := range got {
				if !strings.HasSuffix(got[i], c.want[i]) || !json.Valid([]byte(got[i])) {
					t.Errorf("line %d: %s, want ...%s", i+1, got[i], c.want[i])
				}
				if strings.HasPrefix(got[i], `{"error": "`) {
					errors++
				}
			}
			want := Stats{Lines: len(c.want), Bad: errors, Conversations: len(c.want) - errors, Bytes: int64(len(c.in))}
			if stats != want {
				t.Errorf("%+v, want %+v", stats, want)
			}
		})
	}
}

func TestRolesThatAFormatDoesNotKnowAreErrors(t *testing.T) {
	in := `{"messages": [{"role": "tool", "content": "a"}, {"role": "assistant", "content": "b"}]}` + "\n" +
		`{"prompt": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], "answers": ["c"]}` + "\n" + good
	s := openScorer(t, "testdata/starling", kernels.F32, Options{}) // it has no template: transcripts
	got, _ := scoreLines(t, s, strings.NewReader(in), LineOptions{})
	for i, want := range []string{`role \"tool\"`, "only the first may be", `{"score"`} {
		if !strings.Contains(got[i], want) {
			t.Errorf("%s, want %s", got[i], want)
		}
	}
}

func TestAnswersToAPromptAreLists(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	long := strings.Repeat("word ", 60)
	got, _ := scoreLines(t, s, strings.NewReader(`{"prompt": "Hi", "answers": ["Hello!", "`+long+`"]}`+"\n"+`{"prompt": "Hi", "answers": ["Hello!"]}`), LineOptions{})
	var a struct {
		Scores    []float64
		Tokens    []int
		Truncated []bool
	}
	if err := json.Unmarshal([]byte(got[0]), &a); err != nil || len(a.Scores) != 2 || len(a.Tokens) != 2 {
		t.Fatalf("%s, %v", got[0], err)
	}
	if fmt.Sprint(a.Truncated) != "[false true]" || a.Tokens[1] <= 48 {
		t.Errorf("%s: want the second one truncated to 48 tokens", got[0])
	}
	if want := fmt.Sprintf(`{"scores": [%v], "tokens": [%d], "truncated": [false]}`, float32(a.Scores[0]), a.Tokens[0]); got[1] != want {
		t.Errorf("%s, want %s", got[1], want)
	}
}

func TestKeepRepeatsOtherFields(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	plain, _ := scoreLines(t, s, strings.NewReader(good), LineOptions{})
	score := strings.TrimPrefix(plain[0], "{")
	for _, c := range []struct{ in, want string }{
		{`{"id": 7, "text": "Hello", "meta": {"b": [1.50, "<é>"],  "a": null}}`, `{"id": 7, "meta": {"b": [1.50, "<é>"],  "a": null}, ` + score},
		{`{"text": "Hello"}`, "{" + score},
		{`{"error": "old", "score": "old", "tokens": [], "text": "Hello", "answers": null, "line": 3, "n": 1}`, `{"n": 1, ` + score},
		{"{\"x\": \"a\xff\xfeb\", \"text\": \"Hello\"}", `{"x": "a` + "\uFFFD" + `b", ` + score},
		{`{"id": 7}`, `{"id": 7, "error": "nothing to score (text, messages, prompt with answers, or input_ids is needed)", "line": 1}`},
		{`{"id": 7, "text": 1, "<&>": true}`, `{"id": 7, "<&>": true, "error": "text is a number, not a string", "line": 1}`},
		{`{"id": 7, "id": 8}`, `{"id": 8, "error": "\"id\" occurs twice", "line": 1}`},
		{`[7]`, `{"error": "a list, not a JSON object", "line": 1}`},
	} {
		got, _ := scoreLines(t, s, strings.NewReader(c.in), LineOptions{Keep: true})
		if got[0] != c.want {
			t.Errorf("%s\n gave %s\n want %s", c.in, got[0], c.want)
		}
	}
}

func TestSkippedLinesAreCountedAndNotAnswered(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	in := "bad\n" + good + "\n\nbad"
	all, _ := scoreLines(t, s, strings.NewReader(in), LineOptions{})
	for skip := range 5 {
		got, stats := scoreLines(t, s, strings.NewReader(in), LineOptions{Skip: skip})
		if strings.Join(got, "\n") != strings.Join(all[skip:], "\n") || stats.Lines != 4-skip || stats.Bytes != int64(len(in)) {
			t.Errorf("skip %d: %q, %+v", skip, got, stats)
		}
	}
	_, err := s.ScoreLines(context.Background(), strings.NewReader(in), io.Discard, LineOptions{Skip: 5})
	if err == nil || !strings.Contains(err.Error(), "5 lines of it have been answered") {
		t.Errorf("error %v", err)
	}
}

func TestLinesOfAPipeAreAnsweredAsTheyCome(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.ScoreLines(context.Background(), inR, outW, LineOptions{})
		done <- errors.Join(err, outW.Close())
	}()
	answers := bufio.NewReader(outR)
	for _, chunk := range []string{good + "\n", "{}\n" + good + "\n" + `{"te`, `xt": "Hello"}` + "\n", good} {
		if _, err := io.WriteString(inW, chunk); err != nil {
			t.Fatal(err)
		}
		if chunk == good { // without a newline, only the end completes it
			inW.Close()
		}
		for range max(1, strings.Count(chunk, "\n")) {
			if _, err := answers.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestContextEndsAWaitForInput(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	in, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := s.ScoreLines(ctx, in, io.Discard, LineOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestFailuresOfReadingAndWritingAreErrors(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	var out bytes.Buffer
	broken := io.MultiReader(strings.NewReader(good+"\n"+good+"\n{"), iotest.ErrReader(errors.New("disk on fire")))
	stats, err := s.ScoreLines(context.Background(), broken, &out, LineOptions{Skip: 1})
	if err == nil || !strings.Contains(err.Error(), "read line 3: disk on fire") {
		t.Errorf("error %v", err)
	}
	if stats.Lines != 1 || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%+v, %q: want the whole line before the failure answered", stats, out.String())
	}
	if _, err = s.ScoreLines(context.Background(), strings.NewReader(good), failing{}, LineOptions{}); err == nil || !strings.Contains(err.Error(), "write scores: no space") {
		t.Errorf("error %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestNotFiniteScoresAreErrors(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		l := &line{number: 9, many: true}
		l.setScores([]float64{1, x})
		if got := string(l.answer(false)); !strings.Contains(got, "not a finite number") || !json.Valid([]byte(got)) {
			t.Errorf("%v: %s", x, got)
		}
	}
}

func TestScoresAreWrittenAsShortAsFloat32Allows(t *testing.T) {
	for _, c := range []struct {
		score float64
		want  string
	}{{1.25, "1.25"}, {float64(float32(0.1)), "0.1"}, {-3, "-3"}, {float64(float32(1e-20)), "1e-20"}, {float64(math.MaxFloat32), "3.4028235e+38"}} {
		if got := string(marshal(float(c.score))); got != c.want || float32(c.score) != parse32(t, got) {
			t.Errorf("%v is written %s, want %s", c.score, got, c.want)
		}
	}
}

func parse32(t *testing.T, s string) (x float32) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), &x); err != nil {
		t.Fatal(err)
	}
	return x
}

// A stream is the same line over and over.
type stream struct {
	line  string
	bytes int64        // in all
	given atomic.Int64 // so far
}

func (s *stream) Read(b []byte) (int, error) {
	at := s.given.Load()
	if at == s.bytes {
		return 0, io.EOF
	}
	n := copy(b, s.line[at%int64(len(s.line)):])
	n = int(min(int64(n), s.bytes-at))
	s.given.Add(int64(n))
	return n, nil
}

func TestMemoryDoesNotGrowWithTheInput(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	const size, lines = 1 << 10, 16 << 10
	in := &stream{line: "{" + strings.Repeat(" ", size-2) + "\n", bytes: size * lines}
	answers := 0
	out := writerFunc(func(b []byte) (int, error) { answers += bytes.Count(b, []byte("\n")); return len(b), nil })
	stats, err := s.ScoreLines(context.Background(), in, out, LineOptions{Done: func(st Stats) {
		if ahead := in.given.Load() - st.Bytes; ahead > 2<<20 {
			t.Errorf("%d bytes were read ahead", ahead)
		}
	}})
	if err != nil || stats.Lines != lines || answers != lines || stats.Bytes != size*lines {
		t.Errorf("%+v, %d answers, %v", stats, answers, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestALineWithoutEndTakesBoundedMemory(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	in := io.MultiReader(strings.NewReader(good+"\n{"), &stream{line: strings.Repeat("x", 1<<20), bytes: 65 << 20}, strings.NewReader("}\n"+good))
	got, _ := scoreLines(t, s, in, LineOptions{Keep: true})
	if len(got) != 3 || got[0] != got[2] || got[1] != `{"error": "the line is longer than 64 MB", "line": 2}` {
		t.Errorf("%q", got)
	}
}

func FuzzScoreLines(f *testing.F) {
	s := openScorer(f, "testdata/huggingface", kernels.F32, Options{BatchTokens: 64})
	for _, seed := range []string{good, "\xef\xbb\xbf" + good + "\r\n\n", `{"prompt": "a", "answers": ["b", ""], "id": 1}` + "\n{", "\x00\n\n", `{"input_ids": [1, 258]}`} {
		f.Add([]byte(seed), uint8(0))
	}
	f.Fuzz(func(t *testing.T, in []byte, skip uint8) {
		if len(in) > 1<<12 {
			return
		}
		lines := bytes.Count(in, []byte("\n"))
		if len(in) > 0 && in[len(in)-1] != '\n' {
			lines++
		}
		whole, _ := scoreLines(t, s, bytes.NewReader(in), LineOptions{Keep: true})
		slow, stats := scoreLines(t, s, iotest.OneByteReader(bytes.NewReader(in)), LineOptions{Keep: true})
		if len(whole) != lines || strings.Join(whole, "\n") != strings.Join(slow, "\n") || stats.Bytes != int64(len(in)) {
			t.Fatalf("%q: %d answers to %d lines: %q, or %q", in, len(whole), lines, whole, slow)
		}
		for i, answer := range whole {
			var a struct {
				Error *string
				Line  int
			}
			if err := json.Unmarshal([]byte(answer), &a); err != nil || a.Error != nil && a.Line != i+1 {
				t.Fatalf("%q: answer %d: %s, %v", in, i+1, answer, err)
			}
		}
		if n := int(skip); n <= lines {
			rest, _ := scoreLines(t, s, bytes.NewReader(in), LineOptions{Keep: true, Skip: n})
			if strings.Join(rest, "\n") != strings.Join(whole[n:], "\n") {
				t.Fatalf("%q: behind line %d: %q, want %q", in, n, rest, whole[n:])
			}
		}
	})
}

// BenchmarkScoreLines reports conversations and tokens a second of a tiny model: what
// reading, tokenizing, packing and writing cost beside the network.
func BenchmarkScoreLines(b *testing.B) {
	s := openScorer(b, "testdata/huggingface", kernels.F32, Options{})
	in := strings.Repeat(`{"prompt": "\n\nHuman: How are you today?\n\nAssistant: ", "answers": ["Fine.", "I am well.", "Good.", "No.", "Why?", "Hm.", "Hello."]}`+"\n", 500)
	var stats Stats
	for b.Loop() {
		var err error
		if stats, err = s.ScoreLines(context.Background(), strings.NewReader(in), io.Discard, LineOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(in)))
	b.ReportMetric(float64(stats.Conversations)*float64(b.N)/b.Elapsed().Seconds(), "conversations/s")
}
