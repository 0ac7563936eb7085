package hub

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func fetch(t *testing.T, o Options) string {
	t.Helper()
	o.ID = testID
	folder, err := Fetch(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func fetchError(t *testing.T, o Options, wants ...string) {
	t.Helper()
	o.ID = testID
	_, err := Fetch(context.Background(), o)
	if err == nil {
		t.Fatalf("no error; want %q", wants)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("error %q tells a secret", err)
	}
}

func TestFetchWritesTheCacheOfHuggingfaceHub(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	folder := fetch(t, Options{})
	h.checkFiles(t, folder, "config.json", "tokenizer.json", "model.safetensors")
	repo := filepath.Join(os.Getenv("HF_HOME"), "hub", "models--org--name")
	if want := filepath.Join(repo, "snapshots", testCommit); folder != want {
		t.Errorf("folder is %s, want %s", folder, want)
	}
	for _, name := range []string{"config.json", "model.safetensors"} {
		to, err := os.Readlink(filepath.Join(folder, name))
		if want := "../../blobs/" + etagOf(h.files[name]); err != nil || to != want {
			t.Errorf("%s links to %q (%v), want %q", name, to, err, want)
		}
		if _, err := os.Stat(filepath.Join(repo, "../.locks/models--org--name", etagOf(h.files[name])+".lock")); err != nil {
			t.Error(err)
		}
	}
	if ref, err := os.ReadFile(filepath.Join(repo, "refs", "main")); string(ref) != testCommit {
		t.Errorf("refs/main is %q (%v)", ref, err)
	}
}

func TestFetchTakesOneWeightFormat(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	fetch(t, Options{})
	if h.asked["pytorch_model.bin"]+h.asked["README.md"] > 0 {
		t.Errorf("asked for %v", h.asked)
	}
	h.change(func() {
		delete(h.files, "model.safetensors")
		h.commit = strings.Repeat("b", 40)
	})
	h.checkFiles(t, fetch(t, Options{Newest: true}), "config.json", "tokenizer.json", "pytorch_model.bin")
	h.checkFiles(t, fetch(t, Options{All: true}), "README.md")
}

func TestFetchUsesTheCacheFirst(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	first := fetch(t, Options{})
	lists, heads := h.lists, h.heads
	if again := fetch(t, Options{}); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	if h.lists != lists || h.heads != heads {
		t.Error("the hub was asked about what is in the cache")
	}
	h.change(func() { h.commit = strings.Repeat("c", 40) })
	newest := fetch(t, Options{Newest: true})
	if filepath.Base(newest) != h.commit {
		t.Errorf("the newest is %s", newest)
	}
	if h.asked["model.safetensors"] > 5000/200 {
		t.Errorf("the same content came again: %v", h.asked)
	}
	if got := fetch(t, Options{Revision: testCommit}); got != first {
		t.Errorf("commit %s is in %s", testCommit, got)
	}
}

func TestFetchCompletesWhatTheCacheHas(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	folder := fetch(t, Options{})
	for _, name := range []string{"tokenizer.json", "model.safetensors"} {
		os.Remove(filepath.Join(folder, name))
		h.checkFiles(t, fetch(t, Options{}), "config.json", "tokenizer.json", "model.safetensors")
		os.Remove(h.blobPath(name)) // behind the link
		h.checkFiles(t, fetch(t, Options{}), "config.json", "tokenizer.json", "model.safetensors")
	}
}

func (h *fakeHub) blobPath(name string) string {
	return filepath.Join(os.Getenv("HF_HOME"), "hub", "models--org--name", "blobs", etagOf(h.files[name]))
}

func TestNewestMendsTruncatedBlobs(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	folder := fetch(t, Options{})
	if err := os.Truncate(h.blobPath("model.safetensors"), 17); err != nil {
		t.Fatal(err)
	}
	fetch(t, Options{Newest: true})
	h.checkFiles(t, folder, "model.safetensors")
}

func TestOffline(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	t.Setenv("HF_HUB_OFFLINE", "1")
	fetchError(t, Options{}, "hub: download model org/name: it is not in the local cache, and HF_HUB_OFFLINE is set")
	fetchError(t, Options{Dataset: true}, "dataset org/name", "not in the local cache")
	t.Setenv("HF_HUB_OFFLINE", "")
	folder := fetch(t, Options{})
	asked := h.lists + h.heads
	t.Setenv("HF_HUB_OFFLINE", "1")
	if got := fetch(t, Options{Newest: true}); got != folder {
		t.Errorf("offline: %s", got)
	}
	os.Remove(filepath.Join(folder, "tokenizer.json"))
	fetchError(t, Options{}, "tokenizer is not in the cache", "HF_HUB_OFFLINE")
	os.Remove(filepath.Join(folder, "model.safetensors"))
	fetchError(t, Options{}, "weights are not in the cache")
	os.Remove(filepath.Join(folder, "config.json"))
	fetchError(t, Options{}, "config.json is not in the cache")
	if h.lists+h.heads != asked {
		t.Error("the hub was asked offline")
	}
}

func TestDatasets(t *testing.T) {
	files := map[string][]byte{
		"README.md":                            []byte("# Data"),
		"data/train-00000-of-00002-ab.parquet": randomBytes(3000),
		"data/train-00001-of-00002-cd.parquet": randomBytes(2000),
		"train.jsonl":                          []byte("{}\n"),
		"dataset_infos.json":                   []byte("{}"),
	}
	h := newFakeHub(t, files)
	folder := fetch(t, Options{Dataset: true})
	names := []string{"data/train-00000-of-00002-ab.parquet", "data/train-00001-of-00002-cd.parquet"}
	h.checkFiles(t, folder, names...)
	if !strings.Contains(folder, "datasets--org--name") || h.asked["train.jsonl"] > 0 {
		t.Errorf("in %s; asked for %v", folder, h.asked)
	}
	if to, _ := os.Readlink(filepath.Join(folder, names[0])); to != "../../../blobs/"+etagOf(files[names[0]]) {
		t.Errorf("%s links to %s", names[0], to)
	}
	h.change(func() { h.fail = answer(503) })
	var notes []string
	if got := fetch(t, Options{Dataset: true, Note: func(s string) { notes = append(notes, s) }}); got != folder {
		t.Errorf("without a hub: %s", got)
	}
	if !strings.Contains(strings.Join(notes, "\n"), "cannot be reached") {
		t.Errorf("notes are %q", notes)
	}
	os.Remove(filepath.Join(folder, names[1]))
	fetchError(t, Options{Dataset: true}, "503")
	t.Setenv("HF_HUB_OFFLINE", "yes")
	fetchError(t, Options{Dataset: true}, "1 of the 2 files data/train-*-of-00002")
}

func TestProgressReachesTheTotal(t *testing.T) {
	newFakeHub(t, tinyModel())
	var done, total int64
	fetch(t, Options{Progress: func(d, n int64) { done, total = d, n }})
	if want := int64(5000 + 23 + 18); done != want || total != want {
		t.Errorf("progress ends at %d of %d, want %d", done, total, want)
	}
}
