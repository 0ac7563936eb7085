package checkpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stateOf is a state of two tensors whose bytes are all step.
func stateOf(step int) ([]byte, []Tensor) {
	fill := bytes.Repeat([]byte{byte(step)}, 4000)
	return []byte(`{"seed":` + string(rune('0'+step%10)) + `}`), []Tensor{
		source("model.norm.weight", "F32", []int{10, 100}, fill),
		source("adam.step", "I64", []int{}, fill[:8]),
	}
}

func mustSave(t *testing.T, dir string, step int) string {
	t.Helper()
	state, tensors := stateOf(step)
	path, err := SaveState(dir, step, state, tensors)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// checkState reads a state back and compares it with stateOf.
func checkState(t *testing.T, path string, step int) {
	t.Helper()
	s, err := OpenState(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	state, tensors := stateOf(step)
	if s.Step != step || !bytes.Equal(s.JSON, state) {
		t.Errorf("step %d with %s, want %d with %s", s.Step, s.JSON, step, state)
	}
	for _, x := range tensors {
		size := 4000
		if len(x.Shape) == 0 {
			size = 8
		}
		got, want := make([]byte, size), make([]byte, size)
		if err := errors.Join(s.Read(x.Name, got), x.Read(want, 0)); err != nil || !s.Has(x.Name) || !bytes.Equal(got, want) {
			t.Errorf("%s differs (%v)", x.Name, err)
		}
	}
}

func steps(t *testing.T, dir string) []int {
	t.Helper()
	states, err := States(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []int
	for _, s := range states {
		list = append(list, s.Step)
	}
	return list
}

func TestStateRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "run")
	for _, step := range []int{0, 100, 20} {
		path := mustSave(t, dir, step)
		checkState(t, path, step)
	}
	if got := steps(t, dir); !slices.Equal(got, []int{0, 20, 100}) {
		t.Errorf("states %v", got)
	}
	states, err := States(dir)
	if err != nil || string(states[1].JSON) != `{"seed":0}` {
		t.Errorf("JSON of a listed state: %v, %v", states, err)
	}
	wantError(t, states[1].Read("model.norm.weight", nil), "not open")
	if got := steps(t, filepath.Join(dir, "absent")); got != nil {
		t.Errorf("states of an absent folder: %v", got)
	}
}

func TestStateReadChecksNameAndSize(t *testing.T) {
	s, err := OpenState(mustSave(t, t.TempDir(), 3))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Read("absent", nil), "no tensor absent")
	wantError(t, s.Read("model.norm.weight", make([]byte, 3999)), "F32 [10 100] of 4000 bytes, not 3999")
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

func TestStateOfTheSameStepIsReplaced(t *testing.T) {
	dir := t.TempDir()
	mustSave(t, dir, 7)
	if _, err := SaveState(dir, 7, []byte(`{"second":true}`), nil); err != nil {
		t.Fatal(err)
	}
	s, err := OpenState(filepath.Join(dir, "checkpoint-7"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if string(s.JSON) != `{"second":true}` || s.Has("model.norm.weight") {
		t.Errorf("state %s", s.JSON)
	}
	if got := list(t, dir); !slices.Equal(got, []string{"checkpoint-7"}) {
		t.Errorf("left behind: %v", got)
	}
}

func TestForeignFoldersAreNeitherListedNorTouched(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "checkpoint-5", "trainer_state.json")
	put(t, foreign, []byte("{}"))
	put(t, filepath.Join(dir, "checkpoint-x", completeName), nil)
	put(t, filepath.Join(dir, tempState+"9-123", completeName), nil)
	if got := steps(t, dir); got != nil {
		t.Errorf("states %v", got)
	}
	_, err := SaveState(dir, 5, []byte(`{}`), nil)
	wantError(t, err, "checkpoint-5", "nothing is overwritten")
	mustSave(t, dir, 6)
	if err := Rotate(dir, 1); err != nil {
		t.Fatal(err)
	}
	if got := list(t, dir); !slices.Equal(got, []string{"checkpoint-5", "checkpoint-6", "checkpoint-x"}) {
		t.Errorf("folders %v", got)
	}
	if b, err := os.ReadFile(foreign); err != nil || string(b) != "{}" {
		t.Errorf("foreign file %q, %v", b, err)
	}
}

func TestDamagedStatesAreRefused(t *testing.T) {
	weights := "state.safetensors"
	tests := []struct {
		name string
		harm func(t *testing.T, path string)
		want []string
	}{
		{"no mark", func(t *testing.T, p string) { remove(t, p, completeName) }, []string{"no mark COMPLETE"}},
		{"no manifest", func(t *testing.T, p string) { remove(t, p, manifestName) }, []string{manifestName, "damaged"}},
		{"changed manifest", func(t *testing.T, p string) { edit(t, p, manifestName, `"step": 4`, `"step": 5`) }, []string{manifestName, "digest"}},
		{"no weights", func(t *testing.T, p string) { remove(t, p, weights) }, []string{weights, "damaged"}},
		{"no state", func(t *testing.T, p string) { remove(t, p, stateName) }, []string{stateName, "damaged"}},
		{"truncated weights", func(t *testing.T, p string) {
			if err := os.Truncate(filepath.Join(p, weights), 100); err != nil {
				t.Fatal(err)
			}
		}, []string{weights, "has 100 bytes"}},
		{"flipped bit", func(t *testing.T, p string) {
			b, err := os.ReadFile(filepath.Join(p, weights))
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)-9] ^= 4
			put(t, filepath.Join(p, weights), b)
		}, []string{weights, "checksum"}},
		{"edited state", func(t *testing.T, p string) { edit(t, p, stateName, "4", "5") }, []string{stateName, "checksum"}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			path := mustSave(t, t.TempDir(), 4)
			c.harm(t, path)
			_, err := OpenState(path)
			wantError(t, err, append(c.want, path, "resume from an older one")...)
			if _, err := Inspect(path); err == nil {
				t.Error("Inspect accepts it")
			}
		})
	}
	_, err := OpenState(filepath.Join(t.TempDir(), "absent"))
	wantError(t, err, "no such folder")
}

