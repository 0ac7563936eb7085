package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"rmtrain/infer"
	"rmtrain/infer/serve"
	"rmtrain/kernels"
)

type serveOptions struct {
	checkpoint, dtype, device        string
	maxLength                        int
	listen, keyFile, logFormat       string
	certFile, certKeyFile            string
	names                            []string
	allowUnauthenticated, noTruncate bool
	limits                           serve.Limits
	network                          serve.ListenOptions
}

func serveCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve --checkpoint DIR",
		Short: "Score over HTTP, in the dialects of vLLM, SGLang, TEI, OpenRLHF, LLaMA-Factory, NeMo, Cohere",
		Long: `Score over HTTP. Clients of other servers work unchanged: POST /classify, /pooling, /score,
/rerank (vLLM), /classify (SGLang), /predict, /rerank (TEI), /get_reward (OpenRLHF),
/v1/score/evaluation (LLaMA-Factory), /v2/models/NAME/infer (KServe, NeMo-Aligner), and
POST /infer, which takes a line of ` + "`rmtrain infer`" + `. GET /openapi.json describes all.

Rewards are raw; a sigmoid is applied only where a request asks for one. Scores are those
of ` + "`rmtrain infer`" + `, whatever is asked at the same time.

SIGTERM answers what has begun and ends; SIGHUP loads the checkpoint, the API keys and the
certificate anew without losing a request.`,
		Example: `  rmtrain serve --checkpoint out
  curl -s localhost:8000/infer -d '{"prompt": "How are you?", "answers": ["Fine.", "No."]}'`,
		Args: only("checkpoint"),
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.ErrOrStderr()) },
	}
	f := c.Flags()
	f.StringVar(&o.checkpoint, "checkpoint", "", "reward model: a `folder` in either dialect, a run's output_dir, or an id on the hub")
	f.StringVar(&o.dtype, "dtype", "", "float32 or bfloat16 (default: as trained)")
	f.StringVar(&o.device, "device", "auto", "auto, cpu, cuda or cuda:N")
	f.IntVar(&o.maxLength, "max-length", 0, "tokens that a conversation keeps (default: as trained)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8000", "`address` and port; port 0 takes a free one")
	f.StringArrayVar(&o.names, "served-model-name", nil, "`name` that clients may call the model (repeatable; default: the folder's)")
	f.StringVar(&o.keyFile, "api-key-file", "", "`file` of API keys, one a line; requests must show one")
	f.BoolVar(&o.allowUnauthenticated, "allow-unauthenticated", false, "let other machines in without a key")
	f.StringVar(&o.certFile, "tls-cert-file", "", "certificate chain, PEM `file`; serves HTTPS")
	f.StringVar(&o.certKeyFile, "tls-key-file", "", "the certificate's key, PEM `file`")
	f.IntVar(&o.limits.BatchTokens, "max-batch-tokens", 8192, "most tokens of a forward pass; bounds memory, never changes a score")
	f.Int64Var(&o.limits.BodyBytes, "max-body-bytes", 16<<20, "most bytes of a request (413)")
	f.Int64Var(&o.limits.PendingBytes, "max-pending-bytes", 256<<20, "most bytes of all requests in work (429)")
	f.IntVar(&o.limits.Inputs, "max-inputs", 1024, "most conversations of a request (422)")
	f.IntVar(&o.limits.Queue, "max-queue", 8192, "most conversations that wait (429)")
	f.DurationVar(&o.limits.RequestTime, "request-timeout", 2*time.Minute, "most time for an answer (503)")
	f.DurationVar(&o.limits.TransferTime, "transfer-timeout", 30*time.Second, "most time for headers, for a body and for sending an answer")
	f.BoolVar(&o.noTruncate, "no-truncate", false, "refuse what is too long (422) unless a request asks for truncation")
	f.DurationVar(&o.network.Notice, "drain-notice", 0, "after SIGTERM, time in which /health/ready says no and requests are still taken")
	f.DurationVar(&o.network.Drain, "drain-timeout", 2*time.Minute, "after SIGTERM, most time for requests that have begun")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json, to standard error; never holds what requests say")
	_ = c.MarkFlagRequired("checkpoint") // it fails for unknown flags only
	return c
}

// check refuses mistakes before anything is read.
func (o serveOptions) check() error {
	l := o.limits
	switch {
	case l.BatchTokens < 1 || l.BatchTokens > maxBatchTokens:
		return fmt.Errorf("serve: --max-batch-tokens %d must be from 1 to %d", l.BatchTokens, maxBatchTokens)
	case o.maxLength < 0:
		return fmt.Errorf("serve: --max-length %d must not be negative", o.maxLength)
	case !knownDevice(o.device):
		return fmt.Errorf("serve: --device %q is unknown (choose one of %q)", o.device, devices)
	case o.dtype != "" && !slices.Contains(dtypeNames, o.dtype):
		return fmt.Errorf("serve: --dtype %q is unknown (choose one of %q)", o.dtype, dtypeNames)
	case min(l.BodyBytes, l.PendingBytes, int64(l.Inputs), int64(l.Queue), int64(l.RequestTime), int64(l.TransferTime)) < 1:
		return errors.New("serve: every --max-... and --...-timeout must be more than 0")
	case (o.certFile == "") != (o.certKeyFile == ""):
		return errors.New("serve: --tls-cert-file and --tls-key-file belong together (give both for HTTPS, or neither)")
	case slices.Contains(o.names, ""):
		return errors.New("serve: --served-model-name is empty (give a name, or leave it out for the folder's)")
	case o.network.Notice < 0 || o.network.Drain < 0:
		return errors.New("serve: --drain-notice and --drain-timeout must not be negative")
	case !slices.Contains([]string{"text", "json"}, o.logFormat):
		return fmt.Errorf("serve: --log-format %q is unknown (text or json)", o.logFormat)
	}
	return nil
}

