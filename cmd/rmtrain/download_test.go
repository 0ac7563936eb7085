package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rmtrain/checkpoints"
)

const hubCommit = "00112233445566778899aabbccddeeff00112233"

// startHub serves one repository, by the path that it has on the hub.
func startHub(t *testing.T, path string, files map[string][]byte) {
	kind := "models/"
	if strings.HasPrefix(path, "datasets/") {
		kind = ""
	}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/"+kind+path+"/revision/") {
			var siblings []map[string]string
			for name := range files {
				siblings = append(siblings, map[string]string{"rfilename": name})
			}
			json.NewEncoder(w).Encode(map[string]any{"sha": hubCommit, "siblings": siblings})
			return
		}
		content, ok := files[strings.TrimPrefix(r.URL.Path, "/"+path+"/resolve/"+hubCommit+"/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Repo-Commit", hubCommit)
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(content)), content...)))))
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content)
	}))
	t.Cleanup(h.Close)
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH"} {
		t.Setenv(name, "")
	}
	t.Setenv("HF_HOME", t.TempDir())
	t.Setenv("HF_ENDPOINT", h.URL)
}

// exampleModel is the smallest model there is, as files.
func exampleModel(t *testing.T) map[string][]byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	config := []byte(`{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2}`)
	err := checkpoints.Write(dir, checkpoints.Export{
		Dialect: checkpoints.HuggingFace, Config: config, DType: "F32",
		Files: []checkpoints.File{{Name: "tokenizer.json", Data: []byte("{}")}},
		Tensors: []checkpoints.Tensor{{Name: "score.weight", DType: "F32", Shape: []int{1, 2},
			Read: func([]byte, int64) error { return nil }}},
	})
	if err != nil {
		t.Fatal(err)
	}
	names, err := walkFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestDownloadedModelsOpen(t *testing.T) {
	startHub(t, "org/name", exampleModel(t))
	var out, notes bytes.Buffer
	c := downloadCommand()
	c.SetArgs([]string{"org/name"})
	c.SetOut(&out)
	c.SetErr(&notes)
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	folder := strings.TrimSuffix(out.String(), "\n")
	if again, err := modelFolder(t.Context(), "org/name", &notes); err != nil || again != folder {
		t.Errorf("modelFolder: %s (%v), want %s", again, err, folder)
	}
	for _, path := range []string{folder, "org/name"} {
		d, err := checkpoints.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if d.Path != folder || !d.Has("score.weight") {
			t.Errorf("%s opens %s", path, d.Path)
		}
		d.Close()
	}
}

// execute runs the program's commands in this process, where the hub is a test's.
func execute(t *testing.T, args ...string) string {
	t.Helper()
	var out, notes bytes.Buffer
	c := command()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&notes)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("rmtrain %q: %v\n%s%s", args, err, &out, &notes)
	}
	return out.String()
}

func TestCommandsTakeHubIDs(t *testing.T) {
	names, err := walkFiles(tinyScorer)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		files[name] = read(t, tinyScorer, name)
	}
	startHub(t, "org/tiny", files)
	for _, test := range []struct{ args, want string }{
		{"inspect org/tiny", "reward model"},
		{"verify --checkpoint org/tiny --max-length 16", "all paths give the same scores"},
	} {
		if out := execute(t, strings.Fields(test.args)...); !strings.Contains(out, test.want) {
			t.Errorf("rmtrain %s printed\n%s", test.args, out)
		}
	}
	if names := (serveOptions{checkpoint: "org/tiny"}).modelNames(); !slices.Equal(names, []string{"org/tiny", "tiny"}) {
		t.Errorf("serve calls it %q", names)
	}
}

func TestDataTakesTheTrainingFilesOfAHubDataset(t *testing.T) {
	row := func(best string) []byte {
		return fmt.Appendf(nil, `{"prompt": "q", "answers": [%q, "no"], "ranks": [1, 2]}`, best)
	}
	startHub(t, "datasets/org/ranked", map[string][]byte{"data/train.jsonl": row("yes"), "data/test.jsonl": row("maybe")})
	if out := execute(t, "data", "org/ranked"); !strings.Contains(out, "data/train.jsonl: 1 rows, 1 usable") || strings.Contains(out, "test.jsonl") {
		t.Errorf("it printed\n%s", out)
	}
}

