package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/data/nectar"
	"rmtrain/train"
)

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// export writes the final model into the run's folder.
func (r *trainRun) export(dir string, tensors []checkpoints.Tensor, s train.Summary) error {
	recipe, err := json.Marshal(publicRun(r.cfg))
	if err != nil {
		return err
	}
	report, err := json.Marshal(publicReport(r.data.TrainReport))
	if err != nil {
		return err
	}
	metrics, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tok := r.enc.Tokenizer()
	meta := checkpoints.Meta{
		Version: version, Format: r.storedFormat(), DType: r.cfg.Model.DType, Base: publicName(r.cfg.Model.NameOrPath), Recipe: recipe, Data: report, Metrics: metrics, Step: s.Exported,
		Digests: map[string]string{"tokenizer": tok.Digest(), "train": r.data.Train.Digest()},
	}
	if r.data.Eval != nil {
		meta.Digests["eval"] = r.data.Eval.Digest()
	}
	return checkpoints.Write(dir, checkpoints.Export{
		Dialect: r.cfg.Train.ExportDialect, Config: r.dir.Config, PadID: exportPad(r.enc.Format().PadID, tok), DType: r.dt.String(), Meta: meta,
		Files: append(tokenizerFiles(tok), checkpoints.File{Name: "README.md", Data: card(meta, r.cfg.Train.ExportDialect, exists(filepath.Join(dir, curvesFile)))}), Tensors: tensors,
		Into: true, Overwrite: true, // train.Run has made sure that whatever is there is of this run
	})
}

// publicName is how to call a model in public: by its id, or by its folder's name.
func publicName(nameOrPath string) string {
	name, _ := baseModel(nameOrPath)
	return name
}

// publicRun is c with the last part of each path: how a machine's folders are called
// is nobody else's business, and of no use elsewhere.
func publicRun(c configs.Run) configs.Run {
	c.Model.NameOrPath = publicName(c.Model.NameOrPath)
	c.Data.Train, c.Data.Eval = lastParts(c.Data.Train), lastParts(c.Data.Eval)
	for _, path := range []*string{&c.Data.ChatTemplate, &c.Data.Cache, &c.Train.OutputDir, &c.Train.ResumeFrom} {
		if *path != "" {
			*path = filepath.Base(*path)
		}
	}
	return c
}

func lastParts(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = filepath.Base(p)
	}
	return out
}

// publicReport is r with the last part of each file's path.
func publicReport(r *nectar.Report) *nectar.Report {
	out := *r
	out.Files, out.Findings = slices.Clone(r.Files), slices.Clone(r.Findings)
	for i := range out.Files {
		out.Files[i].Path = filepath.Base(out.Files[i].Path)
	}
	for i := range out.Findings {
		out.Findings[i].File = filepath.Base(out.Findings[i].File)
	}
	return &out
}

// dataTable is what was found in the training data, for report.html.
func (r *trainRun) dataTable() string {
	var b strings.Builder
	_ = r.data.TrainReport.WriteTable(&b) // a builder takes everything
	return b.String()
}

// conclude prints what was reached, beside what needs no model.
func (r *trainRun) conclude(s train.Summary) {
	out := shortPath(r.cfg.Train.OutputDir)
	if e := s.Last; e == nil {
		r.say("\nnothing was held out to measure accuracy on (see data.eval and data.eval_prompts)")
	} else {
		if s.Best != nil && s.Best.Step == s.Exported {
			e = s.Best
		}
		r.say("\nheld-out pairwise accuracy %.3f (chance 0.500, longer answer wins %.3f)", e.PairwiseAccuracy, r.longerWins())
		r.say("held-out loss %.4f, over %s", e.Loss, count(e.Groups, "group"))
	}
	r.say("\nThe reward model, of step %d, is in %s. Score with it:\n\n  rmtrain infer --checkpoint %s --input FILE", s.Exported, out, out)
}

// shortPath is path as seen from the working directory, if it lies below it.
func shortPath(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return path
	}
	return rel
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