func (o serveOptions) run(ctx context.Context, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	var keys *serve.Keys
	if o.keyFile != "" {
		var err error
		if keys, err = readKeys(o.keyFile); err != nil {
			return err
		}
	}
	if err := serve.CheckAddress(o.listen, keys, o.allowUnauthenticated); err != nil {
		return err
	}
	cert, err := o.certificate()
	if err != nil {
		return err
	}
	listener, err := listen("serve", o.listen) // before the model is loaded, which takes time
	if err != nil {
		return err
	}
	defer listener.Close()
	hangups := make(chan os.Signal, 1)
	signal.Reset(syscall.SIGHUP) // from now on it does not end the process
	signal.Notify(hangups, syscall.SIGHUP)
	defer func() { signal.Stop(hangups); close(hangups) }()
	log := o.logger(stderr)
	o.limits.RefuseTooLong = o.noTruncate
	s, err := serve.New(serve.Options{Open: func() (*serve.Model, error) { return o.open(ctx, log, stderr) }, Names: o.modelNames(), Keys: keys, Limits: o.limits, Log: log, Version: version})
	if err != nil {
		return err
	}
	defer s.Close()
	go func() {
		for range hangups {
			o.reload(s, keys, cert, log)
		}
	}()
	if cert != nil {
		o.network.TLS = cert.config()
	}
	log.Info("serving", "address", listener.Addr().String(), "tls", cert != nil, "keys", keys != nil, "model", o.modelNames()[0])
	return s.Run(ctx, listener, o.network)
}

func (o serveOptions) logger(w io.Writer) *slog.Logger {
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

func (o serveOptions) modelNames() []string {
	if len(o.names) > 0 {
		return o.names
	}
	if onHub(o.checkpoint) { // some dialects have the name in a path, where it has no slash
		_, name, _ := strings.Cut(o.checkpoint, "/")
		return []string{o.checkpoint, name}
	}
	folder, err := filepath.Abs(o.checkpoint)
	if err != nil {
		folder = o.checkpoint
	}
	return []string{filepath.Base(folder)}
}

// open loads the checkpoint as `rmtrain infer` does.
func (o serveOptions) open(ctx context.Context, log *slog.Logger, stderr io.Writer) (*serve.Model, error) {
	folder, err := modelFolder(ctx, o.checkpoint, stderr)
	if err != nil {
		return nil, err
	}
	dt, err := inferOptions{checkpoint: folder, dtype: o.dtype, device: o.device}.computeType()
	if err != nil {
		return nil, err
	}
	b, err := openBackend(o.device, dt)
	if err != nil {
		return nil, err
	}
	s, err := infer.Open(folder, infer.Options{Backend: b, DType: dt, Fits: fitsNow, MaxLength: o.maxLength, BatchTokens: o.limits.BatchTokens})
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	for _, n := range append(s.Dir.Notes, s.Encoder.Tokenizer().Warnings()...) {
		log.Warn("checkpoint", "note", n)
	}
	m := &serve.Model{
		Scorer: s, Encoder: s.Encoder, Vocab: s.Config.Vocab, DType: "float32",
		Length: cmp.Or(s.Encoder.Format().MaxLength, s.Config.MaxPositions),
		Close:  func() error { return errors.Join(s.Close(), b.Close()) },
	}
	if dt == kernels.BF16 {
		m.DType = "bfloat16"
	}
	if s.Dir.Meta != nil {
		m.Digest = digestOf(s.Dir.Meta.Digests)
	}
	log.Info("loaded", "checkpoint", s.Dir.Path, "dtype", m.DType, "digest", m.Digest)
	return m, nil
}

// digestOf makes one short digest of those of a checkpoint's files.
func digestOf(files map[string]string) string {
	if len(files) == 0 {
		return ""
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%s %s\n", name, files[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func readKeys(path string) (*serve.Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("serve: read API keys: %w", err)
	}
	defer f.Close()
	keys, err := serve.ReadKeys(f)
	if err != nil {
		return nil, fmt.Errorf("serve: read API keys: --api-key-file %s: %w", path, err)
	}
	return keys, nil
}

// reload does what SIGHUP asks for. What cannot be read stays as it was.
func (o serveOptions) reload(s *serve.Server, keys *serve.Keys, cert *certificate, log *slog.Logger) {
	_ = s.Reload() // which logs its failures
	if keys != nil {
		if next, err := readKeys(o.keyFile); err != nil {
			log.Error("reload: the old API keys stay", "error", err)
		} else {
			keys.Replace(next)
		}
	}
	if cert != nil {
		if err := cert.read(); err != nil {
			log.Error("reload: the old certificate stays", "error", err)
		}
	}
	log.Info("read anew")
}

// A certificate is read from files, and may be read again.
type certificate struct {
	chain, key string
	now        atomic.Pointer[tls.Certificate]
}

// certificate returns nil if none is asked for.
func (o serveOptions) certificate() (*certificate, error) {
	if o.certFile == "" {
		return nil, nil
	}
	c := &certificate{chain: o.certFile, key: o.certKeyFile}
	return c, c.read()
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.chain, c.key)
	if err != nil {
		return fmt.Errorf("serve: read certificate: --tls-cert-file %s with --tls-key-file %s: %w", c.chain, c.key, err)
	}
	c.now.Store(&pair)
	return nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil }}
}
