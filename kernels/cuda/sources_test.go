//go:build nvidia

package cuda

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The rules of kernel files that a compiler does not know.
func TestKernelSources(t *testing.T) {
	inline := regexp.MustCompile(`\basm\b`)
	floatAtomics := regexp.MustCompile(`\batomicAdd\b`)
	files, err := filepath.Glob("*.cu*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no kernel files: %v", err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		if f != "device.cuh" && inline.MatchString(text) {
			t.Errorf("%s has inline PTX, which belongs into device.cuh", f)
		}
		if strings.Contains(text, "__CUDA_ARCH__") {
			t.Errorf("%s has branches for architectures: what is tested would not be what runs", f)
		}
		if floatAtomics.MatchString(text) {
			t.Errorf("%s adds atomically: results would depend on the order of blocks", f)
		}
		if !strings.HasSuffix(f, ".cu") {
			continue
		}
		ptx, err := os.ReadFile(strings.TrimSuffix(f, ".cu") + ".ptx")
		if err != nil {
			t.Errorf("%s has no PTX beside it (.ci/cuda kernels)", f)
		}
		if strings.Contains(string(ptx), ".loc") {
			t.Errorf("the PTX of %s has line numbers, hence paths of the machine that made it", f)
		}
	}
}

// A file with another tag, or with none, would be left out without a word, or break the
// build of those who have no cuda.h.
func TestGoFilesHaveTheTag(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files: %v", err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if f != "doc.go" && !strings.HasPrefix(string(raw), "//go:build nvidia\n") {
			t.Errorf("%s does not begin with the build tag nvidia", f)
		}
	}
}
