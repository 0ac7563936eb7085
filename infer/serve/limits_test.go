package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLimitsHaveTheirStatus(t *testing.T) {
	s := newTestServer(t, func(o *Options) {
		o.Limits.BodyBytes, o.Limits.Inputs = 4000, 3
	})
	strict := newTestServer(t, func(o *Options) { o.Limits.RefuseTooLong = true })
	long := strings.Repeat("word ", 60)
	for _, c := range []struct {
		name, path, body string
		server           *Server
		status           int
		text             string
	}{
		{"bytes", "/classify", `{"input":"` + strings.Repeat("a", 4000) + `"}`, s, 413, "more than 4000"},
		{"inputs", "/classify", `{"input":["a","b","c","d"]}`, s, 422, "4 inputs, more than the 3"},
		{"inputs of TEI", "/predict", `{"inputs":[["a"],["b"],["c"],["d"]]}`, s, 413, `"error_type":"validation"`},
		{"documents", "/rerank", `{"query":"a","documents":["a","b","c","d"]}`, s, 422, "4 inputs"},
		{"rows of tokens", "/v2/models/tiny/infer", `{"inputs":[{"name":"tokens","datatype":"INT64","shape":[4,1],"data":[1,1,1,1]},{"name":"sequence_lengths","datatype":"INT64","shape":[4,1],"data":[1,1,1,1]}]}`, s, 422, "4 inputs"},
		{"tokens", "/classify", `{"input":"` + long + `"}`, strict, 422, "tokens, more than 48"},
		{"tokens, of TEI", "/predict", `{"inputs":"` + long + `"}`, strict, 413, "more than 48"},
		{"tokens, truncation asked for", "/classify", `{"input":"` + long + `","truncate_prompt_tokens":-1}`, strict, 200, "probs"},
		{"tokens, truncation asked for of TEI", "/predict", `{"inputs":"` + long + `","truncate":true}`, strict, 200, "score"},
		{"tokens, truncated by default", "/classify", `{"input":"` + long + `"}`, s, 200, `"prompt_tokens":48`},
		{"all within", "/classify", `{"input":["a","b","c"]}`, s, 200, "probs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ask(c.server, "POST", c.path, c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
				t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
		})
	}
	if w := ask(s, "POST", "/classify", "x", "Content-Encoding", "gzip"); w.Code != 415 {
		t.Errorf("a compressed body: status %d", w.Code)
	}
}

