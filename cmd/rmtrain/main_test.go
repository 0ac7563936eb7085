package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rmtrain/data/nectar"
	"rmtrain/data/rows"
)

// Variables of the processes that these tests start. The test program itself is
// rmtrain there.
const (
	asProgram   = "RMTRAIN_TEST_PROGRAM"    // be rmtrain
	asUser      = "RMTRAIN_TEST_USER"       // without root's right to write everywhere
	maxFileSize = "RMTRAIN_TEST_FILE_LIMIT" // bytes; a write beyond it fails, like one to a full disk
)

func TestMain(m *testing.M) {
	if rows.ChildMain() {
		return
	}
	if os.Getenv(asProgram) == "" {
		status := m.Run()
		if shared.dir != "" {
			os.RemoveAll(shared.dir)
		}
		os.Exit(status)
	}
	os.Unsetenv(asProgram)
	if os.Getenv(asUser) != "" {
		becomeUser()
	}
	if limit, err := strconv.ParseUint(os.Getenv(maxFileSize), 10, 64); err == nil {
		os.Unsetenv(maxFileSize)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			panic(err)
		}
	}
	main()
}

// becomeUser starts this program again without the capability that lets root write
// into any folder, if it has it.
func becomeUser() {
	os.Unsetenv(asUser)
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_DAC_OVERRIDE, 0, 0, 0); err != nil {
		panic(err)
	}
	os.Setenv(asProgram, "1")
	panic(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
}

// A result is how a process ended.
type result struct {
	status         int
	stdout, stderr string
}

// start prepares a process of rmtrain. Variables are NAME=VALUE.
func start(ctx context.Context, variables []string, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(append(os.Environ(), asProgram+"=1"), variables...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	return c, &stdout, &stderr
}

// runWith runs rmtrain with variables in its environment.
func runWith(t *testing.T, variables []string, args ...string) result {
	t.Helper()
	c, stdout, stderr := start(context.Background(), variables, args...)
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// run runs rmtrain.
func run(t *testing.T, args ...string) result {
	t.Helper()
	return runWith(t, nil, args...)
}

// ok runs rmtrain, which must succeed, and returns its standard output.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	r := run(t, args...)
	if r.status != 0 {
		t.Fatalf("rmtrain %q: status %d\n%s%s", args, r.status, r.stdout, r.stderr)
	}
	return r.stdout
}

// fails runs rmtrain, which must end with status 1 and an error that contains parts.
func fails(t *testing.T, args []string, parts ...string) result {
	t.Helper()
	r := run(t, args...)
	mustFail(t, r, parts...)
	return r
}

func mustFail(t *testing.T, r result, parts ...string) {
	t.Helper()
	if r.status != 1 {
		t.Fatalf("status %d, want 1\n%s%s", r.status, r.stdout, r.stderr)
	}
	for _, p := range parts {
		if !strings.Contains(r.stderr, p) {
			t.Errorf("error does not contain %q:\n%s", p, r.stderr)
		}
	}
}

// shared is a world that all tests read: the example's model with a few prompts,
// and tokenized data.
var shared struct {
	once sync.Once
	dir  string
	err  error
}

const smallTrain, smallTest = 40, 10 // prompts

// small returns the folder of the shared world: model/, train.parquet, train.jsonl,
// test.parquet, samples.jsonl and nectar.yaml.
func small(t *testing.T) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "rmtrain-test-*"); shared.err == nil {
			shared.err = fillSmall(shared.dir)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.dir
}

const smallConfig = `
model: {name_or_path: ./model, dtype: float32}
data: {train: [./train.parquet], eval: [./test.parquet], max_length: 256, cache: ./cache}
train:
  output_dir: ./out
  prompts_per_step: 8
  max_tokens_per_batch: 1024
  max_steps: 4
  learning_rate: 1e-3
  lr_scheduler_type: cosine
  logging_steps: 1
`

func fillSmall(dir string) error {
	w := newWorld(1)
	samples := make([]sample, 200)
	for i := range samples {
		samples[i] = w.sample()
	}
	train, test := samples[:smallTrain], samples[smallTrain:smallTrain+smallTest]
	rows := w.rows(train)
	var lines bytes.Buffer
	for _, r := range rows {
		if err := json.NewEncoder(&lines).Encode(r); err != nil {
			return err
		}
	}
	requests, err := samplesJSON(test)
	if err != nil {
		return err
	}
	return errors.Join(
		writeModel(filepath.Join(dir, "model"), corpus(samples), nil),
		nectar.WriteParquet(filepath.Join(dir, "train.parquet"), rows),
		nectar.WriteParquet(filepath.Join(dir, "test.parquet"), w.rows(test)),
		os.WriteFile(filepath.Join(dir, "train.jsonl"), lines.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, "samples.jsonl"), requests, 0o644),
		os.WriteFile(filepath.Join(dir, "nectar.yaml"), []byte(smallConfig), 0o644),
	)
}

// training returns the arguments that train in the shared world into out, with
// settings such as train.seed=1.
func training(t *testing.T, out string, settings ...string) []string {
	t.Helper()
	args := []string{"--config", filepath.Join(small(t), "nectar.yaml"), "--set", "train.output_dir=" + out}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	return args
}

// trained trains in the shared world and returns the run's folder.
func trained(t *testing.T, settings ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	ok(t, training(t, out, settings...)...)
	return out
}

func read(t *testing.T, parts ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// weights is the model in a run's folder.
func weights(t *testing.T, dir string) []byte {
	t.Helper()
	return read(t, dir, "model.safetensors")
}

// metrics returns the lines of a run's metrics.jsonl without what depends on time.
func metrics(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	for line := range bytes.Lines(read(t, dir, "metrics.jsonl")) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{"prompts_per_second", "tokens_per_second", "rows_per_second", "model_flops_utilization"} {
			delete(m, k)
		}
		fmt.Fprintln(&out, m) // in the order of keys
	}
	return out.String()
}

// random is the same in every run of the tests.
func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }
