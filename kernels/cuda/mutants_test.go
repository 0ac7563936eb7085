//go:build nvidia

package cuda

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
)

// Environment of the process that runs a mutant: a kernel that the emulator stops poisons
// its process.
const (
	envMutant = "RMTRAIN_TEST_MUTANT"     // PTX to be used instead of the embedded file of its name
	envChecks = "RMTRAIN_TEST_MUTANT_OPS" // which checks to run
)

// mutants are the mistakes that kernel files have behind MUTANT_ macros, and the operation
// whose checks must find them.
var mutants = []struct{ file, mutant, op string }{
	{"add", "LAST_ROW", "AddBiasBack"},
	{"rmsnorm", "NO_EPS", "RMSNorm"},
	{"rmsnorm", "OVERWRITE", "RMSNormBack"},
	{"swiglu", "SLOPE", "SwiGLUBack"},
	{"rope", "NOT_INVERTED", "RoPE"},
	{"embed", "FIRST_ONLY", "EmbedBack"},
	{"valuehead", "OVERWRITE", "ValueHeadBack"},
	{"sumsq", "FLOAT", "SumSq"},
	{"adamw", "EPS_INSIDE", "AdamW"},
	{"matmul", "NO_SYNC", "MatMul"},
}

var mutantMacro = regexp.MustCompile(`MUTANT_\w+`)

func TestEveryMutantIsTested(t *testing.T) {
	listed := map[string]bool{}
	for _, m := range mutants {
		listed[m.file+".cu MUTANT_"+m.mutant] = true
	}
	files, _ := filepath.Glob("*.cu")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, macro := range mutantMacro.FindAllString(string(text), -1) {
			if key := f + " " + macro; !listed[key] && !strings.HasPrefix(f, "attention") {
				t.Errorf("%s is not in the list of mutants", key)
			}
		}
	}
}

// compiler returns nvcc as .ci/cuda unpacks it, or skips the test.
func compiler(t *testing.T) string {
	t.Helper()
	nvcc := filepath.Join("..", "..", "build", "cuda", "toolkit", "bin", "nvcc")
	if _, err := os.Stat(nvcc); err != nil {
		t.Skip("there is no nvcc to compile mutants (.ci/cuda compiler)")
	}
	return nvcc
}

// TestMutantsAreCaught compiles every mutant and wants the conformance suite to fail on it.
func TestMutantsAreCaught(t *testing.T) {
	needDevice(t)
	nvcc := compiler(t)
	for _, m := range mutants {
		t.Run(m.file+"/"+m.mutant, func(t *testing.T) {
			t.Parallel()
			ptx := filepath.Join(t.TempDir(), m.file+".ptx")
			out, err := exec.Command(nvcc, "-arch=compute_80", "-O1", "-std=c++17", "-DMUTANT_"+m.mutant, "-ptx", "-o", ptx, m.file+".cu").CombinedOutput()
			if err != nil {
				t.Fatalf("nvcc: %v\n%s", err, out)
			}
			run := exec.Command(os.Args[0], "-test.run=^TestMutant$")
			run.Env = append(os.Environ(), envMutant+"="+ptx, envChecks+"="+m.op)
			out, err = run.CombinedOutput()
			if err == nil {
				t.Fatal("not caught")
			}
			if !strings.Contains(string(out), "caught: ") {
				t.Errorf("failed for another reason:\n%s", out)
			}
		})
	}
}

// TestMutant is the process of one mutant. It fails if a check finds something.
func TestMutant(t *testing.T) {
	ptx := os.Getenv(envMutant)
	if ptx == "" {
		t.Skip("TestMutantsAreCaught runs this")
	}
	text, err := os.ReadFile(ptx)
	if err != nil {
		t.Fatal(err)
	}
	all := images()
	all[filepath.Base(ptx)] = string(text)
	for _, dt := range types {
		b := newWith(t, dt, all)
		checkMutant(t, b, dt, os.Getenv(envChecks))
	}
}

func checkMutant(t *testing.T, b *backend, dt kernels.DType, op string) {
	for _, name := range kerneltest.Names() {
		if !strings.Contains(name, "values/"+op+"/") && !strings.Contains(name, "values/"+op+" ") {
			continue
		}
		if errs := kerneltest.Errors(b, dt, name); len(errs) > 0 {
			t.Fatalf("caught: %s: %v", name, errs[0])
		}
	}
}
