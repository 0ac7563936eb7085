package checkpoints

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHubCacheIsFoundByIDAndByFolder(t *testing.T) {
	hub := t.TempDir()
	model := filepath.Join(hub, "hub", "models--acme--tiny-llama")
	put(t, filepath.Join(model, "refs", "main"), []byte("abc123\n"))
	snapshot := filepath.Join(model, "snapshots", "abc123")
	if err := os.CopyFS(snapshot, os.DirFS(golden+"base")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(model, "snapshots", "old", "config.json"), []byte("{}"))
	for _, env := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"} {
		t.Setenv(env, "")
	}
	home := t.TempDir()
	if err := os.CopyFS(filepath.Join(home, ".cache", "huggingface", "hub", "models--gpt"), os.DirFS(model)); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ env, value, model, want string }{
		{"HF_HOME", hub, "acme/tiny-llama", snapshot},
		{"HF_HUB_CACHE", filepath.Join(hub, "hub"), "acme/tiny-llama", snapshot},
		{"HOME", home, "gpt", filepath.Join(home, ".cache", "huggingface", "hub", "models--gpt", "snapshots", "abc123")},
		{"HOME", home, model, snapshot},
		{"HOME", home, snapshot, snapshot},
	}
	for _, c := range tests {
		t.Run(c.env+" "+filepath.Base(c.model), func(t *testing.T) {
			t.Setenv(c.env, c.value)
			got, err := Resolve(c.model)
			if err != nil || got != c.want {
				t.Fatalf("Resolve: %q, %v, want %q", got, err, c.want)
			}
			if d := mustOpen(t, c.model); d.Path != c.want {
				t.Errorf("Open: path %q", d.Path)
			}
		})
	}
	t.Setenv("HF_HOME", hub)
	_, err := Resolve("acme/other")
	wantError(t, err, "acme/other", filepath.Join(hub, "hub"), "rmtrain download acme/other")
	_, err = Resolve("./acme/other")
	wantError(t, err, "no such folder")
	_, err = Resolve("")
	wantError(t, err, "empty")
	put(t, filepath.Join(model, "refs", "main"), []byte("gone"))
	_, err = Open("acme/tiny-llama")
	wantError(t, err, "snapshot gone", "missing")
	put(t, filepath.Join(model, "refs", "main"), []byte("../../secret"))
	_, err = Open("acme/tiny-llama")
	wantError(t, err, "not a revision")
	if err := os.RemoveAll(filepath.Join(model, "refs")); err != nil {
		t.Fatal(err)
	}
	_, err = Open("acme/tiny-llama")
	wantError(t, err, "2 snapshots")
}

func TestFoldersThatHoldNoModelAreExplained(t *testing.T) {
	run := t.TempDir()
	for _, step := range []int{20, 100} {
		if _, err := SaveState(run, step, []byte(`{}`), nil); err != nil {
			t.Fatal(err)
		}
	}
	loose := folder(t, `{}`)
	put(t, filepath.Join(loose, "a.pt"), nil)
	put(t, filepath.Join(loose, "b.bin"), nil)
	put(t, filepath.Join(loose, "optimizer.pt"), nil)
	noIndex := folder(t, `{}`)
	put(t, filepath.Join(noIndex, "model-00001-of-00002.safetensors"), nil)
	interrupted := copyFolder(t, golden+"base")
	put(t, filepath.Join(interrupted, incompleteName), nil)
	adapter := t.TempDir()
	put(t, filepath.Join(adapter, "adapter_config.json"), nil)
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, nil)
	tests := []struct {
		path string
		want []string
	}{
		{run, []string{"no final model is here yet", "2 training states", "checkpoint-100"}},
		{filepath.Join(run, "checkpoint-20"), []string{"training state, not a model"}},
		{t.TempDir(), []string{"no config.json"}},
		{folder(t, `{}`), []string{"no weights", safeName, torchName}},
		{loose, []string{"several files", "a.pt, b.bin"}},
		{noIndex, []string{"1 shards", safeIndexName}},
		{interrupted, []string{"interrupted"}},
		{adapter, []string{"LoRA adapter"}},
		{file, []string{"is a file, not a folder"}},
	}
	for _, c := range tests {
		_, err := Open(c.path)
		wantError(t, err, append(c.want, c.path)...)
	}
}