func TestModelFolderKeepsPaths(t *testing.T) {
	startHub(t, "org/name", exampleModel(t))
	dir := t.TempDir()
	if got, err := modelFolder(t.Context(), dir, os.Stderr); err != nil || got != dir {
		t.Errorf("%s became %s (%v)", dir, got, err)
	}
	if _, err := modelFolder(t.Context(), "./no/folder", os.Stderr); err == nil || !strings.Contains(err.Error(), "no such folder") {
		t.Errorf("a missing folder gives %v", err)
	}
	if _, err := modelFolder(t.Context(), "org/other", os.Stderr); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a missing repository gives %v", err)
	}
}

func TestDataFilesFindsSplits(t *testing.T) {
	row := []byte("{}\n")
	startHub(t, "datasets/org/ranked", map[string][]byte{
		"README.md": row, "data/train-00000-of-00002.jsonl": row, "data/train-00001-of-00002.jsonl": row, "data/validation.jsonl": row,
	})
	here := filepath.Join(t.TempDir(), "own.jsonl")
	if err := os.WriteFile(here, row, 0o644); err != nil {
		t.Fatal(err)
	}
	for split, want := range map[string][]string{
		"train": {"train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "own.jsonl"},
		"test":  {"validation.jsonl", "own.jsonl"},
	} {
		files, err := dataFiles(t.Context(), []string{"org/ranked", here}, split, os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range files {
			names = append(names, filepath.Base(f))
			if b, err := os.ReadFile(f); err != nil || string(b) != string(row) {
				t.Errorf("%s holds %q (%v)", f, b, err)
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s is %q, want %q", split, names, want)
		}
	}
	if got, err := dataFiles(t.Context(), []string{"data/train.jsonl"}, "train", os.Stderr); err != nil || got[0] != "data/train.jsonl" {
		t.Errorf("a path that does not exist became %q (%v)", got, err)
	}
	if _, err := dataFiles(t.Context(), []string{"org/no"}, "train", os.Stderr); err == nil || !strings.Contains(err.Error(), "org/no is not a path here") {
		t.Errorf("a dataset that does not exist gives %v", err)
	}
}

func TestSplitsByName(t *testing.T) {
	for name, want := range map[string]string{
		"data/train-00000-of-00001.parquet": "train",
		"data/rm_test.parquet":              "test",
		"nectar.parquet":                    "train",
		"test/rows.jsonl":                   "test",
		"train/dev.jsonl":                   "test",
		"latest.jsonl":                      "train",
	} {
		if got := splitOf(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestDownloadWantsOneID(t *testing.T) {
	for _, args := range [][]string{{}, {"a/b", "c/d"}, {"not an id"}, {"a/b", "--revision", "../x"}} {
		c := downloadCommand()
		c.SetArgs(args)
		c.SetOut(&bytes.Buffer{})
		c.SetErr(&bytes.Buffer{})
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "download") {
			t.Errorf("%q gives %v", args, err)
		}
	}
}

func TestShardsOfLMHeadAloneAreNotDownloaded(t *testing.T) {
	files := exampleModel(t)
	files["model-00001-of-00002.safetensors"] = oneTensor("model.embed_tokens.weight")
	files["model-00002-of-00002.safetensors"] = oneTensor("lm_head.weight")
	delete(files, "model.safetensors")
	delete(files, "rmtrain.json")
	files["model.safetensors.index.json"] = []byte(`{"weight_map": {
		"model.embed_tokens.weight": "model-00001-of-00002.safetensors", "lm_head.weight": "model-00002-of-00002.safetensors"}}`)
	files["config.json"] = []byte(`{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2}`)
	startHub(t, "org/name", files)
	folder, err := modelFolder(t.Context(), "org/name", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(folder, "model-00002-of-00002.safetensors")) {
		t.Error("the shard of lm_head is here")
	}
	d, err := checkpoints.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !d.Has("model.embed_tokens.weight") || !strings.Contains(strings.Join(d.Notes, "\n"), "lm_head") {
		t.Errorf("notes are %q", d.Notes)
	}
}

// oneTensor is a safetensors file of two zeros.
func oneTensor(name string) []byte {
	header := fmt.Sprintf(`{%q:{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}`, name)
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), []byte(header), make([]byte, 8))
}