// A body whose size nobody announced is bounded too.
func TestBodiesWithoutALengthAreBounded(t *testing.T) {
	s := newTestServer(t, func(o *Options) { o.Limits.BodyBytes = 4000 })
	srv := httptest.NewServer(s)
	defer srv.Close()
	body := io.MultiReader(strings.NewReader(`{"input":"`), strings.NewReader(strings.Repeat("a", 8000)), strings.NewReader(`"}`))
	resp, err := http.Post(srv.URL+"/classify", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestAFullQueueSaysWhenToTryAgain(t *testing.T) {
	s, st := staged(t, func(o *Options) { o.Limits.Queue, o.Limits.Inputs = 2, 2 })
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { rewards(s, "first") })
	<-st.entered
	wg.Go(func() { rewards(s, "a", "b") })
	waitFor(t, func() bool { n, _ := s.engine.queue.waiting(); return n == 2 })
	for path, body := range map[string]string{"/classify": `{"input":"c"}`, "/predict": `{"inputs":"c"}`, "/get_reward": `{"query":["c"]}`} {
		w := ask(s, "POST", path, body)
		if w.Code != 429 || atoi(t, w.Header().Get("Retry-After")) < 1 {
			t.Errorf("%s: status %d, Retry-After %q", path, w.Code, w.Header().Get("Retry-After"))
		}
	}
	st.leave <- struct{}{}
	st.leave <- struct{}{}
}

func TestTooManyBytesInWorkAreRefused(t *testing.T) {
	s, st := staged(t, func(o *Options) { o.Limits.BodyBytes, o.Limits.PendingBytes = 100, 150 })
	var wg sync.WaitGroup
	defer wg.Wait()
	body := `{"query":["` + strings.Repeat("a", 80) + `"]}`
	wg.Go(func() { ask(s, "POST", "/get_reward", body) })
	<-st.entered
	if w := ask(s, "POST", "/get_reward", body); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	st.leave <- struct{}{}
	wg.Wait()
	st.leave <- struct{}{}
	if w := ask(s, "POST", "/get_reward", body); w.Code != 200 {
		t.Errorf("with nothing in work: status %d", w.Code)
	}
}

func TestTimeIsLimited(t *testing.T) {
	s, st := staged(t, func(o *Options) { o.Limits.RequestTime = 50 * time.Millisecond })
	w := ask(s, "POST", "/classify", `{"input":"a"}`)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	st.leave <- struct{}{}
}

func TestASlowBodyIsGivenUp(t *testing.T) {
	s := newTestServer(t, func(o *Options) { o.Limits.TransferTime = 100 * time.Millisecond })
	srv := httptest.NewServer(s)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 408 || !resp.Close {
		t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
	}
	if s.pending.used != 0 {
		t.Errorf("%d bytes are still counted", s.pending.used)
	}
}

// Clients that hang up leave the queue before their turn comes.
func TestVanishedClientsFreeTheirPlace(t *testing.T) {
	s, st := staged(t, nil)
	srv := httptest.NewServer(s)
	defer srv.Close()
	var wg sync.WaitGroup
	wg.Go(func() { rewards(s, "first") })
	<-st.entered
	ctx, hangUp := context.WithCancel(context.Background())
	for i := range 100 {
		wg.Go(func() {
			body := fmt.Sprintf(`{"query":["%d","a","b"]}`, i)
			r, err := http.NewRequestWithContext(ctx, "POST", srv.URL+"/get_reward", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := http.DefaultClient.Do(r); err == nil {
				resp.Body.Close()
				t.Errorf("status %d for a client that hung up", resp.StatusCode)
			}
		})
	}
	waitFor(t, func() bool { n, _ := s.engine.queue.waiting(); return n == 300 })
	hangUp()
	waitFor(t, func() bool { n, _ := s.engine.queue.waiting(); return n == 0 })
	st.leave <- struct{}{}
	st.leave <- struct{}{}
	wg.Wait()
	if got, code := rewards(s, "a"); code != 200 || len(got) != 1 {
		t.Errorf("afterwards: status %d, rewards %v", code, got)
	}
	if n := len(st.entered); n != 1 {
		t.Errorf("%d batches after the first, want only the last request", n)
	}
	text := ask(s, "GET", "/metrics", "").Body.String()
	if !strings.Contains(text, `rmtrain_failures_total{reason="gone"} 100`) {
		t.Error("/metrics does not count the 100 that went away")
	}
}

func TestOnlyKeysOpen(t *testing.T) {
	keys, err := ReadKeys(strings.NewReader("# ours\nsecret-1\n\n  secret-2\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(t, func(o *Options) { o.Keys = keys })
	for _, c := range []struct {
		header, value string
		status        int
	}{
		{"Authorization", "Bearer secret-1", 200}, {"Authorization", "bearer secret-2", 200}, {"X-API-Key", "secret-2", 200},
		{"Authorization", "Bearer secret-3", 401}, {"Authorization", "secret-1", 401}, {"Authorization", "Bearer ", 401},
		{"Authorization", "Basic secret-1", 401}, {"X-API-Key", "# ours", 401}, {"X-API-Key", "", 401}, {"Cookie", "secret-1", 401},
	} {
		if w := ask(s, "POST", "/classify", `{"input":"a"}`, c.header, c.value); w.Code != c.status {
			t.Errorf("%s: %s: status %d, want %d", c.header, c.value, w.Code, c.status)
		}
	}
	for _, rt := range routes() {
		method, path, _ := strings.Cut(rt.pattern, " ")
		w := ask(s, method, path, "{}")
		if got := w.Code == 401; got == rt.open {
			t.Errorf("%s without a key: status %d", rt.pattern, w.Code)
		}
		if w.Code == 401 && w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: no WWW-Authenticate", rt.pattern)
		}
	}
	next, err := ReadKeys(strings.NewReader("secret-4"))
	if err != nil {
		t.Fatal(err)
	}
	keys.Replace(next)
	for key, status := range map[string]int{"secret-1": 401, "secret-4": 200} {
		if w := ask(s, "GET", "/v1/models", "", "X-API-Key", key); w.Code != status {
			t.Errorf("%s after the change of keys: status %d, want %d", key, w.Code, status)
		}
	}
	for _, bad := range []string{"", "# none\n", "two words\n", strings.Repeat("a", 1<<20)} {
		if _, err := ReadKeys(strings.NewReader(bad)); err == nil {
			t.Errorf("a file of %d bytes without a usable key is accepted", len(bad))
		}
	}
}

func TestOtherMachinesNeedAKey(t *testing.T) {
	keys, err := ReadKeys(strings.NewReader("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address string
		keys    *Keys
		allow   bool
		ok      bool
	}{
		{"127.0.0.1:8000", nil, false, true}, {"localhost:0", nil, false, true}, {"[::1]:80", nil, false, true}, {"127.9.9.9:1", nil, false, true},
		{"0.0.0.0:8000", nil, false, false}, {":8000", nil, false, false}, {"[::]:8000", nil, false, false}, {"192.168.1.1:8000", nil, false, false}, {"example.org:1", nil, false, false},
		{"0.0.0.0:8000", keys, false, true}, {":8000", nil, true, true},
		{"8000", keys, true, false}, {"", nil, true, false},
	} {
		if err := CheckAddress(c.address, c.keys, c.allow); (err == nil) != c.ok {
			t.Errorf("%q, keys %v, allowed %v: %v", c.address, c.keys != nil, c.allow, err)
		}
	}
}

// The log says who asked how much, and never what.
func TestLogsHoldNothingOfRequests(t *testing.T) {
	var log bytes.Buffer
	keys, err := ReadKeys(strings.NewReader("topsecret"))
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(t, func(o *Options) {
		o.Log, o.Keys = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), keys
	})
	for _, body := range []string{`{"input":"PRIVATE"}`, `{"input":PRIVATE}`, `{"PRIVATE":1}`, `{"input":"a","truncation_side":"PRIVATE"}`, `{"model":"PRIVATE","input":"a"}`, `{"messages":[{"role":"PRIVATE","content":"PRIVATE"}]}`} {
		ask(s, "POST", "/classify", body, "Authorization", "Bearer topsecret")
	}
	ask(s, "GET", "/PRIVATE?PRIVATE=1", "", "Authorization", "Bearer topsecret")
	ask(s, "GET", "/v1/models/PRIVATE", "", "Authorization", "Bearer PRIVATE")
	if n := strings.Count(log.String(), "msg=request"); n != 8 {
		t.Errorf("%d requests are logged, want 8", n)
	}
	for _, word := range []string{"PRIVATE", "topsecret"} {
		if strings.Contains(log.String(), word) {
			t.Errorf("the log holds %s:\n%s", word, log.String())
		}
	}
}

func TestReloadAnswersWhatItBegan(t *testing.T) {
	opened, closed := 0, make(chan int, 10)
	var broken bool
	first := newStage(constant(1))
	_, m := openTiny(t)
	keys, err := ReadKeys(strings.NewReader("k"))
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(t, func(o *Options) {
		o.Keys = keys
		o.Open = func() (*Model, error) {
			if broken {
				return nil, errors.New("half written")
			}
			opened++
			n := opened
			next := *m
			next.Scorer = constant(n)
			if n == 1 {
				next.Scorer = first
			}
			next.Close = func() error { closed <- n; return nil }
			return &next, nil
		}
	})
	request := func() string {
		return ask(s, "POST", "/get_reward", `{"query":["a"]}`, "X-API-Key", "k").Body.String()
	}
	reload := func() int { return ask(s, "POST", "/admin/reload", "", "X-API-Key", "k").Code }
	old := make(chan string)
	go func() { old <- request() }()
	<-first.entered
	if code := reload(); code != 200 {
		t.Fatalf("reload: status %d", code)
	}
	if got := request(); !strings.Contains(got, `"rewards":[2]`) {
		t.Errorf("after the reload: %s", got)
	}
	if len(closed) != 0 {
		t.Fatal("a model in use is closed")
	}
	first.leave <- struct{}{}
	if got := <-old; !strings.Contains(got, `"rewards":[1]`) {
		t.Errorf("what the old model began: %s", got)
	}
	if n := <-closed; n != 1 {
		t.Errorf("model %d is closed, want the old one", n)
	}
	broken = true
	if code := reload(); code != 503 {
		t.Errorf("reload of a broken checkpoint: status %d", code)
	}
	if got := request(); !strings.Contains(got, `"rewards":[2]`) {
		t.Errorf("after a reload that failed: %s", got)
	}
	s.Close()
	if n := <-closed; n != 2 {
		t.Errorf("model %d is closed at the end", n)
	}
	if w := ask(s, "POST", "/get_reward", `{"query":["a"]}`, "X-API-Key", "k"); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a closed server: status %d", w.Code)
	}
}

// Reload upon reload, no request is lost or answered by a mixture of models.
func TestReloadLosesNoRequest(t *testing.T) {
	_, m := openTiny(t)
	n := 0
	s := newTestServer(t, func(o *Options) {
		o.Open = func() (*Model, error) {
			n++
			next := *m
			next.Scorer, next.Close = constant(n), nil
			return &next, nil
		}
	})
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(client)))
			for range 100 {
				got, code := rewards(s, chatter(random, 3)...)
				if code != 200 || len(got) != 3 || got[0] != got[1] || got[0] != got[2] {
					t.Errorf("status %d, rewards %v", code, got)
					return
				}
			}
		})
	}
	for range 30 {
		if err := s.Reload(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// After the signal, what has begun is answered, what is new is refused, and readiness ends.
func TestRunDrains(t *testing.T) {
	s, st := staged(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, signal := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- s.Run(ctx, l, ListenOptions{Notice: 50 * time.Millisecond, Drain: 10 * time.Second})
	}()
	url := "http://" + l.Addr().String()
	status := make(chan int, 1)
	go func() {
		resp, err := http.Post(url+"/get_reward", "application/json", strings.NewReader(`{"query":["a"]}`))
		if err != nil {
			status <- 0
			return
		}
		var got struct{ Rewards []float64 }
		if json.NewDecoder(resp.Body).Decode(&got) != nil || len(got.Rewards) != 1 {
			status <- 1
			return
		}
		status <- resp.StatusCode
	}()
	<-st.entered
	signal()
	waitFor(t, func() bool { return ask(s, "GET", "/health/ready", "").Code == 503 })
	if w := ask(s, "GET", "/health/live", ""); w.Code != 200 {
		t.Errorf("live: status %d", w.Code)
	}
	waitFor(t, func() bool { // nobody new is let in
		conn, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("it ended before the answer: %v", err)
	default:
	}
	st.leave <- struct{}{}
	if got := <-status; got != 200 {
		t.Errorf("what had begun: status %d", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRunDoesNotDrainForever(t *testing.T) {
	s, st := staged(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, signal := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l, ListenOptions{Drain: 50 * time.Millisecond}) }()
	go func() {
		resp, err := http.Post("http://"+l.Addr().String()+"/get_reward", "", strings.NewReader(`{"query":["a"]}`))
		if err == nil {
			resp.Body.Close()
		}
	}()
	<-st.entered
	signal()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "still in work") {
		t.Errorf("it ended with %v", err)
	}
	st.leave <- struct{}{}
}

func TestImpossibleLimitsAreRefused(t *testing.T) {
	for _, l := range []Limits{{Inputs: 10, Queue: 5}, {BodyBytes: 10, PendingBytes: 5}, {Inputs: -1}, {BodyBytes: -1, PendingBytes: 1}, {RequestTime: -1}} {
		if _, err := New(Options{Names: []string{"a"}, Limits: l, Open: func() (*Model, error) { return nil, errors.New("not reached") }}); err == nil || strings.Contains(err.Error(), "not reached") {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// Where a connection has to be clean, it is: the next request of a client is answered.
func TestConnectionsLiveOnAfterErrors(t *testing.T) {
	srv := httptest.NewServer(newTestServer(t, nil))
	defer srv.Close()
	for _, body := range []string{`{`, `{"input":"a"}`, `[]`, `{"input":"a"}`, ``} {
		resp, err := srv.Client().Post(srv.URL+"/classify", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 200, false: 400}[len(body) > 5]; resp.StatusCode != want {
			t.Errorf("%q: status %d, want %d", body, resp.StatusCode, want)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
	}
}
