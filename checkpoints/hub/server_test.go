package hub

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	testID     = "org/name"
	testCommit = "0123456789abcdef0123456789abcdef01234567"
	testToken  = "hf_secret"
)

// A fakeHub is a hub and, on another port, the store that it redirects large files
// to.
type fakeHub struct {
	t          *testing.T
	hub, store *httptest.Server

	mu sync.Mutex // of what follows
	behaviour
	asked map[string]int // GETs of contents, by name
	heads int
	lists int
	sent  atomic.Int64 // bytes of contents
}

// A behaviour is what a fake hub has, and how it misbehaves.
type behaviour struct {
	files       map[string][]byte
	commit      string
	breakEvery  int  // cut every answer after at most that many bytes
	noRanges    bool // send whole files always
	lieSize     int64
	shorter     int64 // bytes that contents lack at their end
	corrupt     string
	corruptOnce string
	fail        func(w http.ResponseWriter, r *http.Request) bool // answers by itself
	storeFail   func(w http.ResponseWriter, r *http.Request) bool
}

// largeFile is from where on the fake hub redirects.
const largeFile = 1000

func newFakeHub(t *testing.T, files map[string][]byte) *fakeHub {
	t.Helper()
	h := &fakeHub{t: t, behaviour: behaviour{files: files, commit: testCommit}, asked: map[string]int{}}
	h.store = httptest.NewServer(http.HandlerFunc(h.serveStore))
	h.hub = httptest.NewServer(http.HandlerFunc(h.serveHub))
	t.Cleanup(h.hub.Close)
	t.Cleanup(h.store.Close)
	home := t.TempDir()
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
		"HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DISABLE_IMPLICIT_TOKEN"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	t.Setenv("HF_HOME", home)
	t.Setenv("HF_ENDPOINT", h.hub.URL)
	t.Setenv("HF_TOKEN", testToken)
	hurry(t, 200)
	return h
}

// hurry makes pauses short and pieces small.
func hurry(t *testing.T, pieceBytes int64) {
	p, first, longest := piece, firstPause, longestPause
	piece, firstPause, longestPause = pieceBytes, time.Microsecond, time.Millisecond
	t.Cleanup(func() { piece, firstPause, longestPause = p, first, longest })
}

// change changes the hub's fields, which answers to forgotten requests may be reading.
func (h *fakeHub) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// now returns the fields as they are.
func (h *fakeHub) now() behaviour {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.behaviour
	b.files = maps.Clone(b.files)
	return b
}

func (h *fakeHub) serveHub(w http.ResponseWriter, r *http.Request) {
	if got := r.Header.Get("Authorization"); got != "Bearer "+testToken {
		h.t.Errorf("%s %s: Authorization is %q", r.Method, r.URL, got)
	}
	b := h.now()
	if b.fail != nil && b.fail(w, r) {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/") {
		h.serveList(w, b)
		return
	}
	_, name, ok := strings.Cut(r.URL.Path, "/resolve/"+b.commit+"/")
	content, exists := b.files[name]
	if !ok || !exists {
		w.Header().Set("X-Error-Code", "EntryNotFound")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("X-Repo-Commit", b.commit)
	if len(content) < largeFile {
		w.Header().Set("ETag", `"`+etagOf(content)+`"`)
		h.count(r, name)
		h.serveContent(w, r, name, b)
		return
	}
	w.Header().Set("X-Linked-Etag", `"`+etagOf(content)+`"`)
	w.Header().Set("X-Linked-Size", fmt.Sprint(int64(len(content))+b.lieSize))
	h.count(r, "")
	http.Redirect(w, r, h.store.URL+"/"+name+"?signature=secret", http.StatusFound)
}

func (h *fakeHub) count(r *http.Request, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Method == http.MethodHead {
		h.heads++
	} else if name != "" {
		h.asked[name]++
	}
}

func (h *fakeHub) serveList(w http.ResponseWriter, b behaviour) {
	h.change(func() { h.lists++ })
	type sibling struct {
		Name string `json:"rfilename"`
	}
	var s []sibling
	for name := range b.files {
		s = append(s, sibling{name})
	}
	json.NewEncoder(w).Encode(map[string]any{"sha": b.commit, "siblings": s})
}

func (h *fakeHub) serveStore(w http.ResponseWriter, r *http.Request) {
	if got := r.Header.Get("Authorization"); got != "" {
		h.t.Errorf("the token went to the store: %q", got)
	}
	b := h.now()
	if b.storeFail != nil && b.storeFail(w, r) {
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	h.count(r, name)
	h.serveContent(w, r, name, b)
}

func (h *fakeHub) serveContent(w http.ResponseWriter, r *http.Request, name string, b behaviour) {
	content := b.files[name]
	if len(content) >= largeFile {
		content = content[:int64(len(content))-b.shorter]
	}
	if r.Method == http.MethodGet && (name == b.corrupt || name == b.corruptOnce) {
		content = slices.Clone(content)
		content[len(content)/2] ^= 1
		h.change(func() { h.corruptOnce = "" })
	}
	if b.noRanges {
		r.Header.Del("Range")
	}
	http.ServeContent(&breaking{ResponseWriter: w, hub: h, left: b.cut()}, r, "", time.Time{}, bytes.NewReader(content))
}

// cut is after how many bytes the next answer breaks.
func (b behaviour) cut() int {
	if b.breakEvery == 0 {
		return 1 << 30
	}
	return rand.N(b.breakEvery) + 1
}

// A breaking writer drops the connection at some byte.
type breaking struct {
	http.ResponseWriter
	hub  *fakeHub
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	cut := min(len(p), b.left)
	n, err := b.ResponseWriter.Write(p[:cut])
	b.hub.sent.Add(int64(n))
	b.left -= n
	if err == nil && b.left == 0 && cut < len(p) {
		b.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func etagOf(content []byte) string {
	if len(content) < largeFile {
		sum := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(content)), content...))
		return hex.EncodeToString(sum[:])
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	r.Read(b)
	return b
}

func tinyModel() map[string][]byte {
	return map[string][]byte{
		"config.json":       []byte(`{"model_type": "llama"}`),
		"tokenizer.json":    []byte(`{"version": "1.0"}`),
		"model.safetensors": randomBytes(5000),
		"pytorch_model.bin": randomBytes(4000),
		"README.md":         []byte("# Card"),
	}
}

// checkFiles compares a snapshot with the hub's files of these names, byte for byte.
func (h *fakeHub) checkFiles(t *testing.T, folder string, names ...string) {
	t.Helper()
	for _, name := range names {
		got, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Error(err)
		} else if string(got) != string(h.files[name]) {
			t.Errorf("%s differs from the hub's", name)
		}
	}
	partial, _ := filepath.Glob(filepath.Join(folder, "../../blobs/*.incomplete"))
	if len(partial) > 0 {
		t.Errorf("partial files remain: %q", partial)
	}
}
