package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tinyScorer is a reward model.
const tinyScorer = "../../infer/testdata/huggingface"

// scoringRequests returns a file of requests; every tenth line is bad.
func scoringRequests(t *testing.T, lines int) string {
	t.Helper()
	r := random(7)
	var b bytes.Buffer
	for i := range lines {
		switch text := strings.Repeat("word ", r.IntN(30)); {
		case i%10 == 9:
			b.WriteString(`{"id": "bad"}` + "\n")
		case i%3 == 0:
			b.WriteString(`{"prompt": "` + text + `?", "answers": ["yes", "no ` + text + `"], "id": "two"}` + "\n")
		default:
			b.WriteString(`{"text": "Hello ` + text + `", "id": "one"}` + "\n")
		}
	}
	return tempFile(t, "requests.jsonl", b.String())
}

func tempFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// listFolder lists a folder.
func listFolder(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestInferAnswersLinesAndReportsBadOnes(t *testing.T) {
	in := tempFile(t, "in", "{\"text\": \"Hello\", \"id\": 1}\n{\"id\": 2}\n{\"text\": \"Hello\"}")
	r := run(t, "infer", "--checkpoint", tinyScorer, "--input", in)
	mustFail(t, r, "rmtrain: 1 of 3 lines could not be scored")
	lines := strings.Split(r.stdout, "\n")
	if len(lines) != 4 || lines[0] != lines[2] || !strings.HasPrefix(lines[1], `{"error": "nothing to score`) || !strings.HasSuffix(lines[1], `"line": 2}`) {
		t.Errorf("%q", lines)
	}
	kept := run(t, "infer", "--checkpoint", tinyScorer, "--input", in, "--keep")
	if want := `{"id": 1, ` + lines[0][1:]; kept.status != 1 || !strings.HasPrefix(kept.stdout, want+"\n"+`{"id": 2, "error": `) {
		t.Errorf("%s, want first %s", kept.stdout, want)
	}
	if out := ok(t, "infer", "--checkpoint", tinyScorer, "--input", tempFile(t, "empty", "")); out != "" {
		t.Errorf("an empty input gave %q", out)
	}
}

func TestInferScoresDoNotDependOnBatchTokens(t *testing.T) {
	in := scoringRequests(t, 60)
	want := run(t, "infer", "--checkpoint", tinyScorer, "--input", in).stdout
	for _, n := range []string{"1", "50"} {
		if got := run(t, "infer", "--checkpoint", tinyScorer, "--input", in, "--batch-tokens", n).stdout; got != want || got == "" {
			t.Errorf("--batch-tokens %s gives other scores", n)
		}
	}
	if got := run(t, "infer", "--checkpoint", tinyScorer, "--input", in, "--max-length", "16").stdout; got == want {
		t.Error("--max-length 16 changes nothing")
	}
}

func TestInferComputesAsTrained(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tinyScorer)); err != nil {
		t.Fatal(err)
	}
	in := tempFile(t, "in", `{"text": "Hello"}`)
	args := []string{"infer", "--checkpoint", dir, "--input", in}
	float, bfloat := ok(t, append(args, "--dtype", "float32")...), ok(t, append(args, "--dtype", "bfloat16")...)
	if float == bfloat || ok(t, args...) != float {
		t.Errorf("float32 %s bfloat16 %s", float, bfloat)
	}
	meta := `{"dtype": "bfloat16", "format": {"chat_template": "", "max_length": 3, "truncation_side": "right", "score_position": "last_token", "pad_token_id": -1}}`
	if err := os.WriteFile(filepath.Join(dir, "rmtrain.json"), []byte(meta), 0o644); err != nil {
		t.Fatal(err)
	}
	var answer struct{ Truncated bool }
	if err := json.Unmarshal([]byte(ok(t, args...)), &answer); err != nil || !answer.Truncated {
		t.Errorf("%+v, %v: want the format of rmtrain.json", answer, err)
	}
	if got := ok(t, append(args, "--max-length", "48")...); got != bfloat {
		t.Errorf("%s, want the type of rmtrain.json: %s", got, bfloat)
	}
}

