package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tinyReward is a reward model that scores at once.
const tinyReward = "../../infer/testdata/huggingface"

// A served process listens on address.
type served struct {
	*exec.Cmd
	address string
	lines   chan string // of its log
}

var addressInLog = regexp.MustCompile(`msg=serving address=(\S+)`)

// startServer runs `rmtrain serve` until the test is over.
func startServer(t *testing.T, args ...string) *served {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	c, _, _ := start(ctx, nil, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	c.Stderr = nil
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := &served{Cmd: c, lines: make(chan string, 1000)}
	go func() {
		defer close(s.lines)
		for r := bufio.NewScanner(log); r.Scan(); {
			s.lines <- r.Text()
		}
	}()
	s.address = addressInLog.FindStringSubmatch(s.await(t, "msg=serving"))[1]
	return s
}

// await returns the next line of the log that contains text.
func (s *served) await(t *testing.T, text string) string {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				t.Fatalf("the server ended before it said %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-late:
			t.Fatalf("the server never said %q", text)
		}
	}
}

// stop ends the server and returns its status.
func (s *served) stop(t *testing.T, signal os.Signal) int {
	t.Helper()
	if err := s.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	for range s.lines { // Wait closes the pipe
	}
	var exit *exec.ExitError
	if err := s.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return s.ProcessState.ExitCode()
}

func get(t *testing.T, c *http.Client, method, url, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestServeAnswersAsInferDoes(t *testing.T) {
	t.Parallel()
	lines := []string{
		`{"text": "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\nFine.<|im_end|>\n"}`,
		`{"messages": [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "Fine."}]}`,
		`{"prompt": "\n\nHuman: How are you?\n\nAssistant: ", "answers": ["Fine.", "No.", "I am well, thank you for asking."]}`,
		`{"prompt": [{"role": "user", "content": "How are you?"}], "answers": ["Fine."]}`,
		`{"input_ids": [5, 6, 7]}`,
		`{"text": "` + strings.Repeat("long ", 50) + `"}`,
	}
	file := filepath.Join(t.TempDir(), "lines.jsonl")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(ok(t, "infer", "--checkpoint", tinyReward, "--input", file)), "\n")
	s := startServer(t, "--checkpoint", tinyReward)
	for i, line := range lines {
		status, got := get(t, http.DefaultClient, "POST", "http://"+s.address+"/infer", line)
		var packed bytes.Buffer
		if err := json.Compact(&packed, []byte(want[i])); err != nil {
			t.Fatal(err)
		}
		if status != 200 || got != packed.String() {
			t.Errorf("%s: status %d, %s, want %s", line, status, got, packed.String())
		}
	}
	if status, models := get(t, http.DefaultClient, "GET", "http://"+s.address+"/v1/models", ""); status != 200 || !strings.Contains(models, `"id":"huggingface"`) {
		t.Errorf("models: status %d, %s", status, models)
	}
	if status := s.stop(t, syscall.SIGTERM); status != 0 {
		t.Errorf("status %d after SIGTERM, want 0", status)
	}
}

// After a kill the next server starts on the same port and answers the same.
func TestServeStartsAgainAfterAKill(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--checkpoint", tinyReward)
	url := "http://" + s.address + "/get_reward"
	_, before := get(t, http.DefaultClient, "POST", url, `{"query":["a"]}`)
	s.stop(t, syscall.SIGKILL)
	again := startServer(t, "--checkpoint", tinyReward, "--listen", s.address)
	if _, after := get(t, http.DefaultClient, "POST", "http://"+again.address+"/get_reward", `{"query":["a"]}`); after != before {
		t.Errorf("%s after the kill, %s before", after, before)
	}
}

// writeCertificate writes a certificate for 127.0.0.1 that signs itself, and its key.
func writeCertificate(t *testing.T, chain, key, name string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{chain: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// askTLS asks with a key and returns the status and the certificate's name.
func askTLS(t *testing.T, s *served, path, key string) (int, string) {
	t.Helper()
	var name string
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection:   func(state tls.ConnectionState) error { name = state.PeerCertificates[0].Subject.CommonName; return nil },
	}}}
	status, _ := get(t, c, "POST", "https://"+s.address+path, `{"input":"a"}`, "Authorization", "Bearer "+key)
	return status, name
}

