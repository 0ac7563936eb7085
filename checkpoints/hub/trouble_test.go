package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFetchSurvivesBrokenConnections(t *testing.T) {
	for _, noRanges := range []bool{false, true} {
		t.Run(fmt.Sprintf("noRanges=%v", noRanges), func(t *testing.T) {
			h := newFakeHub(t, tinyModel())
			h.noRanges = noRanges
			if h.breakEvery = 190; noRanges {
				h.breakEvery = 20_000 // sometimes a file comes whole
			}
			h.checkFiles(t, fetchStubbornly(t), "config.json", "tokenizer.json", "model.safetensors")
		})
	}
}

// fetchStubbornly starts again when tries run out.
func fetchStubbornly(t *testing.T) string {
	t.Helper()
	for range 200 {
		folder, err := Fetch(context.Background(), Options{ID: testID})
		if err == nil {
			return folder
		}
		if !unreachable(err) {
			t.Fatal(err)
		}
	}
	t.Fatal("200 downloads failed")
	return ""
}

func TestInterruptedDownloadsEndEqual(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	content := h.files["model.safetensors"]
	stop := errors.New("stopped")
	seen := map[int64]bool{}
	lost := int64(0)
	for i := 0; ; i++ {
		ctx, cancel := context.WithCancelCause(context.Background())
		at := int64(i*401 + 100)
		_, err := Fetch(ctx, Options{ID: testID, Progress: func(done, _ int64) {
			if done >= at {
				cancel(stop)
			}
		}})
		if err == nil {
			break
		}
		if !errors.Is(err, stop) || !strings.Contains(err.Error(), "what has come is kept") {
			t.Fatal(err)
		}
		lost += connections * piece // at most, that were in memory
		partial, err := os.ReadFile(h.blobPath("model.safetensors") + ".incomplete")
		if err == nil {
			if string(partial) != string(content[:len(partial)]) {
				t.Fatalf("the partial file of %d bytes is not the beginning of the file", len(partial))
			}
			seen[int64(len(partial))] = true
		}
		if i > 50 {
			t.Fatal("no end")
		}
	}
	if len(seen) < 3 {
		t.Errorf("interrupted at lengths %v only", seen)
	}
	h.checkFiles(t, fetch(t, Options{}), "config.json", "tokenizer.json", "model.safetensors")
	if sent := h.sent.Load(); sent > int64(len(content))+100+lost {
		t.Errorf("%d bytes were sent for %d", sent, len(content))
	}
}

func TestFetchResumesPartialFiles(t *testing.T) {
	for name, c := range map[string]struct {
		partial func(content []byte) []byte
		sent    int64 // most bytes that may come
	}{
		"beginning": {func(b []byte) []byte { return b[:4990] }, 100},
		"whole":     {func(b []byte) []byte { return b }, 100},
		"too long":  {func(b []byte) []byte { return append(slices.Clone(b), 1) }, 5200},
		"wrong":     {func(b []byte) []byte { return make([]byte, 4000) }, 6200},
		"all wrong": {func(b []byte) []byte { return make([]byte, 5000) }, 5200},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHub(t, tinyModel())
			blob := h.blobPath("model.safetensors")
			if err := os.MkdirAll(filepath.Dir(blob), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(blob+".incomplete", c.partial(h.files["model.safetensors"]), 0o644); err != nil {
				t.Fatal(err)
			}
			h.checkFiles(t, fetch(t, Options{}), "model.safetensors")
			if sent := h.sent.Load(); sent > c.sent {
				t.Errorf("%d bytes were sent, want at most %d", sent, c.sent)
			}
		})
	}
}

func TestServersThatLie(t *testing.T) {
	for name, c := range map[string]struct {
		set   func(h *fakeHub)
		wants []string
	}{
		"larger than said":  {func(h *fakeHub) { h.lieSize = -10 }, []string{"model.safetensors: the hub says that the file has 4990 bytes", "one of 5000"}},
		"smaller than said": {func(h *fakeHub) { h.lieSize = 10 }, []string{"has 5010 bytes", "one of 5000"}},
		"shorter content":   {func(h *fakeHub) { h.shorter = 10 }, []string{"model.safetensors"}},
		"other bytes":       {func(h *fakeHub) { h.corrupt = "model.safetensors" }, []string{"model.safetensors: the content is damaged", "try again later"}},
		"other small bytes": {func(h *fakeHub) { h.corrupt = "config.json" }, []string{"config.json: the content is damaged"}},
	} {
		for _, noRanges := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, noRanges=%v", name, noRanges), func(t *testing.T) {
				h := newFakeHub(t, tinyModel())
				h.noRanges = noRanges
				c.set(h)
				fetchError(t, Options{}, c.wants...)
				if _, err := os.Stat(h.blobPath("model.safetensors")); err == nil && h.corrupt != "config.json" {
					t.Error("the bad content is in the cache")
				}
				if _, err := os.Stat(filepath.Join(filepath.Dir(h.blobPath("")), "../refs/main")); err == nil {
					t.Error("refs/main names a snapshot that is not whole")
				}
				h.change(func() { h.lieSize, h.shorter, h.corrupt = 0, 0, "" })
				h.checkFiles(t, fetch(t, Options{}), "config.json", "tokenizer.json", "model.safetensors")
			})
		}
	}
}