func TestInferRefusesBeforeItLoadsAnything(t *testing.T) {
	dir := t.TempDir()
	exists := tempFile(t, "exists", "precious")
	for _, c := range []struct {
		args string
		want string
	}{
		{"--batch-tokens 0", "--batch-tokens 0 must be from 1"},
		{"--batch-tokens 999999999", "--batch-tokens 999999999 must be from 1"},
		{"--batch-tokens x", "batch-tokens"},
		{"--max-length -1", "--max-length -1 must not be negative"},
		{"--dtype float16", `--dtype "float16" is unknown`},
		{"--device tpu", `--device "tpu" is unknown`},
		{"--resume", "need --output"},
		{"--resume --overwrite --output x", "none of the others can be"},
		{"--input " + dir + "/none", "no such file"},
		{"--input " + dir, "is a folder"},
		{"--output " + exists, "exists (--overwrite replaces it)"},
		{"--output " + exists + " --resume", "exists (--overwrite replaces it)"},
		{"--output " + dir + " --overwrite", "not a regular file"},
		{"--output " + dir + "/none/out", "no such file"},
		{"stray", `"stray" belongs to no flag`},
		{"", "HF_HUB_OFFLINE"},
	} {
		r := runWith(t, []string{"HF_HUB_OFFLINE=1"}, append([]string{"infer", "--checkpoint", "org/nowhere"}, strings.Fields(c.args)...)...)
		mustFail(t, r, c.want)
	}
	fails(t, []string{"infer"}, "--checkpoint is missing", "rmtrain infer --help")
	in := tempFile(t, "in", `{"text": "a"}`)
	out := filepath.Join(dir, "out")
	for checkpoint, want := range map[string]string{"../../checkpoints/testdata/base": "no value head", dir + "/none": "no such folder"} {
		fails(t, []string{"infer", "--checkpoint", checkpoint, "--input", in, "--output", out}, want)
	}
	fails(t, []string{"infer", "--checkpoint", tinyScorer, "--input", in, "--output", out, "--max-length", "4096"}, "max_position_embeddings 48")
	if left := listFolder(t, dir); left != "" {
		t.Errorf("failures left %s", left)
	}
	if string(read(t, exists)) != "precious" {
		t.Error("an output that exists was touched")
	}
}