func TestOnlyTorchFileOfAFolderIsTheModel(t *testing.T) {
	dir := copyFolder(t, golden+"starling-7b")
	if err := os.Rename(filepath.Join(dir, torchName), filepath.Join(dir, "reward.pt")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "training_args.bin"), nil)
	put(t, filepath.Join(dir, "optimizer.pt"), nil)
	if err := mustOpen(t, dir).Check(goldenWant()); err != nil {
		t.Error(err)
	}
}

func TestShardsAreCheckedAgainstTheIndex(t *testing.T) {
	second := "model-00002-of-00003.safetensors"
	tests := []struct {
		name string
		harm func(t *testing.T, dir string)
		want []string
	}{
		{"missing shard", func(t *testing.T, dir string) { remove(t, dir, second) }, []string{"1 of 3 shards are missing", second}},
		{"truncated shard", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, second), 1000); err != nil {
				t.Fatal(err)
			}
		}, []string{second, "truncated"}},
		{"tensor in another shard", func(t *testing.T, dir string) {
			edit(t, dir, safeIndexName, `"model.norm.weight": "model-00003`, `"model.norm.weight": "model-00001`)
		}, []string{"another shard", "model.norm.weight (in model-00003-of-00003.safetensors, not in model-00001"}},
		{"tensor in no shard", func(t *testing.T, dir string) {
			edit(t, dir, safeIndexName, `"model.norm.weight"`, `"model.more.weight"`)
		}, []string{"no shard holds", "model.more.weight"}},
		{"path in index", func(t *testing.T, dir string) {
			edit(t, dir, safeIndexName, `"model.norm.weight": "model`, `"model.norm.weight": "../model`)
		}, []string{"not the name of a file"}},
		{"same tensor twice", func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, second))
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, "model-00001-of-00003.safetensors"), b)
		}, []string{"is in both"}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			dir := copyFolder(t, golden+"sharded")
			c.harm(t, dir)
			_, err := Open(dir)
			wantError(t, err, c.want...)
		})
	}
	dir := copyFolder(t, golden+"sharded")
	put(t, filepath.Join(dir, "model-00001-of-00009.safetensors"), nil)
	if notes := strings.Join(mustOpen(t, dir).Notes, "\n"); !strings.Contains(notes, "model-00001-of-00009.safetensors") {
		t.Errorf("notes %q do not name the stray shard", notes)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, dir, name, from, to string) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(from)) {
		t.Fatalf("%s does not contain %q", name, from)
	}
	put(t, path, bytes.ReplaceAll(b, []byte(from), []byte(to)))
}

// trunkOf is a trunk of one tensor, which is enough to find its prefix.
func trunkOf(prefix string) map[string]saved {
	return map[string]saved{prefix + "embed_tokens.weight": {"F32", []int{2, 2}, floats(1, 2, 3, 4)}}
}

func TestTrunkAndHeadAreFoundUnderEveryName(t *testing.T) {
	head := saved{"F32", []int{1, 2}, floats(5, 6)}
	tests := []struct {
		prefix, head, dialect string
	}{
		{"model.", "score.weight", HuggingFace},
		{"", "score.weight", HuggingFace},
		{"transformer.", "v_head.weight", Starling},
		{"model.", "v_head.weight", Starling},
		{"model.model.", "v_head.weight", Starling},
		{"model.", "value_head.weight", HuggingFace},
		{"model.", "v_head.summary.weight", HuggingFace},
		{"transformer.", "", Base},
		{"", "", Base},
	}
	for _, c := range tests {
		for _, flat := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s* %s %v", c.prefix, c.head, flat), func(t *testing.T) {
				dir := folder(t, `{}`)
				tensors := trunkOf(c.prefix)
				if c.head != "" {
					h := head
					if flat {
						h.shape = []int{2}
					}
					tensors[c.head] = h
				}
				save(t, filepath.Join(dir, safeName), tensors)
				d := mustOpen(t, dir)
				want := []Want{{Name: embedName, Shape: []int{2, 2}}, {Name: headName, Shape: []int{1, 2}, Optional: c.head == ""}}
				if err := d.Check(want); err != nil {
					t.Fatal(err)
				}
				if d.Dialect != c.dialect {
					t.Errorf("dialect %s, want %s", d.Dialect, c.dialect)
				}
				if all := readAll(t, d, "F32"); c.head != "" && !bytes.Equal(all[headName], head.data) || !bytes.Equal(all[embedName], floats(1, 2, 3, 4)) {
					t.Errorf("values %v", all)
				}
			})
		}
	}
}

