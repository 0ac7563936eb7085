package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rmtrain/kernels"
)

// What a Python that has gone, has no transformers or fails did wrong is in the report.
func TestVerifyWithoutAUsablePython(t *testing.T) {
	t.Parallel()
	v, _ := begun(t, tinyScorer, kernels.F32)
	for _, c := range []struct{ script, want string }{
		{"", "no such file"},
		{`echo '{"error": "this Python cannot import transformers: pip install it"}' > "$3"`, "cannot import transformers"},
		{`echo Traceback >&2; echo 'SyntaxError: old Python' >&2; exit 1`, "(exit status 1): SyntaxError: old Python"},
		{`echo '{"scores": [1]}' > "$3"`, "incomplete answer"},
		{`echo '{"scores": {' > "$3"`, "cannot be read"},
	} {
		v.o.python = filepath.Join(t.TempDir(), "python")
		if c.script != "" {
			if err := os.WriteFile(v.o.python, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		v.report.OK = true
		if err := v.transformers(t.Context(), tinyScorer); err != nil {
			t.Fatal(err)
		}
		if p := v.report.Paths[len(v.report.Paths)-1]; v.report.OK || p.Verdict != verdictFailed || !strings.Contains(p.Error, c.want) {
			t.Errorf("%+v, want %q", p, c.want)
		}
	}
}

// The word behind --python is the program, though its value may be absent. One that is
// not there is missed before anything is computed.
func TestVerifyPythonIsNamed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--python=/none/python"}, {"--python", "/none/python"}} {
		if r := fails(t, append([]string{"verify", "--checkpoint", tinyScorer}, args...), `there is no Python "/none/python"`, "--python PROGRAM"); r.stdout != "" {
			t.Errorf("%q printed %s", args, r.stdout)
		}
	}
	program := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$1\" >&2\nexit 2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := run(t, "verify", "--checkpoint", tinyScorer, "--python", program)
	if r.status != 1 || !strings.Contains(r.stdout, program+" did not run the script (exit status 2)") || !strings.Contains(r.stdout, "1 of 10 paths could not be taken") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

// rightAnswer is what transformers says if it is right.
func rightAnswer(v *verification, texts []pythonText) *pythonAnswer {
	a := &pythonAnswer{Template: v.format.Template}
	for i, ids := range v.ids {
		a.Scores, a.Padded = append(a.Scores, v.reference[i]), append(a.Padded, v.reference[i])
		a.ReadAt = append(a.ReadAt, len(ids)-1)
	}
	for _, t := range texts {
		a.IDs = append(a.IDs, append([]int32(nil), t.want...))
	}
	return a
}

func TestVerifyComparesWithTransformers(t *testing.T) {
	t.Parallel()
	v, table := begun(t, tinyScorer, kernels.F32)
	texts, err := v.pythonTexts(tinyScorer)
	if err != nil || len(texts) < 100 {
		t.Fatalf("%d texts, %v", len(texts), err)
	}
	for name, c := range map[string]struct {
		spoil                func(a *pythonAnswer)
		ids, alone, inBatchs string
	}{
		"right":       {func(*pythonAnswer) {}, verdictSame, verdictSame, verdictSame},
		"rounding":    {func(a *pythonAnswer) { a.Scores[3] += 1e-5 }, verdictSame, verdictSame, verdictSame},
		"too far":     {func(a *pythonAnswer) { a.Scores[3] += 1e-3 }, verdictSame, verdictOther, verdictSame},
		"padding":     {func(a *pythonAnswer) { a.Padded[4] = 1e39 }, verdictSame, verdictSame, verdictOther},
		"elsewhere":   {func(a *pythonAnswer) { a.Scores[3]++; a.Padded[3]++; a.ReadAt[3]-- }, verdictSame, verdictSame, verdictSame},
		"an id more":  {func(a *pythonAnswer) { a.IDs[7] = append(a.IDs[7], 1) }, verdictOther, verdictSame, verdictSame},
		"another id":  {func(a *pythonAnswer) { a.IDs[9][0]++ }, verdictOther, verdictSame, verdictSame},
		"no ids":      {func(a *pythonAnswer) { a.IDs[9] = nil }, verdictOther, verdictSame, verdictSame},
		"right again": {func(*pythonAnswer) {}, verdictSame, verdictSame, verdictSame},
	} {
		a := rightAnswer(v, texts)
		c.spoil(a)
		if err := a.check(pythonTask{IDs: v.ids, DType: "float32", Texts: texts}); err != nil {
			t.Fatal(err)
		}
		v.report.Paths = nil
		v.compareIDs(texts, a)
		v.compareScores(a)
		for i, want := range []string{c.ids, c.alone, c.inBatchs} {
			if p := v.report.Paths[i]; p.Verdict != want {
				t.Errorf("%s: %+v, want %s", name, p, want)
			}
		}
	}
	for _, want := range []string{"not compared: 1 conversation with the pad token last", "1 encodings differ; the first, "} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
}

// In bfloat16 we may be off float32 by twice what transformers is.
func TestVerifyComparesBfloat16WithFloat32(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		theirs, ours float64 // errors
		verdict      string
	}{{0.01, 0.015, verdictSame}, {0.01, 0.03, verdictOther}, {0, 0, verdictSame}} {
		v, _ := begun(t, tinyScorer, kernels.BF16)
		a := rightAnswer(v, nil)
		a.Padded = nil
		for i, x := range a.Scores {
			a.Exact = append(a.Exact, x+c.ours)
			a.Scores[i] = a.Exact[i] + c.theirs
		}
		v.compareScores(a)
		if len(v.report.Paths) != 1 || v.report.Paths[0].Verdict != c.verdict {
			t.Errorf("errors %v and %v: %+v", c.theirs, c.ours, v.report.Paths)
		}
	}
}