func TestDamageInTransitIsRepaired(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	h.corruptOnce = "model.safetensors"
	piece = 1 << 20
	var notes []string
	folder := fetch(t, Options{Note: func(s string) { notes = append(notes, s) }})
	h.checkFiles(t, folder, "model.safetensors")
	if text := strings.Join(notes, "\n"); !strings.Contains(text, "downloading it again") {
		t.Errorf("notes are %q", text)
	}
}

func answer(status int, header ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, `{"error": "words of\nthe server"}`)
		return true
	}
}

func TestRefusalsNameTheRemedy(t *testing.T) {
	for name, c := range map[string]struct {
		fail  func(http.ResponseWriter, *http.Request) bool
		o     Options
		wants []string
	}{
		"gated":         {answer(403, "X-Error-Code", "GatedRepo"), Options{}, []string{"accept conditions", "account of the token"}},
		"unauthorized":  {answer(401), Options{}, []string{"401", "words of the server", "private", "the token in use", "HF_TOKEN"}},
		"forbidden":     {answer(403, "X-Error-Message", "no"), Options{}, []string{"403 Forbidden: no", "HF_TOKEN"}},
		"no repository": {answer(404, "X-Error-Code", "RepoNotFound"), Options{}, []string{"404", "check the name", "--dataset"}},
		"no dataset":    {answer(404), Options{Dataset: true}, []string{"dataset org/name", "without --dataset"}},
		"no revision":   {answer(404, "X-Error-Code", "RevisionNotFound"), Options{Revision: "v9"}, []string{"org/name at v9", "no branch, tag or commit v9"}},
		"too many":      {answer(429), Options{}, []string{"429", "limits requests"}},
		"far too many":  {answer(429, "Retry-After", "3600"), Options{}, []string{"429", "limits requests"}},
		"in trouble":    {answer(503), Options{}, []string{"503", "try again later"}},
		"login page":    {answer(200), Options{}, []string{"something else than a list", "HF_ENDPOINT"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHub(t, tinyModel())
			h.fail = c.fail
			fetchError(t, c.o, c.wants...)
		})
	}
}

func TestWithoutTokenRefusalsAskForOne(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	t.Setenv("HF_TOKEN", "")
	seen := ""
	h.hub.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization")
		answer(401, "X-Error-Code", "GatedRepo")(w, r)
	})
	fetchError(t, Options{}, "accept conditions", "set HF_TOKEN")
	if seen != "" {
		t.Errorf("Authorization is %q", seen)
	}
	if err := os.WriteFile(filepath.Join(os.Getenv("HF_HOME"), "token"), []byte(testToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fetchError(t, Options{}, "account of the token")
	if seen != "Bearer "+testToken {
		t.Errorf("Authorization is %q with a token file", seen)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	n := 0
	var first, second time.Time
	h.fail = func(w http.ResponseWriter, r *http.Request) bool {
		n++
		if n == 1 {
			first = time.Now()
			return answer(429, "Retry-After", "0.2")(w, r)
		}
		if n == 2 {
			second = time.Now()
		}
		return false
	}
	h.checkFiles(t, fetch(t, Options{}), "model.safetensors")
	if second.Sub(first) < 200*time.Millisecond {
		t.Errorf("asked again after %s", second.Sub(first))
	}
}

func TestExpiredSignaturesAreRenewed(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	n, renewed := 0, 0
	h.storeFail = func(w http.ResponseWriter, r *http.Request) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		n++
		return n%5 == 2 && answer(403)(w, r)
	}
	h.fail = func(_ http.ResponseWriter, r *http.Request) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/model.safetensors") {
			renewed++
		}
		return false
	}
	h.checkFiles(t, fetch(t, Options{}), "model.safetensors")
	if renewed == 0 || renewed > n/2 {
		t.Errorf("%d of %d addresses came from the hub again", renewed, n)
	}
	h.change(func() {
		h.storeFail = answer(403)
		h.commit = strings.Repeat("e", 40)
		h.files["model.safetensors"] = randomBytes(3000)
	})
	fetchError(t, Options{Newest: true}, "model.safetensors", "403")
}

func TestRelativeRedirectsKeepTheToken(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	h.fail = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/org/name/") && !strings.HasPrefix(r.URL.Path, "/api/models/org/name/") {
			return false
		}
		http.Redirect(w, r, strings.Replace(r.URL.Path, "org/name", "new/name", 1), http.StatusTemporaryRedirect)
		return true
	}
	h.checkFiles(t, fetch(t, Options{}), "config.json", "model.safetensors")
}

func TestStalledConnectionsAreLeft(t *testing.T) {
	h := newFakeHub(t, tinyModel())
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	n := 0
	h.storeFail = func(w http.ResponseWriter, r *http.Request) bool {
		h.mu.Lock()
		n++
		stuck := n == 1
		h.mu.Unlock()
		if !stuck {
			return false
		}
		w.Header().Set("Content-Length", "5000")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	}
	piece = 1 << 20
	f, err := newFetcher(Options{ID: testID})
	if err != nil {
		t.Fatal(err)
	}
	f.client.stall = 300 * time.Millisecond
	folder, err := f.fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	h.checkFiles(t, folder, "model.safetensors")
}
