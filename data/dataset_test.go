package data

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// writeGroups makes a cache file of groups from a.jsonl, a row each.
func writeGroups(t testing.TB, vocab int, groups []Group) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cache.groups")
	w, err := Create(path, vocab)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i, g := range groups {
		if err := w.Add(g, "a.jsonl", i+1); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string) *Dataset {
	t.Helper()
	d, err := OpenDataset(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func randomGroups(n int, largest int32) []Group {
	random := rand.New(rand.NewPCG(7, 8))
	groups := make([]Group, n)
	for i := range groups {
		g := randomGroup(random)
		g.Source = fmt.Sprintf("a.jsonl:%d", i+1)
		g.Margin = random.Float64()
		g.Prompt = PromptKey{byte(i / 3)}
		g.Answers[0].Tokens = append(g.Answers[0].Tokens, largest)
		g.Answers[0].Rank = -1.5
		groups[i] = g
	}
	return groups
}

func TestDatasetReturnsWhatWasWritten(t *testing.T) {
	for _, vocab := range []int{1 << 16, 1<<16 + 1} {
		groups := randomGroups(300, int32(vocab-1))
		d := open(t, writeGroups(t, vocab, groups))
		if d.Len() != len(groups) {
			t.Fatalf("%d groups instead of %d", d.Len(), len(groups))
		}
		var wait sync.WaitGroup
		for i, want := range groups {
			wait.Go(func() {
				if got := d.Group(i); !reflect.DeepEqual(got, want) {
					t.Errorf("group %d is %+v instead of %+v", i, got, want)
				}
				for _, share := range []bool{false, true} {
					if got := d.Rows(i, share); got != PackRows(want, share) {
						t.Errorf("group %d: %d rows instead of %d", i, got, PackRows(want, share))
					}
				}
				if d.Prompt(i) != want.Prompt {
					t.Errorf("group %d has the prompt %s", i, d.Prompt(i))
				}
			})
		}
		wait.Wait()
	}
}

func TestTokensOfAGroupAreTheCallers(t *testing.T) {
	d := open(t, writeGroups(t, 100, []Group{group([]int32{1, 2}, []int32{3})}))
	g := d.Group(0)
	g.Answers[0].Tokens = append(g.Answers[0].Tokens, 9)
	g.Answers[0].Tokens[0] = 9
	if want := group([]int32{1, 2}, []int32{3}); !reflect.DeepEqual(d.Group(0).Answers, want.Answers) || g.Answers[1].Tokens[0] != 3 {
		t.Errorf("the tokens changed: %+v %+v", d.Group(0), g)
	}
}

func TestDigestIsOfTheContent(t *testing.T) {
	groups := randomGroups(10, 5)
	one, same := open(t, writeGroups(t, 100, groups)), open(t, writeGroups(t, 100, groups))
	if one.Digest() != same.Digest() || len(one.Digest()) != 64 {
		t.Errorf("digests %s and %s of the same content", one.Digest(), same.Digest())
	}
	for name, change := range map[string]func(){
		"rank":   func() { groups[3].Answers[0].Rank++ },
		"margin": func() { groups[3].Margin++ },
		"token":  func() { groups[9].Answers[0].Tokens[0] ^= 1 },
		"order":  func() { groups[0], groups[1] = groups[1], groups[0] },
	} {
		before := open(t, writeGroups(t, 100, groups)).Digest()
		change()
		if open(t, writeGroups(t, 100, groups)).Digest() == before {
			t.Errorf("another %s has the same digest", name)
		}
	}
	if one.Select([]int{1, 2}).Digest() == one.Select([]int{2, 1}).Digest() {
		t.Error("selections in another order have the same digest")
	}
}

func TestWriterRefusesWhatCannotBeTrainedOn(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "x"), 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for want, g := range map[string]Group{
		"without answers": {},
		"no tokens":       group([]int32{1}, nil),
		"does not fit":    group([]int32{1 << 16}),
		"token id -1":     group([]int32{-1}),
		"rank NaN":        {Answers: []Answer{{[]int32{1}, math.NaN()}}},
		"rank +Inf":       {Answers: []Answer{{[]int32{1}, math.Inf(1)}}},
	} {
		if err := w.Add(g, "rows.jsonl", 7); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "rows.jsonl:7") {
			t.Errorf("%s: error %v", want, err)
		}
	}
}

func TestAFileAppearsWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := Create(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(group([]int32{1}, []int32{2}), "a", 1); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	entries, _ := os.ReadDir(dir)
	if string(text) != "before" || len(entries) != 1 {
		t.Errorf("the file is %q among %v", text, entries)
	}
	if _, err := Create(filepath.Join(dir, "missing", "x"), 10); err == nil {
		t.Error("a file in a missing folder was created")
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	whole, err := os.ReadFile(writeGroups(t, 100, randomGroups(1, 5)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged")
	check := func(what string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		d, err := OpenDataset(path)
		if err == nil {
			d.Close()
			t.Fatalf("%s: no error", what)
		}
		if !strings.Contains(err.Error(), path) {
			t.Fatalf("%s: the error names no file: %v", what, err)
		}
	}
	for i := range whole {
		damaged := append([]byte(nil), whole...)
		damaged[i] ^= 0x10
		check(fmt.Sprintf("byte %d", i), damaged)
		check(fmt.Sprintf("%d bytes", i), whole[:i])
	}
	check("a byte more", append(whole, 0))
	if _, err := OpenDataset(t.TempDir()); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := OpenDataset(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file was opened")
	}
}

func TestSelectionsOutliveWhatTheySelectFrom(t *testing.T) {
	groups := randomGroups(9, 5)
	d, err := OpenDataset(writeGroups(t, 100, groups))
	if err != nil {
		t.Fatal(err)
	}
	part := d.Select([]int{8, 2, 4})
	d.Close()
	d.Close()
	again := part.Select([]int{2, 0})
	part.Close()
	if again.Len() != 2 || !reflect.DeepEqual(again.Group(0), groups[4]) || !reflect.DeepEqual(again.Group(1), groups[8]) {
		t.Errorf("selected %+v", again)
	}
	if got := again.Rows(1, true); got != PackRows(groups[8], true) {
		t.Errorf("%d rows", got)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzOpenDataset(f *testing.F) {
	whole, err := os.ReadFile(writeGroups(f, 100, randomGroups(3, 5)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:headerSize])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := decodeHeader(raw)
		if err == nil && h.fileSize() == uint64(len(raw)) {
			// A file of ours in which anything may be wrong but the checksum.
			h.checksum = checksumOf(raw[headerSize:])
			copy(raw, h.encode())
		}
		m, err := parse(raw)
		if err != nil {
			return
		}
		d := &Dataset{m: m}
		for i := range d.Len() {
			g := d.Group(i)
			if len(g.Answers) == 0 || len(g.Answers[0].Tokens) == 0 {
				t.Errorf("group %d: %+v", i, g)
			}
		}
	})
}

func TestFilesOfDeadWritersAreRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.groups")
	live, err := Create(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	old := time.Now().Add(-time.Hour)
	for name, stays := range map[string]bool{live.file.Name(): true, path + ".tmp1": false, path + ".tmp2": true, path + "x.tmp1": true} {
		if name != live.file.Name() {
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if name != path+".tmp2" { // which is new
			if err := os.Chtimes(name, old, old); err != nil {
				t.Fatal(err)
			}
		}
		w, err := Create(path, 10)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if _, err := os.Stat(name); (err == nil) != stays {
			t.Errorf("%s: stat says %v", name, err)
		}
	}
}