func TestInferFindsHubModels(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	cache := t.TempDir()
	snapshot := filepath.Join(cache, "models--org--name", "snapshots", commit)
	if err := os.CopyFS(snapshot, os.DirFS(tinyScorer)); err != nil {
		t.Fatal(err)
	}
	refs := filepath.Join(cache, "models--org--name", "refs")
	if err := errors.Join(os.Mkdir(refs, 0o755), os.WriteFile(filepath.Join(refs, "main"), []byte(commit), 0o644)); err != nil {
		t.Fatal(err)
	}
	in := tempFile(t, "in", `{"text": "Hello"}`)
	want := ok(t, "infer", "--checkpoint", tinyScorer, "--input", in)
	for _, name := range []string{"org/name", filepath.Join(cache, "models--org--name")} {
		if r := runWith(t, []string{"HF_HUB_CACHE=" + cache, "HF_HUB_OFFLINE=1"}, "infer", "--checkpoint", name, "--input", in); r.stdout != want {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestInferOutputReplacesOnlyOnRequest(t *testing.T) {
	in, dir := scoringRequests(t, 20), t.TempDir()
	out := filepath.Join(dir, "scores.jsonl")
	args := []string{"infer", "--checkpoint", tinyScorer, "--input", in}
	want := run(t, args...).stdout
	args = append(args, "--output", out)
	// A run that ended before its first answer leaves an empty file, which is in nobody's way.
	if err := os.WriteFile(out+".partial", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	mustFail(t, run(t, args...), "2 of 20 lines")
	if string(read(t, out)) != want || listFolder(t, dir) != "scores.jsonl" {
		t.Errorf("folder holds %s", listFolder(t, dir))
	}
	if err := os.WriteFile(out, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustFail(t, run(t, append(args, "--overwrite")...), "2 of 20 lines")
	if string(read(t, out)) != want || listFolder(t, dir) != "scores.jsonl" {
		t.Errorf("folder holds %s", listFolder(t, dir))
	}
}

// interruptInfer feeds some lines to rmtrain, waits for their answers in the partial file
// of out, and sends a signal while the input stays open.
func interruptInfer(t *testing.T, signal syscall.Signal, input []byte, out string) result {
	t.Helper()
	c, stdout, stderr := start(context.Background(), nil, "infer", "--checkpoint", tinyScorer, "--output", out)
	pipe, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	if _, err := pipe.Write(input); err != nil {
		t.Fatal(err)
	}
	want := bytes.Count(input, []byte("\n"))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(out + ".partial") // it is not there yet
		if bytes.Count(b, []byte("\n")) == want {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answers in a minute: %s", stderr)
		}
	}
	if err := c.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // it says how the process ended, and so does its state
	return result{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// resumeInfer gives the whole input to rmtrain, with --resume.
func resumeInfer(t *testing.T, input []byte, args ...string) result {
	t.Helper()
	c, stdout, stderr := start(context.Background(), nil, append([]string{"infer", "--checkpoint", tinyScorer, "--resume"}, args...)...)
	c.Stdin = bytes.NewReader(input)
	_ = c.Run() // its state says how the process ended
	return result{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestInferResumesWhatWasInterrupted(t *testing.T) {
	in := scoringRequests(t, 50)
	input := read(t, in)
	want := run(t, "infer", "--checkpoint", tinyScorer, "--input", in).stdout
	some := bytes.Join(bytes.SplitAfter(input, []byte("\n"))[:23], nil)
	for _, c := range []struct {
		name     string
		signal   syscall.Signal
		status   int
		fed      []byte
		tail     string // what a crash leaves behind the last answer
		lastOpen bool
	}{
		{"SIGINT", syscall.SIGINT, 130, some, "", false},
		{"SIGTERM", syscall.SIGTERM, 143, some, "", false},
		{"killed while writing", syscall.SIGKILL, -1, some, `{"score": 1.2`, false},
		{"power cut", syscall.SIGKILL, -1, some, "\x00\x00\x00\n\x00\n", false},
		{"everything answered", syscall.SIGINT, 130, input, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			r := interruptInfer(t, c.signal, c.fed, out)
			if r.status != c.status {
				t.Fatalf("status %d, want %d\n%s", r.status, c.status, r.stderr)
			}
			if c.status > 0 && !strings.Contains(r.stderr, "--resume goes on") {
				t.Errorf("error does not say how to go on: %s", r.stderr)
			}
			f, err := os.OpenFile(out+".partial", os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(c.tail); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			fails(t, []string{"infer", "--checkpoint", tinyScorer, "--input", in, "--output", out}, "was interrupted (--resume")
			whole := input
			if c.lastOpen {
				whole = bytes.TrimSuffix(input, []byte("\n"))
			}
			mustFail(t, resumeInfer(t, whole, "--output", out), "resuming behind line", "5 of 50 lines could not")
			if got := string(read(t, out)); got != want || listFolder(t, filepath.Dir(out)) != "out" {
				t.Errorf("folder holds %s; scores differ: %t", listFolder(t, filepath.Dir(out)), got != want)
			}
		})
	}
}

func TestInferResumesOnlyTheSameThing(t *testing.T) {
	input := read(t, scoringRequests(t, 20))
	out := filepath.Join(t.TempDir(), "out")
	interruptInfer(t, syscall.SIGINT, input, out)
	before := read(t, out+".partial")
	for want, args := range map[string][]string{
		`max length was "48" and is "20"`: {"--max-length", "20"},
		`keep was "false" and is "true"`:  {"--keep"},
		`dtype was "F32" and is "BF16"`:   {"--dtype", "bfloat16"},
		`input was "-" and is`:            {"--input", scoringRequests(t, 20)},
		`checkpoint was`:                  {"--checkpoint", "../../infer/testdata/starling"},
	} {
		mustFail(t, resumeInfer(t, input, append(args, "--output", out)...), "was begun otherwise", want)
	}
	mustFail(t, resumeInfer(t, bytes.Join(bytes.SplitAfter(input, []byte("\n"))[:10], nil), "--output", out), "20 lines of it have been answered")
	if !bytes.Equal(read(t, out+".partial"), before) {
		t.Error("a refusal changed the partial file")
	}
	if err := os.WriteFile(out+".partial.json", []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustFail(t, resumeInfer(t, input, "--output", out), "resume", "--overwrite starts again")
	mustFail(t, run(t, "infer", "--checkpoint", tinyScorer, "--input", tempFile(t, "in", "{}"), "--output", out, "--overwrite"), "1 of 1 lines")
	if listFolder(t, filepath.Dir(out)) != "out" {
		t.Errorf("folder holds %s", listFolder(t, filepath.Dir(out)))
	}
}

func TestInferSurvivesAFullDisk(t *testing.T) {
	in, out := scoringRequests(t, 200), filepath.Join(t.TempDir(), "out")
	args := []string{"infer", "--checkpoint", tinyScorer, "--input", in, "--output", out}
	r := runWith(t, []string{maxFileSize + "=5000"}, args...)
	mustFail(t, r, "write scores", "--resume goes on")
	if listFolder(t, filepath.Dir(out)) != "out.partial out.partial.json" {
		t.Errorf("folder holds %s", listFolder(t, filepath.Dir(out)))
	}
	mustFail(t, run(t, append(args, "--resume")...), "20 of 200 lines")
	if want := run(t, "infer", "--checkpoint", tinyScorer, "--input", in).stdout; string(read(t, out)) != want {
		t.Error("scores differ")
	}
}

func TestInferReportsAFullStandardOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	c, _, stderr := start(context.Background(), nil, "infer", "--checkpoint", tinyScorer, "--input", scoringRequests(t, 5))
	c.Stdout = full
	_ = c.Run() // its state says how the process ended
	mustFail(t, result{c.ProcessState.ExitCode(), "", stderr.String()}, "write scores", "no space left")
}

func TestInferRefusesAFolderThatItCannotWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	mustFail(t, runWith(t, []string{asUser + "=1"}, "infer", "--checkpoint", tinyScorer, "--input", scoringRequests(t, 5), "--output", out), "create output", "permission denied")
}

func TestInferAnswersAPipeAtOnce(t *testing.T) {
	c, _, stderr := start(context.Background(), nil, "infer", "--checkpoint", tinyScorer)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout = nil
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(out)
	for range 3 {
		if _, err := io.WriteString(in, `{"text": "Hello"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"score": `) {
			t.Fatalf("%q, %v\n%s", line, err, stderr)
		}
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if s := stderr.String(); s != "" {
		t.Errorf("standard error, which is no terminal, has %q", s)
	}
}

func TestInferDoesNotWriteWhatAnotherProcessWrites(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	first, err := createScores(out, nil, false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	fails(t, []string{"infer", "--checkpoint", tinyScorer, "--input", scoringRequests(t, 5), "--output", out, "--overwrite"}, "another process")
}
