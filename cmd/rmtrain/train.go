package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/data/nectar"
	"rmtrain/data/tokenizer"
	"rmtrain/infer"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
	"rmtrain/train"
)

type trainOptions struct {
	file          string
	sets          []string
	dryRun, print bool
	gpu           string // that a dry run is for, if it is not here
}

// headName is the value head, as checkpoints calls it.
const headName = "score.weight"

// textsOnly is the template of chat_template: none. It is stored with the model, so
// that scoring refuses conversations as training did.
const textsOnly = `{{ raise_exception("data.chat_template is none: only finished texts can be encoded") }}`

func (o trainOptions) run(ctx context.Context, w io.Writer) error {
	cfg, err := configs.Load(configs.LoadOptions{File: o.file, Sets: o.sets, Environ: os.Environ()})
	if err != nil {
		return err
	}
	if o.print {
		b, err := cfg.YAML()
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	r := &trainRun{cfg: *cfg, w: w, started: time.Now()}
	if o.gpu != "" {
		return r.forGPU(o.gpu)
	}
	defer r.close()
	for _, step := range []func(context.Context) error{r.preflight, r.openModel, r.openData, r.plan} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if o.dryRun {
		return nil
	}
	unlock, err := lock(cfg.Train.OutputDir)
	if err != nil {
		return err
	}
	r.onClose(unlock)
	if err := r.loadModel(ctx); err != nil {
		return r.explain(err)
	}
	return r.explain(r.fit(ctx))
}

// A trainRun is what `rmtrain --config` opens, in the order in which it does.
type trainRun struct {
	cfg configs.Run
	w   io.Writer

	begun   []byte // what the run in output_dir says of itself; nil if there is none
	dt      kernels.DType
	backend kernels.Backend
	dir     *checkpoints.Dir
	model   llama.Config
	weights string // a digest
	options llama.Options
	enc     *tokenizer.Encoder

	data    *nectar.Split
	planned train.Forecast
	limit   int64 // of the bytes that are planned
	network *llama.Model
	started time.Time
	closers []func() error
}

func (r *trainRun) say(format string, args ...any) { fmt.Fprintf(r.w, format+"\n", args...) }

func (r *trainRun) onClose(f func() error) { r.closers = append(r.closers, f) }

// close frees what was opened; files were only read, so errors cost nothing.
func (r *trainRun) close() {
	for i := len(r.closers) - 1; i >= 0; i-- {
		_ = r.closers[i]()
	}
}

// openModel reads the base model's configuration and tokenizer, not its weights.
func (r *trainRun) openModel(ctx context.Context) (err error) {
	folder, err := modelFolder(ctx, r.cfg.Model.NameOrPath, os.Stderr)
	if err != nil {
		return fmt.Errorf("model.name_or_path: %w", err)
	}
	if r.dir, err = checkpoints.Open(folder); err != nil {
		return err
	}
	r.onClose(r.dir.Close)
	if r.model, err = llama.ParseConfig(r.dir.Config); err != nil {
		return fmt.Errorf("model %s: %w", r.cfg.Model.NameOrPath, err)
	}
	if m := r.cfg.Data.MaxLength; r.cfg.Model.MaxPositionCheck && m > r.model.MaxPositions {
		return fmt.Errorf("data.max_length %d is above the model's max_position_embeddings %d (lower it, or set model.max_position_check to false)", m, r.model.MaxPositions)
	}
	if err := r.dir.Check(wanted(r.model, !r.dir.Has(headName))); err != nil {
		return err
	}
	if r.options, err = modelOptions(r.cfg, r.model.Layers); err != nil {
		return err
	}
	r.options.Planner, _ = r.backend.(kernels.Planner)
	tok, err := tokenizer.Open(r.dir.Path)
	if err != nil {
		return err
	}
	r.onClose(tok.Close)
	format, err := r.format(tok)
	if err != nil {
		return err
	}
	if r.enc, err = tokenizer.NewEncoder(tok, format); err != nil {
		return err
	}
	for _, n := range append(r.dir.Notes, tok.Warnings()...) {
		r.say("note: %s", n)
	}
	if r.weights, err = sampleWeights(r.dir, r.model); err != nil {
		return err
	}
	if r.begun != nil {
		return sameRun(r.cfg.Train.OutputDir, r.begun, r.identity())
	}
	return nil
}

// sampleWeights is a digest of the beginning of every tensor. States do not hold
// frozen tensors, so a run may only go on with the weights that it began with.
func sampleWeights(dir *checkpoints.Dir, c llama.Config) (string, error) {
	const most = 64 << 10
	h := sha256.New()
	for _, p := range llama.Table(c) {
		if !dir.Has(p.Name) {
			continue // a new value head
		}
		t, err := dir.Tensor(p.Name, "F32")
		if err != nil {
			return "", err
		}
		b := make([]byte, min(most, 4*elements(p.Shape)))
		if err := t.Read(b, 0); err != nil {
			return "", err
		}
		h.Write(b) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// identity names what determines the result besides configuration and data.
func (r *trainRun) identity() map[string]string {
	return map[string]string{
		"base model's config.json": digest(r.dir.Config),
		"base model's weights":     r.weights,
		"tokenizer":                r.enc.Tokenizer().Digest(),
		"format of conversations":  digest(r.storedFormat()),
	}
}

// storedFormat is how conversations become ids, as rmtrain.json stores it.
func (r *trainRun) storedFormat() []byte {
	b, err := json.Marshal(r.enc.Format())
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return b
}

// format is how conversations become ids, by the configuration.
func (r *trainRun) format(tok *tokenizer.Tokenizer) (tokenizer.Format, error) {
	d := r.cfg.Data
	f := tokenizer.Format{MaxLength: d.MaxLength, TruncationSide: d.TruncationSide, ScorePosition: d.ScorePosition, PadID: padID(r.model, tok)}
	switch d.ChatTemplate {
	case "auto":
		if f.Template = tok.ChatTemplate(); f.Template == "" {
			r.say("note: the model has no chat template, so conversations are Nectar's transcript as plain text (data.chat_template: transcript)")
		}
	case "transcript":
	case "none":
		f.Template = textsOnly
	default:
		b, err := os.ReadFile(d.ChatTemplate)
		if err != nil {
			return f, fmt.Errorf("data.chat_template: %w (auto, transcript, none, or a Jinja file)", err)
		}
		f.Template = string(b)
	}
	if f.PadID < 0 && f.ScorePosition != "last_token" {
		return f, fmt.Errorf("data.score_position: %s needs a pad token, and the model has none (use last_token)", f.ScorePosition)
	}
	return f, nil
}

// padID is the id that pads a batch in other programs: the model's own, or the
// tokenizer's, or <unk>, but never the end of a conversation, where scores are read.
func padID(c llama.Config, tok *tokenizer.Tokenizer) int32 {
	if c.PadTokenID >= 0 {
		return c.PadTokenID
	}
	for _, s := range []tokenizer.Special{tok.PAD(), tok.UNK()} {
		if s.ID >= 0 && s.ID != tok.EOS().ID {
			return s.ID
		}
	}
	return -1
}

// exportPad is the pad_token_id to export: without a pad token of the model's own
// (pad is -1), transformers still needs one to find the last token of a batch's
// rows, and the token that only begins texts can be no answer's last. -1 leaves what
// the base model says.
func exportPad(pad int32, tok *tokenizer.Tokenizer) int32 {
	if bos := tok.BOS().ID; pad < 0 && bos != tok.EOS().ID {
		return bos
	}
	return pad
}

// openData tokenizes the ranked answers, or finds them in the cache.
func (r *trainRun) openData(ctx context.Context) error {
	d, start := r.cfg.Data, time.Now()
	cache := d.Cache
	if cache == "" {
		cache = filepath.Join(r.cfg.Train.OutputDir, "cache")
	}
	files, err := dataFiles(ctx, d.Train, "train", os.Stderr)
	if err != nil {
		return fmt.Errorf("data.train: %w", err)
	}
	held, err := dataFiles(ctx, d.Eval, "test", os.Stderr)
	if err != nil {
		return fmt.Errorf("data.eval: %w", err)
	}
	var bar *progressbar.ProgressBar
	split, err := nectar.PrepareSplit(ctx, nectar.Options{
		Paths: files, MaxAnswers: d.MaxAnswers, SkipBad: d.OnBadRow == "skip", Encoder: r.enc, CacheDir: cache,
		Progress: func(done, total int64) {
			if bar == nil {
				bar = progress(total, "reading")
			}
			bar.ChangeMax64(total) // training and evaluation data have their own
			_ = bar.Set64(done)    // a bar that fails to draw stops nothing
		},
	}, held, d.EvalPrompts, uint64(d.Seed))
	if bar != nil {
		_ = bar.Finish()
	}
	if err != nil {
		return err
	}
	r.onClose(split.Close)
	r.data = split
	if err := r.sayData(time.Since(start)); err != nil {
		return err
	}
	if split.Train.Len() == 0 {
		return errors.New("no training data is left (see the report above)")
	}
	return r.checkVocabulary()
}

// sayData prints what was found in the data: the training data in full, evaluation
// data only if there is something to say of it.
func (r *trainRun) sayData(took time.Duration) error {
	r.say("training data (read in %.1f s)", took.Seconds())
	if err := r.data.TrainReport.WriteTable(r.w); err != nil {
		return err
	}
	e := r.data.EvalReport
	switch {
	case e == nil:
		return nil
	case len(e.Findings) > 0:
		r.say("\nevaluation data")
		return e.WriteTable(r.w)
	}
	r.say("\nevaluation data\n%s of %s with %d answers, %d ranked pairs, no findings", count(e.Groups, "group"), count(e.Prompts, "prompt"), e.Answers, e.Pairs)
	return nil
}

// saveReports leaves what was found in the data beside the model. Package train may
// still refuse the folder, so that what is there stays.
func (r *trainRun) saveReports() error {
	for name, report := range map[string]*nectar.Report{"data.json": r.data.TrainReport, "eval_data.json": r.data.EvalReport} {
		if path := filepath.Join(r.cfg.Train.OutputDir, name); report != nil && !exists(path) {
			if err := report.Save(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadModel reads the weights; a base model gets a new value head.
func (r *trainRun) loadModel(ctx context.Context) (err error) {
	defer exitWhenStopped(ctx)()
	o := r.options
	o.MaxRows, o.MaxAnswers = r.planned.MaxRows, r.planned.MaxAnswers
	var head []float32
	if !r.dir.Has(headName) {
		head = newHead(r.cfg.Model.ValueHeadInit, r.model.Hidden, uint64(r.cfg.Train.Seed))
	}
	if n := r.planned.Memory["weights"]; n > 1<<30 { // that takes a while
		r.say("\nloading %s of weights", mebibytes(n))
	}
	if r.network, err = infer.LoadModel(r.dir, r.backend, r.model, o, head); err != nil {
		return err
	}
	r.onClose(func() error { r.network.Close(); return nil })
	return nil
}

// newHead returns a value head: zeros, or normal with a standard deviation of
// 1/sqrt(hidden+1), as in InstructGPT's successors.
func newHead(init string, hidden int, seed uint64) []float32 {
	head := make([]float32, hidden)
	if init == "zeros" {
		return head
	}
	rng := rand.New(rand.NewPCG(seed, 0x76616c7565)) // "value"
	for i := range head {
		head[i] = float32(rng.NormFloat64() / math.Sqrt(float64(hidden+1)))
	}
	return head
}

// fit trains and exports.
func (r *trainRun) fit(ctx context.Context) error {
	peak, err := measurePeak(r.backend, r.dt)
	if err != nil {
		return err
	}
	r.say("\n%s multiplies matrices at %sFLOP/s; ready to train after %.1f s\n", r.backend.Name(), si(peak), time.Since(r.started).Seconds())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := r.saveReports(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() {
		fmt.Fprintf(os.Stderr, "\n%v: finishing this step and saving a state (again to stop at once)\n", context.Cause(ctx))
	})()
	s, err := train.Run(ctx, train.Inputs{
		Config: r.cfg, Backend: r.backend, Model: r.network, Train: r.data.Train, Eval: r.data.Eval, PeakFLOPS: peak,
		Identity: r.identity(), Export: r.export, DataReport: r.dataTable(), Text: r.enc.Tokenizer().Decode,
		Log: r.w, Progress: isatty.IsTerminal(os.Stdout.Fd()),
	})
	if err != nil {
		return err
	}
	r.conclude(s)
	return nil
}