func TestHangupReadsCheckpointKeysAndCertificateAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, chain, key := filepath.Join(dir, "keys"), filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	write := func(text string) {
		if err := os.WriteFile(keys, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	writeCertificate(t, chain, key, "one")
	s := startServer(t, "--checkpoint", tinyReward, "--api-key-file", keys, "--tls-cert-file", chain, "--tls-key-file", key)
	expect := func(secret string, status int, name string) {
		t.Helper()
		if got, who := askTLS(t, s, "/classify", secret); got != status || who != name {
			t.Errorf("key %s: status %d from %s, want %d from %s", secret, got, who, status, name)
		}
	}
	expect("first", 200, "one")
	expect("second", 401, "one")
	if status, _ := askTLS(t, s, "/admin/reload", "first"); status != 200 {
		t.Errorf("reload over HTTP: status %d", status)
	}
	s.await(t, "msg=reloaded")
	write("second\n")
	writeCertificate(t, chain, key, "two")
	hangUp(t, s, "msg=reloaded")
	expect("second", 200, "two")
	expect("first", 401, "two")
	write("")
	if err := os.WriteFile(chain, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangUp(t, s, "the old API keys stay", "the old certificate stays")
	expect("second", 200, "two")
}

// hangUp sends SIGHUP, and waits until the log has said texts and that it is done.
func hangUp(t *testing.T, s *served, texts ...string) {
	t.Helper()
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, text := range append(texts, "msg=\"read anew\"") {
		s.await(t, text)
	}
}

func TestServeRefusesMistakes(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() }) // when the cases, which run later, are over
	empty := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(empty, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, parts string }{
		{"", "--checkpoint is missing"},
		{"--checkpoint nix stray", "stray|belongs to no flag"},
		{"--checkpoint nix", "nix"},
		{"--checkpoint " + tinyReward + " --listen 0.0.0.0:0", "other machines|--api-key-file|--allow-unauthenticated"},
		{"--checkpoint " + tinyReward + " --listen :0", "other machines"},
		{"--checkpoint " + tinyReward + " --listen 8000", "host:port"},
		{"--checkpoint " + tinyReward + " --listen " + busy.Addr().String(), "address already in use|--listen"},
		{"--checkpoint " + tinyReward + " --listen 127.0.0.1:99999", "invalid port|--listen"},
		{"--checkpoint " + tinyReward + " --api-key-file nix", "API keys|nix"},
		{"--checkpoint " + tinyReward + " --api-key-file " + empty, "--api-key-file|" + empty + "|has no key"},
		{"--checkpoint " + tinyReward + " --tls-cert-file nix", "--tls-key-file belong together"},
		{"--checkpoint " + tinyReward + " --tls-cert-file nix --tls-key-file nix", "certificate|nix"},
		{"--checkpoint " + tinyReward + " --device gpu", "gpu|cpu"},
		{"--checkpoint " + tinyReward + " --dtype int8", "int8|float32"},
		{"--checkpoint " + tinyReward + " --max-length 4096", "4096"},
		{"--checkpoint " + tinyReward + " --max-length -1", "--max-length"},
		{"--checkpoint " + tinyReward + " --max-batch-tokens 0", "--max-batch-tokens"},
		{"--checkpoint " + tinyReward + " --max-inputs 0", "more than 0"},
		{"--checkpoint " + tinyReward + " --max-inputs 9 --max-queue 8", "fewer than the 9"},
		{"--checkpoint " + tinyReward + " --request-timeout 0s", "more than 0"},
		{"--checkpoint " + tinyReward + " --drain-notice -1s", "negative"},
		{"--checkpoint " + tinyReward + " --log-format xml", "xml"},
		{"--checkpoint " + tinyReward + " --served-model-name=", "--served-model-name"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"serve", "--listen", "127.0.0.1:0"}, strings.Fields(c.args)...) // the last --listen counts
			fails(t, args, strings.Split(c.parts, "|")...)
		})
	}
}