func TestHeadsAreNeverGuessed(t *testing.T) {
	head := func(labels int) saved { return saved{"F32", []int{labels, 2}, make([]byte, 8*labels)} }
	open := func(t *testing.T, config string, more map[string]saved) (*Dir, error) {
		dir := folder(t, config)
		tensors := trunkOf("model.")
		for name, x := range more {
			tensors[name] = x
		}
		save(t, filepath.Join(dir, safeName), tensors)
		d, err := Open(dir)
		if err == nil {
			t.Cleanup(func() { d.Close() })
		}
		return d, err
	}
	want := []Want{{Name: embedName, Shape: []int{2, 2}}, {Name: headName, Shape: []int{1, 2}, Optional: true}}

	_, err := open(t, `{}`, map[string]saved{"score.weight": head(1), "v_head.weight": head(1)})
	wantError(t, err, "several value heads", "score.weight, v_head.weight")

	_, err = open(t, `{}`, map[string]saved{"v_head.summary.weight": head(1), "v_head.summary.bias": {"F32", []int{1}, floats(0.5)}})
	wantError(t, err, "v_head.summary.bias is not zero")

	d, err := open(t, `{}`, map[string]saved{"score.weight": head(1), "score.bias": {"F32", []int{1}, floats(0)}})
	if err != nil || !strings.Contains(strings.Join(d.Notes, ""), "score.bias is zero") {
		t.Errorf("a zero bias: %v", err)
	}

	d, err = open(t, `{}`, map[string]saved{"score.weight": head(3)})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, d.Check(want), "1 misshapen", "a head of 3 labels")

	d, err = open(t, `{"architectures": ["LlamaForSequenceClassification"]}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, d.Check(want), "1 missing: score.weight [1 2]")
}

func TestHeadBesideTheModelIsRead(t *testing.T) {
	dir := copyFolder(t, golden+"base")
	save(t, filepath.Join(dir, valueHeadName), map[string]saved{
		"v_head.summary.weight": {"F32", []int{1, 8}, floats(0, 1, 2, 3, 4, 5, 6, 7)},
		"v_head.summary.bias":   {"F32", []int{1}, floats(0)},
	})
	d := mustOpen(t, dir)
	if err := d.Check(goldenWant()); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, d, "F32")[headName]; !bytes.Equal(got, floats(0, 1, 2, 3, 4, 5, 6, 7)) {
		t.Errorf("head %v", got)
	}
}

func TestTiedEmbeddingIsFoundUnderEitherName(t *testing.T) {
	embed := saved{"F32", []int{2, 2}, floats(1, 2, 3, 4)}
	other := saved{"F32", []int{2, 2}, floats(9, 9, 9, 9)}
	tests := []struct {
		name, config string
		tensors      map[string]saved
		want, note   string
	}{
		{"only lm_head, tied", `{"tie_word_embeddings": true}`, map[string]saved{"lm_head.weight": embed}, "", "is the embedding"},
		{"only embedding, tied", `{"tie_word_embeddings": true}`, map[string]saved{embedName: embed}, "", ""},
		{"both: the embedding wins", `{"tie_word_embeddings": true}`, map[string]saved{"lm_head.weight": other, embedName: embed}, "", "left out"},
		{"only lm_head, untied", `{"tie_word_embeddings": false}`, map[string]saved{"lm_head.weight": embed}, "does not tie them", ""},
		{"only lm_head, unsaid", `{}`, map[string]saved{"lm_head.weight": embed}, "does not tie them", ""},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, c.config)
			save(t, filepath.Join(dir, safeName), c.tensors)
			d, err := Open(dir)
			if c.want != "" {
				wantError(t, err, c.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if got := readAll(t, d, "F32")[embedName]; !bytes.Equal(got, embed.data) {
				t.Errorf("embedding %v", got)
			}
			if notes := strings.Join(d.Notes, ""); !strings.Contains(notes, c.note) {
				t.Errorf("notes %q do not say %q", notes, c.note)
			}
		})
	}
}

func TestCheckListsEveryTensorThatIsWrong(t *testing.T) {
	d := mustOpen(t, golden+"base")
	want := goldenWant()
	want = append(want, Want{Name: "model.layers.2.mlp.up_proj.weight", Shape: []int{12, 8}}, Want{Name: "model.layers.0.self_attn.q_proj.bias", Shape: []int{8}})
	want[1].Shape = []int{9}               // the norm
	want = append(want[:0:0], want[1:]...) // without the embedding
	err := d.Check(want)
	wantError(t, err, "2 missing: model.layers.2.mlp.up_proj.weight [12 8], model.layers.0.self_attn.q_proj.bias [8]",
		"1 extra: model.embed_tokens.weight [16 8]", "1 misshapen: model.norm.weight is [8], not [9]")
}

func TestCheckCountsWhatIsTooMuchToList(t *testing.T) {
	d := mustOpen(t, golden+"base")
	var want []Want
	for i := range 25 {
		want = append(want, Want{Name: fmt.Sprintf("model.layers.%d.x", i), Shape: []int{1}})
	}
	err := d.Check(append(want, goldenWant()...))
	wantError(t, err, "25 missing", "model.layers.19.x", "and 5 more")
	if strings.Contains(err.Error(), "layers.20.x") {
		t.Errorf("error lists too much: %v", err)
	}
}

func TestSecondTrunkThatDiffersIsNotACopy(t *testing.T) {
	dir := folder(t, `{}`)
	tensors := trunkOf("model.")
	tensors["transformer.embed_tokens.weight"] = saved{"F32", []int{3, 2}, make([]byte, 24)}
	save(t, filepath.Join(dir, safeName), tensors)
	d := mustOpen(t, dir)
	wantError(t, d.Check([]Want{{Name: embedName, Shape: []int{2, 2}}}), "1 extra: transformer.embed_tokens.weight [3 2]")
}

func TestHeadFileTakesOneTensor(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name    string
		tensors map[string]saved
		want    string
	}{
		{"row", map[string]saved{"w": {"F32", []int{1, 2}, floats(1, 2)}}, ""},
		{"vector in bf16", map[string]saved{"w": {"BF16", []int{2}, []byte{0x80, 0x3f, 0, 0x40}}}, ""},
		{"two tensors", map[string]saved{"a": ones(2), "b": ones(2)}, "2 tensors"},
		{"column", map[string]saved{"w": {"F32", []int{2, 1}, floats(1, 2)}}, "shape [2 1]"},
		{"other size", map[string]saved{"w": ones(3)}, "needs [1 2]"},
		{"integers", map[string]saved{"w": {"I32", []int{2}, make([]byte, 8)}}, "I32"},
		{"not a number", map[string]saved{"w": {"BF16", []int{2}, []byte{0xc0, 0x7f, 0, 0}}}, "element 0 is NaN"},
	}
	for _, c := range tests {
		path := filepath.Join(dir, c.name+".safetensors")
		save(t, path, c.tensors)
		head, err := HeadFile(path, 2)
		if c.want != "" {
			wantError(t, err, c.want, path)
			continue
		}
		if err != nil || len(head) != 2 || head[0] != 1 || head[1] != 2 {
			t.Errorf("%s: %v, %v", c.name, head, err)
		}
	}
	_, err := HeadFile(filepath.Join(dir, "absent"), 2)
	wantError(t, err, "absent")
}
