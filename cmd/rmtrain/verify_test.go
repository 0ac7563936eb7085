package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rmtrain/kernels"
)

// localPaths are those that need nothing but this program.
var localPaths = []string{"one by one", "random batches of 8192 tokens", "served: /infer", "served: /classify", "random batches of 97 tokens",
	"trainer: shared prompts", "trainer: nothing shared", "export: huggingface", "export: starling"}

func verified(t *testing.T, out string) verifyReport {
	t.Helper()
	var r verifyReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	return r
}

func (r verifyReport) pathNames() (names []string) {
	for _, p := range r.Paths {
		names = append(names, p.Path)
	}
	return names
}

// A trained model has one score for a conversation, on every path, to the bit.
func TestVerifyFindsAllPathsEqual(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args  []string
		given int
	}{
		"trained":  {[]string{"--checkpoint", trained(t), "--samples", filepath.Join(small(t), "samples.jsonl")}, smallTest},
		"bfloat16": {[]string{"--checkpoint", tinyScorer, "--dtype", "bfloat16"}, 0},
		"starling": {[]string{"--checkpoint", "../../infer/testdata/starling", "--max-length", "20"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := verified(t, ok(t, append([]string{"verify", "--json"}, c.args...)...))
			if !r.OK || !slices.Equal(r.pathNames(), localPaths) || r.Given != c.given || r.Conversations < 140 || r.Scale == 0 {
				t.Errorf("%+v", r)
			}
			for _, p := range r.Paths {
				if p.Difference != 0 || p.Tolerance != 0 || p.Verdict != verdictSame {
					t.Errorf("%+v", p)
				}
				if p.Conversations < r.Conversations {
					t.Errorf("%s: only %d of %d conversations", p.Path, p.Conversations, r.Conversations)
				}
			}
		})
	}
}

func TestVerifyPrintsATable(t *testing.T) {
	t.Parallel()
	in := tempFile(t, "in", "\xef\xbb\xbf"+`{"text": "Hello"}`+"\n"+`{"prompt": "Hi", "answers": ["a", "b"]}`)
	out := ok(t, "verify", "--checkpoint", tinyScorer, "--samples", in, "--batch-tokens", "64")
	for _, part := range []string{"in float32 on cpu", "2 of them given", "left out: text: nothing: ", "largest difference", "random batches of 64 tokens", "all paths give the same scores"} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
	if n := strings.Count(out, "  ok\n"); n != len(localPaths) {
		t.Errorf("%d rows are ok:\n%s", n, out)
	}
}

// Conversations that a template refuses are left out, or begin with the system's message
// that it wants.
func TestVerifyMeetsTheTemplate(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]struct {
		conversations int // at least
		says          string
	}{
		`{% if messages[0]['role'] != 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}{{ m['content'] }}{% endfor %}`: {120, "left out: prompt: one turn and 4 more: "},
		`{{ raise_exception('never') }}`: {50, "more: tokenizer: render the chat template: "},
	} {
		dir := filepath.Join(t.TempDir(), "model")
		if err := os.CopyFS(dir, os.DirFS(tinyScorer)); err != nil {
			t.Fatal(err)
		}
		format, err := json.Marshal(map[string]any{"format": map[string]any{"chat_template": template, "max_length": 48, "truncation_side": "left", "score_position": "last_token", "pad_token_id": -1}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "rmtrain.json"), format, 0o644); err != nil {
			t.Fatal(err)
		}
		v, table := begun(t, dir, kernels.F32)
		if len(v.ids) < want.conversations || !strings.Contains(table.String(), want.says) {
			t.Errorf("%d conversations, want %+v\n%s", len(v.ids), want, table)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"--batch-tokens 0", "--batch-tokens 0 must be from 1"},
		{"--max-length -1", "--max-length -1 must not be negative"},
		{"--tolerance 2", "--tolerance 2 must be from 0 to 1"},
		{"--tolerance NaN", "--tolerance NaN must be from 0 to 1"},
		{"--dtype float16", `--dtype "float16" is unknown`},
		{"--device tpu", `--device "tpu" is unknown`},
		{"--against localhost:8000", "is no address of a server"},
		{"--against http://%zz", "--against"},
		{"--api-key-file x", "is for --against"},
		{"--against http://localhost --api-key-file none", "no such file"},
		{"--against http://localhost --api-key-file " + tempFile(t, "key", "# only a remark\n"), "holds no key"},
		{"stray", `"stray" belongs to no flag`},
		{"--samples none", "no such file"},
		{"--samples " + tempFile(t, "in", "{\"text\": \"a\"}\n{\"text\": 1}"), "line 2: text is a number"},
		{"--samples " + tempFile(t, "ids", `{"input_ids": [99999]}`), "ids, line 1"},
		{"--max-length 4096", "max_position_embeddings 48"},
	} {
		fails(t, append([]string{"verify", "--checkpoint", tinyScorer}, strings.Fields(c.args)...), c.want)
	}
	fails(t, []string{"verify"}, "--checkpoint is missing")
	none := []string{"TMPDIR=" + filepath.Join(t.TempDir(), "none")}
	mustFail(t, runWith(t, none, "verify", "--checkpoint", tinyScorer), "create a temporary folder", "TMPDIR")
	fails(t, []string{"verify", "--checkpoint", "../../checkpoints/testdata/base"}, "no value head")
}

