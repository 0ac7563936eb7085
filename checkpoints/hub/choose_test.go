package hub

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestChooseModel(t *testing.T) {
	for name, c := range map[string]struct{ names, files, index, fails string }{
		"single":       {"config.json model.safetensors pytorch_model.bin x.gguf", "config.json model.safetensors", "", ""},
		"sharded":      {"config.json model-1.safetensors model.safetensors.index.json pytorch_model.bin", "config.json model.safetensors.index.json", "model.safetensors.index.json", ""},
		"torch":        {"config.json pytorch_model.bin training_args.bin tf_model.h5", "config.json pytorch_model.bin", "", ""},
		"torch shards": {"config.json pytorch_model.bin.index.json", "config.json pytorch_model.bin.index.json", "pytorch_model.bin.index.json", ""},
		"loose":        {"config.json starling.pt optimizer.pt original/params.bin", "config.json starling.pt", "", ""},
		"tokenizer":    {"README.md config.json merges.txt model.safetensors tokenizer.model vocab.json", "config.json tokenizer.model vocab.json merges.txt model.safetensors", "", ""},
		"head beside":  {"config.json model.safetensors value_head.safetensors", "config.json value_head.safetensors model.safetensors", "", ""},
		"two loose":    {"config.json a.pt b.pt", "", "", "several files could be the weights: a.pt, b.pt"},
		"other format": {"config.json model.gguf", "config.json", "", "no weights under a name that is read"},
		"adapter":      {"adapter_config.json adapter_model.safetensors", "", "", "LoRA adapter"},
		"no model":     {"data.parquet", "", "", "no config.json"},
	} {
		files, index, err := chooseModel(strings.Fields(c.names))
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: error is %v, want %s", name, err, c.fails)
			}
			continue
		}
		if err != nil || !slices.Equal(files, strings.Fields(c.files)) || index != c.index {
			t.Errorf("%s: %q, index %q (%v), want %s, %q", name, files, index, err, c.files, c.index)
		}
	}
}

