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

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/data"
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
	r := &trainRun{cfg: *cfg, w: w}
	defer r.close()
	for _, step := range []func(context.Context) error{r.openModel, r.openData} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if o.dryRun {
		return r.plan()
	}
	if err := r.loadModel(); err != nil {
		return err
	}
	return r.fit(ctx)
}

// A trainRun is what `rmtrain --config` opens, in the order in which it does.
type trainRun struct {
	cfg configs.Run
	w   io.Writer

	dt      kernels.DType
	backend kernels.Backend
	dir     *checkpoints.Dir
	model   llama.Config
	options llama.Options
	enc     *tokenizer.Encoder

	data    *nectar.Split
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
func (r *trainRun) openModel(context.Context) (err error) {
	r.started = time.Now()
	if r.dt, err = parseDType(r.cfg.Model.DType); err != nil {
		return err
	}
	if r.backend, err = openBackend(r.cfg.Device, r.dt); err != nil {
		return err
	}
	r.onClose(r.backend.Close)
	if r.dir, err = checkpoints.Open(r.cfg.Model.NameOrPath); err != nil {
		return err
	}
	r.onClose(r.dir.Close)
	if r.model, err = llama.ParseConfig(r.dir.Config); err != nil {
		return fmt.Errorf("model %s: %w", r.cfg.Model.NameOrPath, err)
	}
	if m := r.cfg.Data.MaxLength; r.cfg.Model.MaxPositionCheck && m > r.model.MaxPositions {
		return fmt.Errorf("data.max_length %d is above the model's max_position_embeddings %d (lower it, or set model.max_position_check to false)", m, r.model.MaxPositions)
	}
	frozen, err := train.Frozen(r.cfg.Train.Freeze, r.model.Layers)
	if err != nil {
		return err
	}
	r.options = llama.Options{DType: r.dt, Train: true, Frozen: frozen}
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
	return nil
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

// openData tokenizes the ranked answers, or finds them in the cache.
func (r *trainRun) openData(ctx context.Context) error {
	d, start := r.cfg.Data, time.Now()
	cache := d.Cache
	if cache == "" {
		cache = filepath.Join(r.cfg.Train.OutputDir, "cache")
	}
	bar := progress(-1, "reading")
	split, err := nectar.PrepareSplit(ctx, nectar.Options{
		Paths: d.Train, MaxAnswers: d.MaxAnswers, SkipBad: d.OnBadRow == "skip", Encoder: r.enc, CacheDir: cache,
		Progress: func(done, total int64) {
			bar.ChangeMax64(total)
			_ = bar.Set64(done) // a bar that fails to draw stops nothing
		},
	}, d.Eval, d.EvalPrompts, uint64(d.Seed))
	_ = bar.Finish()
	if err != nil {
		return err
	}
	r.onClose(split.Close)
	r.data = split
	r.say("training data (read in %.1f s)", time.Since(start).Seconds())
	if err := split.TrainReport.WriteTable(r.w); err != nil {
		return err
	}
	if split.EvalReport != nil {
		r.say("\nevaluation data")
		if err := split.EvalReport.WriteTable(r.w); err != nil {
			return err
		}
	}
	if split.Train.Len() == 0 {
		return errors.New("no training data is left (see the report above)")
	}
	return nil
}

// plan prints what the run would do.
func (r *trainRun) plan() error {
	f, err := r.forecast()
	if err != nil {
		return err
	}
	c := r.model
	r.say("\nplan")
	r.say("  model     %d layers, %d channels, %d:%d heads of %d, %s parameters, %s on %s", c.Layers, c.Hidden, c.Heads, c.KVHeads, c.HeadDim, si(float64(parameters(c))), r.cfg.Model.DType, r.backend.Name())
	r.say("  data      %d groups to train on, %d to evaluate", f.Groups, evalLen(r.data.Eval))
	r.say("  steps     %d of %d groups, %d an epoch, %d to warm up", f.TotalSteps, r.cfg.Train.PromptsPerStep, f.StepsPerEpoch, f.WarmupSteps)
	r.say("  first     %d tokens, %d rows after sharing prompts, in %d passes of at most %d", f.Tokens, f.Rows, len(f.MicroBatches), f.MaxRows)
	r.say("\nmemory")
	writeMemory(r.w, f.Memory)
	return nil
}

func (r *trainRun) forecast() (train.Forecast, error) {
	o := r.options
	o.Recompute = r.cfg.Train.Recompute == "always"
	f, err := train.Plan(r.cfg, r.model, o, r.data.Train)
	if err != nil || r.cfg.Train.Recompute != "auto" {
		return f, err
	}
	o.Recompute = !fits(f.Memory)
	r.options.Recompute = o.Recompute
	return train.Plan(r.cfg, r.model, o, r.data.Train)
}

func evalLen(d *data.Dataset) int {
	if d == nil {
		return 0
	}
	return d.Len()
}

// loadModel reads the weights; a base model gets a new value head.
func (r *trainRun) loadModel() error {
	f, err := r.forecast()
	if err != nil {
		return err
	}
	r.say("\nmemory")
	writeMemory(r.w, f.Memory)
	o := r.options
	o.Recompute = r.cfg.Train.Recompute == "always" || r.cfg.Train.Recompute == "auto" && !fits(f.Memory)
	o.MaxRows, o.MaxAnswers = f.MaxRows, f.MaxAnswers
	var head []float32
	if !r.dir.Has(headName) {
		head = newHead(r.cfg.Model.ValueHeadInit, r.model.Hidden, uint64(r.cfg.Train.Seed))
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
	format, err := json.Marshal(r.enc.Format())
	if err != nil {
		return err
	}
	r.say("\n%s: matrix products reach %sFLOP/s; ready to train after %.1f s\n", r.backend.Name(), si(peak), time.Since(r.started).Seconds())
	s, err := train.Run(ctx, train.Inputs{
		Config: r.cfg, Backend: r.backend, Model: r.network, Train: r.data.Train, Eval: r.data.Eval, PeakFLOPS: peak,
		Identity: map[string]string{
			"base model's config.json": digest(r.dir.Config), "tokenizer": r.enc.Tokenizer().Digest(), "format of conversations": digest(format),
		},
		Export: func(dir string, tensors []checkpoints.Tensor, s train.Summary) error {
			return r.export(dir, format, tensors, s)
		},
		Log: r.w, Progress: isatty.IsTerminal(os.Stdout.Fd()),
	})
	if err != nil {
		return err
	}
	r.conclude(s)
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// export writes the final model into the run's folder.
func (r *trainRun) export(dir string, format []byte, tensors []checkpoints.Tensor, s train.Summary) error {
	recipe, err := json.Marshal(r.cfg)
	if err != nil {
		return err
	}
	report, err := json.Marshal(r.data.TrainReport)
	if err != nil {
		return err
	}
	metrics, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tok := r.enc.Tokenizer()
	meta := checkpoints.Meta{
		Version: version, Format: format, DType: r.cfg.Model.DType, Base: r.cfg.Model.NameOrPath, Recipe: recipe, Data: report, Metrics: metrics, Step: s.Exported,
		Digests: map[string]string{"tokenizer": tok.Digest(), "train": r.data.Train.Digest()},
	}
	if r.data.Eval != nil {
		meta.Digests["eval"] = r.data.Eval.Digest()
	}
	return checkpoints.Write(dir, checkpoints.Export{
		Dialect: r.cfg.Train.ExportDialect, Config: r.dir.Config, PadID: r.enc.Format().PadID, DType: r.dt.String(), Meta: meta,
		Files: append(tokenizerFiles(tok), checkpoints.File{Name: "README.md", Data: card(meta, r.cfg.Train.ExportDialect)}), Tensors: tensors,
		Into: true, Overwrite: true, // train.Run has made sure that whatever is there is of this run
	})
}

// conclude prints what was reached, beside what needs no model.
func (r *trainRun) conclude(s train.Summary) {
	out := r.cfg.Train.OutputDir
	if s.AlreadyFinished {
		r.say("\nthis run is finished already: its model is in %s (choose another train.output_dir, or resume_from_checkpoint: never, to train again)", out)
	}
	if e := s.Last; e != nil {
		if s.Best != nil && s.Best.Step == s.Exported {
			e = s.Best
		}
		r.say("\nheld-out pairwise accuracy %.3f (chance 0.500, the longer answer wins %.3f), loss %.4f, %d groups", e.PairwiseAccuracy, r.longerWins(), e.Loss, e.Groups)
	}
	r.say("\nthe reward model of step %d is in %s:\n  rmtrain infer --checkpoint %s < samples.jsonl", s.Exported, out, out)
}

// longerWins is the accuracy of preferring the longer answer, in tokens, on the
// evaluation data.
func (r *trainRun) longerWins() float64 {
	var right, pairs float64
	for i := range r.data.Eval.Len() {
		a := r.data.Eval.Group(i).Answers
		for j := range a {
			for k := range a {
				if a[j].Rank >= a[k].Rank {
					continue
				}
				pairs++
				switch d := len(a[j].Tokens) - len(a[k].Tokens); {
				case d > 0:
					right++
				case d == 0:
					right += 0.5
				}
			}
		}
	}
	return right / max(pairs, 1)
}