func TestStateOfAnotherVersionIsRefused(t *testing.T) {
	path := mustSave(t, t.TempDir(), 1)
	m, err := json.Marshal(manifest{Version: stateVersion + 1})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(path, manifestName), m)
	put(t, filepath.Join(path, completeName), markOf(m))
	_, err = OpenState(path)
	wantError(t, err, "version 2")
}

func TestSaveStateRefusesMistakes(t *testing.T) {
	dir := t.TempDir()
	failing := Tensor{Name: "x", DType: "F32", Shape: []int{1}, Read: func([]byte, int64) error { return errors.New("device lost") }}
	for _, c := range []struct {
		name    string
		step    int
		json    string
		tensors []Tensor
		want    string
	}{
		{"negative step", -1, `{}`, nil, "negative"},
		{"no JSON", 1, `{`, nil, "not valid JSON"},
		{"failing source", 1, `{}`, []Tensor{failing}, "tensor x: device lost"},
		{"twice", 1, `{}`, []Tensor{failing, failing}, "twice"},
	} {
		_, err := SaveState(dir, c.step, []byte(c.json), c.tensors)
		wantError(t, err, c.want)
		if got := list(t, dir); len(got) != 0 {
			t.Errorf("%s leaves %v", c.name, got)
		}
	}
	file := filepath.Join(dir, "file")
	put(t, file, nil)
	_, err := SaveState(file, 1, []byte(`{}`), nil)
	wantError(t, err, "is a file")
}

func TestRotateKeepsTheNewestAndTheBest(t *testing.T) {
	tests := []struct {
		name  string
		limit int
		keep  []string
		want  []int
	}{
		{"limit 2", 2, nil, []int{30, 40}},
		{"the newest always stays", 0, nil, []int{40}},
		{"best by name", 1, []string{"checkpoint-10"}, []int{10, 40}},
		{"best by path", 2, []string{"/elsewhere/run/checkpoint-20"}, []int{20, 30, 40}},
		{"best is among the newest", 2, []string{"checkpoint-40"}, []int{30, 40}},
		{"more than there are", 9, nil, []int{10, 20, 30, 40}},
	}
	for _, c := range tests {
		dir := t.TempDir()
		for step := 10; step <= 40; step += 10 {
			mustSave(t, dir, step)
		}
		if err := Rotate(dir, c.limit, c.keep...); err != nil {
			t.Fatal(err)
		}
		if got := steps(t, dir); !slices.Equal(got, c.want) || len(list(t, dir)) != len(c.want) {
			t.Errorf("%s: states %v of %v, want %v", c.name, got, list(t, dir), c.want)
		}
	}
	if err := Rotate(filepath.Join(t.TempDir(), "absent"), 1); err != nil {
		t.Error(err)
	}
}

func TestInspectDescribesEveryKindOfFolder(t *testing.T) {
	run := t.TempDir()
	state := mustSave(t, run, 50)
	damaged := filepath.Join(t.TempDir(), "m")
	if err := Write(damaged, exportOf(t, HuggingFace)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(damaged, safeName))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	put(t, filepath.Join(damaged, safeName), b)
	tests := []struct {
		path, kind, integrity string
		table                 []string
	}{
		{golden + "base", KindBase, Unrecorded, []string{"LlamaForCausalLM", "value head     no", "BF16 (1128)", "lm_head.weight is left out"}},
		{golden + "starling-7b", KindReward, Unrecorded, []string{"starling", "value head     yes", "pytorch_model.bin"}},
		{golden + "sharded", KindReward, Unrecorded, []string{"3 files, model-00001-of-00003.safetensors to model-00003-of-00003.safetensors"}},
		{damaged, KindReward, Damaged, []string{"changed since it was written", "step           9"}},
		{run, KindRun, Unrecorded, []string{"states         50", "training has not ended"}},
		{state, KindState, Verified, []string{"step           50", "F32 (1000), I64 (1)"}},
	}
	for _, c := range tests {
		s, err := Inspect(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if s.Kind != c.kind || s.Integrity != c.integrity {
			t.Errorf("%s is a %s, %s; want %s, %s", c.path, s.Kind, s.Integrity, c.kind, c.integrity)
		}
		var table bytes.Buffer
		if err := s.WriteTable(&table); err != nil {
			t.Fatal(err)
		}
		for _, w := range c.table {
			if !strings.Contains(table.String(), w) {
				t.Errorf("table\n%sdoes not contain %q", table.String(), w)
			}
		}
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
	}
	_, err = Inspect(t.TempDir())
	wantError(t, err, "no config.json")
}