func indexOf(t *testing.T, weights map[string]string) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"weight_map": weights})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestShards(t *testing.T) {
	separate := map[string]string{"model.embed_tokens.weight": "1", "model.norm.weight": "2", "lm_head.weight": "3"}
	together := map[string]string{"model.embed_tokens.weight": "1", "model.norm.weight": "3", "lm_head.weight": "3"}
	tied := map[string]string{"model.norm.weight": "2", "lm_head.weight": "3"}
	for name, c := range map[string]struct {
		weights map[string]string
		skip    bool
		want    string
	}{
		"all":                       {separate, false, "1 2 3"},
		"without the head":          {separate, true, "1 2"},
		"the head among others":     {together, true, "1 3"},
		"embeddings under the head": {tied, true, "2 3"},
	} {
		got, err := shards(indexOf(t, c.weights), c.skip)
		if err != nil || !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: %q (%v), want %s", name, got, err, c.want)
		}
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"weight_map": {}}`, `{"weight_map": {"a": "../b"}}`, `{"weight_map": {"a": "x/b"}}`, `{"weight_map": {"a": ""}}`} {
		if got, err := shards([]byte(bad), false); err == nil {
			t.Errorf("%s gives %q", bad, got)
		}
	}
}

func TestShardedModels(t *testing.T) {
	files := tinyModel()
	delete(files, "model.safetensors")
	weights := map[string]string{}
	for tensor, file := range map[string]string{"model.embed_tokens.weight": "model-1.safetensors", "model.norm.weight": "model-2.safetensors", "lm_head.weight": "model-3.safetensors"} {
		weights[tensor] = file
		files[file] = randomBytes(2000 + len(tensor))
	}
	files[safeIndexName] = indexOf(t, weights)
	h := newFakeHub(t, files)

	folder := fetch(t, Options{SkipLMHead: true})
	h.checkFiles(t, folder, "config.json", safeIndexName, "model-1.safetensors", "model-2.safetensors")
	if h.asked["model-3.safetensors"] > 0 {
		t.Error("the shard with nothing but lm_head was asked for")
	}
	lists := h.lists
	fetch(t, Options{SkipLMHead: true})
	if h.lists != lists {
		t.Error("a snapshot without lm_head is not taken for whole")
	}
	h.checkFiles(t, fetch(t, Options{}), "model-3.safetensors")
	if n := h.asked["model-1.safetensors"]; n > 1+2100/200 {
		t.Errorf("a shard was asked for %d times", n)
	}

	h.change(func() { delete(h.files, "model-2.safetensors"); h.commit = strings.Repeat("d", 40) })
	fetchError(t, Options{Newest: true}, "model.safetensors.index.json names model-2.safetensors, which the repository does not have")
}

func TestDataFilesAreOfOneKind(t *testing.T) {
	for names, want := range map[string]string{
		"b.parquet a.parquet a.jsonl README.md":           "b.parquet a.parquet",
		"x/a.jsonl.gz x/b.JSONL dataset_infos.json c.csv": "x/a.jsonl.gz x/b.JSONL",
		"dataset_infos.json rows.json.gz rows.json":       "rows.json.gz rows.json",
		"dataset_infos.json README.md":                    "",
	} {
		if got := DataFiles(strings.Fields(names)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, want %s", names, got, want)
		}
	}
}

func TestIsID(t *testing.T) {
	for _, id := range []string{"gpt2", "01-ai/Yi-34B-Chat", "a/b", "berkeley-nest/Nectar", "a_b/c.d"} {
		if !IsID(id) {
			t.Errorf("%s is none", id)
		}
	}
	for _, id := range []string{"", ".", "..", "/a", "a/", "a/b/c", "./a", "../a", "a--b", "a..b", "a/b.git", "-a", "a/-b", "a b", "datasets/a/b", "https://a/b", strings.Repeat("a", 500)} {
		if IsID(id) {
			t.Errorf("%q is one", id)
		}
	}
}

func FuzzParseListing(f *testing.F) {
	f.Add([]byte(`{"sha": "` + testCommit + `", "siblings": [{"rfilename": "data/a.parquet"}, {"rfilename": "config.json"}]}`))
	f.Add([]byte(`{"sha": "main", "siblings": [{"rfilename": "../../x"}]}`))
	f.Add([]byte(`{"sha": "` + testCommit + `", "siblings": [{"rfilename": "/etc/x"}, {"rfilename": "a//b"}, {"rfilename": "a\\b"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseListing(b)
		if err != nil {
			return
		}
		if len(l.names) == 0 || !commitPattern.MatchString(l.commit) {
			t.Fatalf("%q is accepted as %+v", b, l)
		}
		r := repository{dir: "/cache/models--a--b"}
		for _, n := range l.names {
			if p := r.pointer(l.commit, n); !strings.HasPrefix(p, r.snapshot(l.commit)+"/") || p != filepath.Clean(p) {
				t.Fatalf("%q lies at %s", n, p)
			}
		}
		_, _, _ = chooseModel(l.names)
		_ = checkNumbers(DataFiles(l.names))
	})
}

func FuzzShards(f *testing.F) {
	f.Add([]byte(`{"weight_map": {"lm_head.weight": "a.safetensors", "model.embed_tokens.weight": "b.safetensors"}}`))
	f.Add([]byte(`{"weight_map": {"a": ".."}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := shards(b, false)
		if err != nil {
			return
		}
		for _, name := range all {
			if name != filepath.Base(name) || !filepath.IsLocal(name) {
				t.Fatalf("shard %q", name)
			}
		}
		some, err := shards(b, true)
		if err != nil || len(some) < len(all)-1 && len(some) == 0 {
			t.Fatalf("with the head %q, without %q (%v)", all, some, err)
		}
	})
}

func FuzzFound(f *testing.F) {
	f.Add(`"abc"`, "12")
	f.Add(`W/"../x"`, "-1")
	f.Fuzz(func(t *testing.T, etag, size string) {
		s := &source{size: -1}
		if err := s.found("http://a/b", etag, size); err != nil {
			return
		}
		if s.size < 0 || !isSafe(s.etag) || strings.ContainsAny(s.etag, "/\\") {
			t.Fatalf("ETag %q and size %q are accepted", etag, size)
		}
	})
}
