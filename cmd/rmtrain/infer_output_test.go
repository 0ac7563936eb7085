package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestInferDoesNotReplaceItsInput(t *testing.T) {
	in := scoringRequests(t, 2)
	was, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(in, link); err != nil {
		t.Fatal(err)
	}
	for _, output := range []string{in, link} {
		fails(t, []string{"infer", "--checkpoint", tinyScorer, "--input", in, "--output", output, "--overwrite"}, "is the input")
	}
	if now, err := os.ReadFile(in); err != nil || !bytes.Equal(now, was) {
		t.Errorf("the input changed: %v", err)
	}
}

func TestInferRefusesFilesOfOtherKinds(t *testing.T) {
	for content, want := range map[string]string{"PAR1\x15\x04": "is a Parquet file", "\x1f\x8b\x08\x00": "gzip -dc"} {
		if r := fails(t, []string{"infer", "--checkpoint", tinyScorer, "--input", tempFile(t, "in.jsonl", content)}, "in.jsonl", want); r.stdout != "" {
			t.Errorf("%q was answered with %s", content, r.stdout)
		}
	}
}
