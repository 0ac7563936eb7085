package main

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

// torchScript runs a training step in PyTorch; its head says how it is told what.
//
//go:embed doctor_torch.py
var torchScript []byte

// torchLimit bounds the time of all of a shape's steps in PyTorch.
const torchLimit = 10 * time.Minute

// A torchTask is what the script reads.
type torchTask struct {
	Device  string      `json:"device"`
	Threads int         `json:"threads"`
	DType   string      `json:"dtype"`
	Config  torchConfig `json:"config"`
	Groups  [][][]int32 `json:"groups"` // conversations, the best first
	Steps   int         `json:"steps"`  // that are timed, after one to warm up
	Period  int         `json:"period"` // of the numbers in a weight
}

type torchConfig struct {
	Layers  int       `json:"layers"`
	Hidden  int       `json:"hidden"`
	FFN     int       `json:"ffn"`
	Heads   int       `json:"heads"`
	KVHeads int       `json:"kv_heads"`
	HeadDim int       `json:"head_dim"`
	Vocab   int       `json:"vocab"`
	Eps     float64   `json:"eps"`
	InvFreq []float32 `json:"inv_freq"`
}

// A torchAnswer is what the script writes.
type torchAnswer struct {
	Error    string            `json:"error"`
	Versions map[string]string `json:"versions"`
	Runs     []torchRun        `json:"runs"`
}

// A torchRun is the step in one layout, with one kind of weights.
type torchRun struct {
	How     string  `json:"how"`
	Error   string  `json:"error"` // then there is nothing else
	Seconds float64 `json:"seconds"`
	// Of the first step.
	Loss     float64 `json:"loss"`
	GradNorm float64 `json:"grad_norm"`
}

// A stepRun is a step that this program has measured.
type stepRun struct {
	config  llama.Config // with the layers that fit
	groups  []data.Group
	dt      kernels.DType
	seconds float64
	// Of the first step.
	loss, gradNorm float64
}

// torchStep measures in PyTorch what was measured of the shape before.
func (d *doctor) torchStep(ctx context.Context, shape string) finding {
	ours, ok := d.steps[shape]
	switch {
	case !ok:
		return skip("there is no step to compare with; see above")
	case d.emulated:
		return skip("PyTorch does not run on the emulator")
	}
	answer, err := d.askTorch(ctx, ours, torchLimit)
	if err != nil {
		return fail(err)
	}
	theirs, ok := answer.fastest()
	if !ok {
		return skip("with %d layers PyTorch runs out of memory in every layout", ours.config.Layers)
	}
	if apart := relative(theirs.Loss, ours.loss); !(apart <= sameStep) {
		return fail(fmt.Errorf("PyTorch (%s) computes another step: its loss is %.6g, rmtrain's %.6g", theirs.How, theirs.Loss, ours.loss))
	}
	tokens := 0
	for _, g := range ours.groups {
		for _, a := range g.Answers {
			tokens += len(a.Tokens)
		}
	}
	note := fmt.Sprintf("%s, the fastest of %d ways; torch %s, not compiled", theirs.How, len(answer.Runs), answer.Versions["torch"])
	d.report.Measured = append(d.report.Measured,
		measurement{Name: "tokens of conversations, " + shape + " shape, in PyTorch", Value: float64(tokens) / theirs.Seconds, Unit: "tokens/s", Note: note},
		measurement{Name: "time of the step in PyTorch, " + shape + " shape", Value: theirs.Seconds / ours.seconds, Unit: "times rmtrain's", Note: fmt.Sprintf("%.3g s and %.3g s", theirs.Seconds, ours.seconds)})
	return pass("%s: %.3g s, rmtrain %.3g s; loss %.5f and %.5f, norm of the gradients %.5g and %.5g", note, theirs.Seconds, ours.seconds, theirs.Loss, ours.loss, theirs.GradNorm, ours.gradNorm)
}

// sameStep bounds how far the losses of the same step may be apart, relative to rmtrain's:
// bfloat16 rounds in other places there, and a network of many layers amplifies that.
const sameStep = 0.05

func relative(a, b float64) float64 { return math.Abs(a-b) / math.Abs(b) }

// askTorch runs the script.
func (d *doctor) askTorch(ctx context.Context, s stepRun, limit time.Duration) (*torchAnswer, error) {
	c := s.config
	task := torchTask{Device: d.device, Threads: runtime.GOMAXPROCS(0), DType: dtypeName(s.dt), Groups: bestFirst(s.groups), Steps: timedSteps, Period: repeatedPeriod,
		Config: torchConfig{c.Layers, c.Hidden, c.FFN, c.Heads, c.KVHeads, c.HeadDim, c.Vocab, c.Eps, c.InvFreq}}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err := runScript(limited, d.o.python, "doctor_torch.py", torchScript, task)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case limited.Err() != nil:
		return nil, fmt.Errorf("%s took longer than %v and was stopped", d.o.python, limit)
	case err != nil:
		return nil, err
	}
	var a torchAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("%s: the script's answer cannot be read: %w", d.o.python, err)
	}
	if a.Error != "" {
		return nil, fmt.Errorf("%s: %s", d.o.python, a.Error)
	}
	return &a, a.check()
}

// check makes sure that there are runs, and that each has numbers or an error.
func (a *torchAnswer) check() error {
	bad := func(r torchRun) bool { return r.Error == "" && !(r.Seconds > 0) }
	if len(a.Runs) == 0 || slices.ContainsFunc(a.Runs, bad) {
		return errors.New("the script gave an incomplete answer")
	}
	return nil
}

// fastest returns the run that took least; none if all have failed.
func (a *torchAnswer) fastest() (best torchRun, ok bool) {
	for _, r := range a.Runs {
		if r.Error == "" && (!ok || r.Seconds < best.Seconds) {
			best, ok = r, true
		}
	}
	return best, ok
}

// bestFirst returns the ids of every group's conversations by rank.
func bestFirst(groups []data.Group) (all [][][]int32) {
	for _, g := range groups {
		answers := slices.Clone(g.Answers)
		slices.SortStableFunc(answers, func(a, b data.Answer) int { return cmp.Compare(a.Rank, b.Rank) })
		var ids [][]int32
		for _, a := range answers {
			ids = append(ids, a.Tokens)
		}
		all = append(all, ids)
	}
	return all
}
