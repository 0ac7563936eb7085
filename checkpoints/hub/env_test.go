package hub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnvironment(t *testing.T) {
	home := t.TempDir()
	for name, c := range map[string]struct {
		set   map[string]string
		cache string
	}{
		"nothing":              {nil, home + "/.cache/huggingface/hub"},
		"XDG_CACHE_HOME":       {map[string]string{"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"},
		"HF_HOME":              {map[string]string{"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"},
		"HF_HOME with ~":       {map[string]string{"HF_HOME": "~/h"}, home + "/h/hub"},
		"HF_HOME with $":       {map[string]string{"HF_HOME": "$HOME/h"}, home + "/h/hub"},
		"the old name":         {map[string]string{"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"},
		"HF_HUB_CACHE is last": {map[string]string{"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/c"}, "/c"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HOME", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"} {
				t.Setenv(v, c.set[v])
			}
			t.Setenv("HOME", home)
			e, err := readEnvironment()
			if err != nil || e.caches[0] != c.cache || e.endpoint != "https://huggingface.co" {
				t.Errorf("%+v (%v), want cache %s", e, err, c.cache)
			}
		})
	}
}

func TestBadEnvironmentIsRefused(t *testing.T) {
	newFakeHub(t, tinyModel())
	t.Setenv("HF_TOKEN", "two secret words")
	fetchError(t, Options{}, "HF_TOKEN holds something that is not a token")
	t.Setenv("HF_TOKEN", testToken)
	t.Setenv("HF_ENDPOINT", "hub.example")
	fetchError(t, Options{}, `HF_ENDPOINT is "hub.example"`)
	if _, err := Fetch(t.Context(), Options{ID: "../x"}); err == nil || !strings.Contains(err.Error(), "not the name of a repository") {
		t.Errorf("a path as id gives %v", err)
	}
	fetchError(t, Options{Revision: "../../x"}, "not a revision")
}

func TestOldCachesAreRead(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	folder := fetch(t, Options{})
	home := os.Getenv("HF_HOME")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, "xdg"))
	if err := os.MkdirAll(filepath.Join(home, "xdg", "huggingface"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(home, "hub"), filepath.Join(home, "xdg", "huggingface", "hub")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HF_HOME", filepath.Join(home, "new"))
	lists := h.lists
	if got, want := fetch(t, Options{}), strings.Replace(folder, home, filepath.Join(home, "xdg", "huggingface"), 1); got != want || h.lists != lists {
		t.Errorf("%s, want %s", got, want)
	}
}
