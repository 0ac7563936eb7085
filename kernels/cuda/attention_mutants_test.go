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

// The checks that a child process runs, on the bfloat16 kernels but for mutants of the others: small ones that reach masks,
// windows, prefixes, several stages of every pipeline, heads packed into rows, and warps in pairs.
var mutantChecks = []string{
	"values/Attention/ratio 4", "values/Attention/window into prompt",
	"values/AttentionBack/ratio 4", "values/AttentionBack/window into prompt", "values/AttentionBack/dim 128",
}

// Environment of a child process: what it is, and PTX to be used instead of the embedded
// file of that name.
const envAttention, envAttentionMutant = "RMTRAIN_TEST_ATTENTION", "RMTRAIN_TEST_ATTENTION_MUTANT"

// TestAttentionChild is what the tests below run in a process of its own, as settings of the
// emulator are read once and a failed kernel ends its context.
func TestAttentionChild(t *testing.T) {
	if os.Getenv(envAttention) == "" {
		t.Skip("other tests run this")
	}
	modules := images()
	if file := os.Getenv(envAttentionMutant); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		modules[filepath.Base(file)] = string(text)
	}
	dt := kernels.BF16
	if strings.HasSuffix(os.Getenv(envAttentionMutant), "_f32.ptx") {
		dt = kernels.F32
	}
	b := newWith(t, dt, modules)
	for _, name := range mutantChecks {
		for _, err := range kerneltest.Errors(b, dt, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := attentionError(t, b, kernels.BF16, 256); err != nil {
		t.Errorf("256 channels: %v", err)
	}
}

// child runs TestAttentionChild and returns what it prints, and whether it passes.
func child(env ...string) (output string, passes bool) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestAttentionChild$")
	cmd.Env = append(append(os.Environ(), envAttention+"=1"), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// The emulator's orders of warps and blocks, but for that of all other tests.
func TestAttentionInOtherOrders(t *testing.T) {
	needDevice(t)
	for _, env := range []string{"EMULATOR_SEED=0", "EMULATOR_SEED=2", "EMULATOR_SEED=3"} {
		if out, passes := child(env); !passes {
			t.Errorf("%s:\n%s", env, out)
		}
	}
}

// Each mutant is a kernel file with one mistake that has been made before; the emulator, or a
// number that is wrong, gives it away.
var attentionMutants = []struct{ file, name, want string }{
	{"attention", "WAIT", "cp.async"},
	{"attention", "BARRIER", "race|cp.async|never wrote"},
	{"attention", "PAIR", "race|never wrote"},
	{"attention", "CAUSAL", "values/Attention/.*: (relative error|element)"},
	{"attention", "PREFIX", "values/Attention/.*: (relative error|element)"},
	{"attention", "LAST_HEAD", "never wrote|values/Attention/.*: (relative error|element)"},
	{"attention_back", "WAIT", "cp.async"},
	{"attention_back", "BARRIER", "race|cp.async|never wrote"},
	{"attention_back", "PAIR", "race|never wrote"},
	{"attention_back", "CAUSAL", "values/AttentionBack/.*: (relative error|element)"},
	{"attention_back", "PREFIX", "values/AttentionBack/.*: (relative error|element)"},
	{"attention_back", "LANES", "values/AttentionBack/.*: (relative error|element)"},
	{"attention_back_kv", "WAIT", "cp.async"},
	{"attention_back_kv", "BARRIER", "race|cp.async|never wrote"},
	{"attention_back_kv", "PAIR", "race|never wrote"},
	{"attention_back_kv", "EXCHANGE", "race"},
	{"attention_back_kv", "CAUSAL", "values/AttentionBack/.*: (relative error|element)"},
	{"attention_f32", "PREFIX", "values/Attention/.*: (relative error|element)"},
	{"attention_back_f32", "PREFIX", "values/AttentionBack/.*: (relative error|element)"},
	{"attention_back_f32", "CAUSAL", "values/AttentionBack/.*: (relative error|element)"},
}

func TestEveryAttentionMutantIsTested(t *testing.T) {
	tested := map[string]bool{"MUTANT_BANKS": true} // below
	for _, m := range attentionMutants {
		tested["MUTANT_"+m.name] = true
	}
	files, _ := filepath.Glob("attention*.cu*")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, macro := range mutantMacro.FindAllString(string(text), -1) {
			if !tested[macro] {
				t.Errorf("%s of %s is not in the list of mutants", macro, f)
			}
		}
	}
}

func TestAttentionMutantsAreCaught(t *testing.T) {
	needDevice(t)
	for _, m := range attentionMutants {
		t.Run(m.file+"/"+m.name, func(t *testing.T) {
			out, passes := child(mutant(t, m.file, m.name)...)
			if passes {
				t.Fatal("it passes")
			}
			if !regexp.MustCompile(m.want).MatchString(out) {
				t.Errorf("caught for another reason than %q:\n%s", m.want, out)
			}
		})
	}
}

// A row of shared memory has one chunk more than its channels, so that no two of the eight
// rows that ldmatrix reads at once are in the same banks.
func TestAttentionMeetsNoBankTwice(t *testing.T) {
	needDevice(t)
	const most = 1.05 // wavefronts for each that are needed
	for kernel, factor := range bankFactors(t) {
		if factor > most {
			t.Errorf("%s takes %.2f times the wavefronts that its accesses need", kernel, factor)
		}
	}
	for _, file := range []string{"attention", "attention_back", "attention_back_kv"} {
		worst := 0.
		for _, factor := range bankFactors(t, mutant(t, file, "BANKS")...) {
			worst = max(worst, factor)
		}
		if worst <= most {
			t.Errorf("%s without unused chunks takes %.2f times: this test sees nothing", file, worst)
		}
	}
}

// bankFactors returns by kernel how often shared memory was accessed for each access that
// its bytes need, as the emulator counts it.
func bankFactors(t *testing.T, env ...string) map[string]float64 {
	t.Helper()
	factors := map[string]float64{}
	for kernel, counted := range statistics(t, "TestAttentionChild", append(env, envAttention+"=1")...) {
		factors[kernel] = counted.banks
	}
	return factors
}

// mutant returns what makes a child use a kernel file with one MUTANT_ macro.
func mutant(t *testing.T, file, name string) (env []string) {
	t.Helper()
	return []string{envAttentionMutant + "=" + written(t, file, mutantPTX(t, file, name))}
}
