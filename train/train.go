// Package train is the training loop: the order of prompts, micro-batches,
// gradient clipping, AdamW, the learning rate's schedule, metrics, evaluation,
// early stopping, and states from which a run goes on with the same bits.
//
// One optimizer step reads prompts_per_step groups in the order of data.Shuffle.
// They are packed into micro-batches of at most max_tokens_per_batch rows, whose
// gradients add up before the parameters change once. The gradient of every score
// is divided by the number of groups of the whole step, so that neither the size
// of a micro-batch nor the order of groups changes the step beyond rounding.
package train

import (
	"context"
	"errors"
	"fmt"
	"io"

	"rmtrain/checkpoints"
	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

// ErrInterrupted is returned by Run when its context ended: the step in progress
// was finished and a state saved.
var ErrInterrupted = errors.New("train: interrupted; the same command goes on from here")

// Inputs is all that a run needs; cmd/rmtrain puts it together.
type Inputs struct {
	Config  configs.Run
	Backend kernels.Backend
	// Model has its weights loaded and its value head initialized.
	Model *llama.Model
	Train *data.Dataset
	Eval  *data.Dataset // may be nil
	// Identity names what determines the result besides the configuration and the
	// data sets, which Run adds: the base model and the format of conversations, as
	// digests. A state whose identity differs is refused, and the error names what
	// differs.
	Identity map[string]string
	// Export writes the final model into dir. It must leave dir complete or as it was,
	// and replace a model that is there: that of this run, before it was extended or
	// died at this very point. Run has refused a folder with any other.
	Export func(dir string, tensors []checkpoints.Tensor, s Summary) error
	// DataReport is what was found in the data, a table of text, and Text shows ids; both
	// are for report.html, which has no samples without Text.
	DataReport string
	Text       func(ids []int32) (string, error)
	// PeakFLOPS is the machine's measured GEMM peak; 0 if it is unknown.
	PeakFLOPS float64
	// Log takes lines for people; nil for none. Progress adds a bar, which makes
	// sense if Log is a terminal.
	Log      io.Writer
	Progress bool
}

// An Evaluation is what the model does on the evaluation data.
type Evaluation struct {
	Step             int     `json:"step"`
	Loss             float64 `json:"eval_loss"`
	PairwiseAccuracy float64 `json:"eval_pairwise_accuracy"`
	Groups           int     `json:"groups"`
}

// A Summary is the outcome of a run. It is also written to output_dir/summary.json
// once the final model is there.
type Summary struct {
	Step       int     `json:"step"`        // optimizer steps taken
	TotalSteps int     `json:"total_steps"` // that were planned
	Epoch      float64 `json:"epoch"`
	// Exported is the step of the exported weights: the last, or the best.
	Exported int `json:"exported_step"`
	// TrainLoss is the mean over all groups of this run, resumed parts included.
	TrainLoss float64     `json:"train_loss"`
	Last      *Evaluation `json:"last_evaluation,omitempty"`
	Best      *Evaluation `json:"best_evaluation,omitempty"`
	// NonFinite counts skipped steps.
	NonFinite    int     `json:"nonfinite_steps"`
	StoppedEarly bool    `json:"stopped_early"`
	Seconds      float64 `json:"train_seconds"` // in optimizer steps
	// AlreadyFinished tells that the output folder held this very run, finished, and
	// that nothing was done.
	AlreadyFinished bool `json:"-"`
}

// Run trains until the planned number of steps, an early stop or the end of ctx,
// and exports the final model. It returns ErrInterrupted if ctx ended and a state
// was saved.
func Run(ctx context.Context, in Inputs) (Summary, error) {
	t, err := newTrainer(in)
	if err != nil {
		return Summary{}, err
	}
	defer t.close()
	done, err := t.begin()
	if err != nil {
		return Summary{}, err
	}
	if done != nil {
		return *done, nil
	}
	if err := t.loop(ctx); err != nil {
		return t.summary(), err
	}
	return t.finish()
}

// loop takes steps. Everything that follows a step is written so that it may run
// again after a resume: what is already done at this step is not done twice.
func (t *trainer) loop(ctx context.Context) error {
	for {
		if err := t.evaluateIfDue(ctx); err != nil {
			return t.interrupted(ctx, err)
		}
		if err := t.saveIfDue(); err != nil {
			return err
		}
		if t.complete() {
			return nil
		}
		if ctx.Err() != nil {
			return t.interrupted(ctx, ctx.Err())
		}
		if err := t.step(); err != nil {
			return err
		}
		if err := t.logIfDue(); err != nil {
			return err
		}
	}
}

// complete tells whether no step is left to take.
func (t *trainer) complete() bool {
	return t.state.Step >= t.plan.total || t.state.StoppedEarly
}

// interrupted saves a state if err comes from the end of ctx.
func (t *trainer) interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	if err := t.save(); err != nil {
		return err
	}
	t.say("interrupted after step %d of %d", t.state.Step, t.plan.total)
	return ErrInterrupted
}

// finish chooses the weights, exports them and marks the run as finished.
func (t *trainer) finish() (Summary, error) {
	t.drawCurves()
	if err := t.loadBest(); err != nil {
		return t.summary(), err
	}
	s := t.summary()
	t.writeReport(s)
	dir := t.cfg.OutputDir
	if err := t.in.Export(dir, t.weights(), s); err != nil {
		return s, fmt.Errorf("train: export final model to %s: %w (free space or make the folder writable and start again: the finished state is kept)", dir, err)
	}
	if err := writeSummary(dir, t.identity, s); err != nil {
		return s, err
	}
	return s, nil
}