// begun returns a verification of a model, with its reference scores.
func begun(t *testing.T, model string, dt kernels.DType) (*verification, *bytes.Buffer) {
	t.Helper()
	b, err := openBackend("cpu", dt)
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	v := &verification{o: verifyOptions{checkpoint: model, batchTokens: 8192}, b: b, dt: dt, table: &table}
	if err := v.begin(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(v.closeScorer(), b.Close()); err != nil {
			t.Error(err)
		}
	})
	return v, &table
}

// No path tolerates a difference of one bit in one score.
func TestVerifyNoticesOneBitOnEveryPath(t *testing.T) {
	t.Parallel()
	v, table := begun(t, tinyScorer, kernels.F32)
	const at = 100 // a conversation that all paths take
	if v.cases[slices.IndexFunc(v.cases, func(c verifyCase) bool { return c.first+len(c.encoded) > at })].request.Prompt != nil {
		t.Fatal("not on all paths: " + v.names[at])
	}
	v.reference[at] = float64(math.Nextafter32(float32(v.reference[at]), 100))
	if err := v.takePaths(context.Background()); err != nil {
		t.Fatal(err)
	}
	v.finish()
	if got := v.report.pathNames(); !slices.Equal(got, localPaths) || v.report.OK {
		t.Errorf("ok %v: %q", v.report.OK, got)
	}
	for _, p := range v.report.Paths {
		if p.Verdict != verdictOther || p.Worst == nil || p.Worst.Name != v.names[at] || p.Difference > 1e-6 {
			t.Errorf("%+v", p)
		}
	}
	if want := "9 of 9 paths do not give the same scores"; !strings.Contains(table.String(), want) || !strings.Contains(table.String(), "most for "+v.names[at]) {
		t.Errorf("no %q in\n%s", want, table)
	}
}

func TestVerifyScoresThatAreNoNumbers(t *testing.T) {
	t.Parallel()
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		v := &verification{names: []string{"a", "b"}, reference: []float64{1, 2}, table: new(bytes.Buffer)}
		v.report.OK = true
		v.record("path", 100, []found{{0, 1}, {1, x}}, nil)
		if p := v.report.Paths[0]; v.report.OK || p.Verdict != verdictOther || p.Worst.Name != "b" {
			t.Errorf("%v: %+v", x, p)
		}
		b, err := json.Marshal(v.report)
		if err != nil || !strings.Contains(string(b), `"largest_difference":null`) {
			t.Errorf("%v: %s, %v", x, b, err)
		}
	}
	v := &verification{table: new(bytes.Buffer)}
	v.report.OK = true
	v.record("empty", 1, nil, nil)
	if p := v.report.Paths[0]; v.report.OK || p.Verdict != verdictFailed || p.Error != "nothing could be compared" {
		t.Errorf("%+v", p)
	}
}

// A model whose scores are no numbers is not called right because they are equal.
func TestVerifyRefusesAModelOfNaNs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tinyScorer)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "model.safetensors")
	b := read(t, file)
	copy(b[len(b)-4:], []byte{0, 0, 0xc0, 0x7f}) // the last number of the last tensor, a NaN
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	fails(t, []string{"verify", "--checkpoint", dir}, "is NaN", "weights")
}

func TestToleranceOfOtherComputations(t *testing.T) {
	t.Parallel()
	if got := relativeTolerance(kernels.F32, 60); got != 1e-5 {
		t.Errorf("float32: %v", got)
	}
	if one, many := relativeTolerance(kernels.BF16, 2), relativeTolerance(kernels.BF16, 32); one < 0.01 || one > 0.02 || many != 4*one {
		t.Errorf("bfloat16: %v of 2 layers, %v of 32", one, many)
	}
	v := &verification{scale: 3, dt: kernels.F32, o: verifyOptions{tolerance: 0.5}}
	if got := v.remoteTolerance(); got != 1.5 {
		t.Errorf("--tolerance 0.5 of scores up to 3: %v", got)
	}
}
