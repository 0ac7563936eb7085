package checkpoints

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// killed names what a child process writes, again and again, until it is killed.
const (
	killedEnv = "CHECKPOINTS_TEST_WRITES"
	killedDir = "CHECKPOINTS_TEST_DIR"
	kills     = 8
)

func TestMain(m *testing.M) {
	if what := os.Getenv(killedEnv); what != "" {
		fmt.Fprintln(os.Stderr, writeForever(what, os.Getenv(killedDir)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForever returns only if writing fails.
func writeForever(what, dir string) error {
	for i := range 1 << 20 {
		var err error
		switch what {
		case "states":
			err = writeState(dir)
		case "folders":
			e := tinyExport(byte(i))
			err = Write(filepath.Join(dir, fmt.Sprintf("m%d-%d", os.Getpid(), i)), e)
		case "into":
			e := tinyExport(byte(i))
			e.Into, e.Overwrite, e.MaxShard = true, true, int64(8*(1+i%2))
			err = Write(dir, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeState saves the step after the newest, as a resumed run does.
func writeState(dir string) error {
	states, err := States(dir)
	if err != nil {
		return err
	}
	step := 1
	if len(states) > 0 {
		step = states[len(states)-1].Step + 1
	}
	state, tensors := stateOf(step)
	if _, err := SaveState(dir, step, state, tensors); err != nil {
		return err
	}
	return Rotate(dir, 2)
}

// tinyExport is a model whose three tensors all hold v.
func tinyExport(v byte) Export {
	data := []byte{v, v, v, v}
	return Export{Dialect: HuggingFace, Config: []byte(`{"model_type":"llama"}`), PadID: -1, Tensors: []Tensor{
		source(embedName, "U8", []int{2, 2}, data),
		source("model.norm.weight", "U8", []int{4}, data),
		source(headName, "U8", []int{1, 4}, data),
	}}
}

// kill starts a child that writes into dir and kills it at a random moment.
func kill(t *testing.T, what, dir string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killedEnv+"="+what, killedDir+"="+dir)
	var stderr strings.Builder
	child.Stderr = &stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(20+rand.IntN(80)) * time.Millisecond)
	if err := child.Process.Kill(); err != nil {
		t.Fatalf("the child has ended by itself: %v: %s", err, stderr.String())
	}
	if err := child.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the child was not killed: %v: %s", err, stderr.String())
	}
}

func TestKillNeverLeavesAStateThatLooksCompleteButIsNot(t *testing.T) {
	dir := t.TempDir()
	newest := 0
	for i := 0; i < kills || newest == 0 && i < 10*kills; i++ {
		kill(t, "states", dir)
		states, err := States(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range states {
			checkState(t, s.Path, s.Step)
		}
		if len(states) == 0 {
			if newest > 0 {
				t.Fatalf("state %d is lost", newest)
			}
			continue
		}
		last := states[len(states)-1].Step
		if last < newest {
			t.Fatalf("the newest state is %d, after %d", last, newest)
		}
		newest = last
	}
	if newest == 0 {
		t.Fatal("no child lived long enough to save a state")
	}
	mustSave(t, dir, newest+1)
	for _, name := range list(t, dir) {
		if strings.HasPrefix(name, "tmp-") {
			t.Errorf("%s is left behind", name)
		}
	}
}

// checkTiny demands that the folder's tensors are of one export.
func checkTiny(t *testing.T, dir string) {
	t.Helper()
	s, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Integrity != Verified || s.Tensors != 3 || !s.Head {
		t.Fatalf("%+v", s)
	}
}

func TestKillNeverLeavesAFolderThatIsIncomplete(t *testing.T) {
	dir := t.TempDir()
	for range kills {
		kill(t, "folders", dir)
	}
	for _, name := range list(t, dir) {
		if !strings.Contains(name, ".tmp-") {
			checkTiny(t, filepath.Join(dir, name))
		}
	}
}

func TestKillNeverLeavesAMixtureOfTwoModels(t *testing.T) {
	dir := t.TempDir()
	for range kills {
		kill(t, "into", dir)
		_, err := os.Stat(filepath.Join(dir, configName))
		switch {
		case exists(filepath.Join(dir, incompleteName)):
			_, err := Open(dir)
			wantError(t, err, "interrupted")
		case err == nil:
			checkTiny(t, dir)
		}
	}
	e := tinyExport(1)
	e.Into, e.Overwrite = true, true
	if err := Write(dir, e); err != nil {
		t.Fatal(err)
	}
	checkTiny(t, dir)
	for _, name := range list(t, dir) {
		if strings.HasPrefix(name, "tmp-") {
			t.Errorf("%s is left behind", name)
		}
	}
}
