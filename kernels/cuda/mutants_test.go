//go:build nvidia

package cuda

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
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
	{"add", "WHOLE_PACKS", "Add"},
	{"add", "SAME_BIAS", "AddBias"},
	{"add", "LAST_ROW", "AddBiasBack"},
	{"add", "OVERWRITE", "AddBiasBack"},
	{"rmsnorm", "NO_EPS", "RMSNorm"},
	{"rmsnorm", "OVERWRITE", "RMSNormBack"},
	{"rmsnorm", "FIRST_RSTD", "RMSNormBack"},
	{"swiglu", "SWAPPED", "SwiGLU"},
	{"swiglu", "SLOPE", "SwiGLUBack"},
	{"rope", "NOT_INVERTED", "RoPE"},
	{"embed", "LAST_UNIT", "Embed"},
	{"embed", "LAST_LANE", "EmbedBack"},
	{"embed", "FIRST_ONLY", "EmbedBack"},
	{"embed", "SCATTER_FIRST", "Scatter"},
	{"valuehead", "FIRST_ROWS", "ValueHead"},
	{"valuehead", "FIRST_SCORE", "ValueHeadBack"},
	{"valuehead", "OVERWRITE", "ValueHeadBack"},
	{"sumsq", "FLOAT", "SumSq"},
	{"sumsq", "OVERWRITE", "SumSq"},
	{"adamw", "EPS_INSIDE", "AdamW"},
	{"adamw", "NUMBER_OF_QUAD", "AdamW stochastic"},
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

// compiled caches what mutantPTX returns.
var compiled = struct {
	sync.Mutex
	ptx map[string]string
}{ptx: map[string]string{}}

// mutantPTX compiles a kernel file with one MUTANT_ macro.
func mutantPTX(t *testing.T, file, name string) string {
	t.Helper()
	key := file + " " + name
	compiled.Lock()
	text, ok := compiled.ptx[key]
	compiled.Unlock()
	if ok {
		return text
	}
	to := filepath.Join(t.TempDir(), file+".ptx")
	if out, err := exec.Command(compiler(t), "-arch=compute_80", "-O3", "-std=c++17", "-DMUTANT_"+name, "-ptx", "-o", to, file+".cu").CombinedOutput(); err != nil {
		t.Fatalf("nvcc: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	compiled.Lock()
	compiled.ptx[key] = string(raw)
	compiled.Unlock()
	return string(raw)
}

// written puts a mutant into a file of the name that the embedded one has.
func written(t *testing.T, file, ptx string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), file+".ptx")
	if err := os.WriteFile(path, []byte(ptx), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// instructions returns those of each kernel of a module, without the hint that the committed
// files lack.
func instructions(ptx string) map[string]string {
	hint := regexp.MustCompile(`(?m)^\s*\.pragma "used_bytes_mask .*\n`)
	kernels := map[string]string{}
	for _, text := range strings.Split(ptx, ".visible .entry ")[1:] {
		name, rest, _ := strings.Cut(text, "(")
		body, _, _ := strings.Cut(rest, "\n}")
		kernels[name] = hint.ReplaceAllString(body, "")
	}
	return kernels
}

// A kernel without a mutant would be one of which nothing shows that the suite looks at it.
func TestEveryKernelHasAMutant(t *testing.T) {
	compiler(t)
	files := map[string][]string{}
	for _, m := range mutants {
		files[m.file] = append(files[m.file], m.mutant)
	}
	for _, m := range attentionMutants {
		files[m.file] = append(files[m.file], m.name)
	}
	for file, image := range images() {
		file = strings.TrimSuffix(file, ".ptx")
		left := instructions(image)
		total := len(left)
		if sound := instructions(mutantPTX(t, file, "NONE")); !maps.Equal(left, sound) {
			t.Errorf("%s: compiled without a mistake it is another, so that this test sees nothing", file)
		}
		for _, name := range files[file] {
			for kernel, body := range instructions(mutantPTX(t, file, name)) {
				if body != left[kernel] {
					delete(left, kernel)
				}
			}
		}
		if len(left) > 0 {
			t.Errorf("%s: %d of %d kernels are those of every mutant: %q", file, len(left), total, slices.Sorted(maps.Keys(left)))
		}
	}
}

// TestMutantsAreCaught compiles every mutant and wants the conformance suite to fail on it.
func TestMutantsAreCaught(t *testing.T) {
	needDevice(t)
	compiler(t)
	for _, m := range mutants {
		t.Run(m.file+"/"+m.mutant, func(t *testing.T) {
			t.Parallel()
			ptx := written(t, m.file, mutantPTX(t, m.file, m.mutant))
			run := exec.Command(os.Args[0], "-test.run=^TestMutant$")
			run.Env = append(os.Environ(), envMutant+"="+ptx, envChecks+"="+m.op)
			out, err := run.CombinedOutput()
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
		if !strings.HasPrefix(name, "values/"+op+"/") && !strings.HasPrefix(name, "values/"+op+" ") && !strings.HasPrefix(name, "exact/"+op+"/") {
			continue
		}
		if errs := kerneltest.Errors(b, dt, name); len(errs) > 0 {
			t.Fatalf("caught: %s: %v", name, errs[0])
		}
	}
}
