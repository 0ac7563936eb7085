package train

import (
	"fmt"
	"math"

	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels/llama"
)

// A plan says how many steps a run has and which groups a step reads.
type plan struct {
	groups   int // of the training data
	perStep  int
	perEpoch int // steps
	total    int // steps
	seed     uint64

	epoch int // that order belongs to; -1 before the first
	order []int
}

func newPlan(c configs.Run, groups int) (*plan, error) {
	if groups == 0 {
		return nil, fmt.Errorf("train: plan: no group of ranked answers to train on (see the report of the data)")
	}
	if c.Train.PromptsPerStep < 1 || c.Train.MaxTokensPerBatch < 0 {
		return nil, fmt.Errorf("train: plan: prompts_per_step %d must be at least 1 and max_tokens_per_batch %d at least 0",
			c.Train.PromptsPerStep, c.Train.MaxTokensPerBatch)
	}
	p := &plan{groups: groups, perStep: c.Train.PromptsPerStep, seed: uint64(c.Data.Seed), epoch: -1}
	p.perEpoch = (groups + p.perStep - 1) / p.perStep
	p.total = c.Train.MaxSteps
	if p.total <= 0 {
		p.total = int(math.Ceil(c.Train.NumTrainEpochs * float64(p.perEpoch)))
	}
	if p.total <= 0 {
		return nil, fmt.Errorf("train: plan: no steps to take (raise num_train_epochs or set max_steps)")
	}
	return p, nil
}

// indices returns which groups step reads, counted from 1, in order. The last
// step of an epoch has what is left.
func (p *plan) indices(step int) []int {
	epoch, at := (step-1)/p.perEpoch, (step-1)%p.perEpoch*p.perStep
	if epoch != p.epoch {
		p.epoch, p.order = epoch, data.Shuffle(p.groups, p.seed, epoch)
	}
	return p.order[at:min(at+p.perStep, p.groups)]
}

// epochs returns how many passes over the data the first step steps are.
func (p *plan) epochs(step int) float64 {
	seen := min(step%p.perEpoch*p.perStep, p.groups)
	return float64(step/p.perEpoch) + float64(seen)/float64(p.groups)
}

// A Forecast is what a run would do, for --dry-run.
type Forecast struct {
	Groups        int
	StepsPerEpoch int
	TotalSteps    int
	WarmupSteps   int
	// MicroBatches are the rows of each forward pass of the first step.
	MicroBatches []int
	// Tokens are those of the first step's conversations, Rows what is left of them
	// after sharing prompts.
	Tokens, Rows int
	// MaxRows is a bound on the rows of any micro-batch of the run, and MaxAnswers the
	// answers of the first step's largest.
	MaxRows, MaxAnswers int
	// Memory is the bytes by purpose that model and optimizer take.
	Memory map[string]int64
}

// KeptPasses is the number of passes of a step from which it pays to keep the packed form
// of a weight, see kernels.Keeper: packing all of it once takes as long as a few products
// lose by packing for themselves.
const KeptPasses = 8

// Plan forecasts a run over train. Options' MaxRows and MaxAnswers, if 0, are those
// of the forecast.
func Plan(c configs.Run, mc llama.Config, o llama.Options, train *data.Dataset) (Forecast, error) {
	p, err := newPlan(c, train.Len())
	if err != nil {
		return Forecast{}, err
	}
	f := Forecast{Groups: p.groups, StepsPerEpoch: p.perEpoch, TotalSteps: p.total, WarmupSteps: warmupSteps(c.Train, p.total)}
	groups := read(train, p.indices(1))
	for _, b := range pack(groups, c.PassRows(), c.Train.SharePrefix) {
		rows := len(b.layout.Tokens)
		f.MicroBatches = append(f.MicroBatches, rows)
		f.Rows += rows
		f.Tokens += b.layout.Real
		f.MaxAnswers = max(f.MaxAnswers, len(b.layout.Scored))
	}
	largest := largestGroup(c, train)
	f.MaxRows = maxRows(c, train.Rows(largest, c.Train.SharePrefix))
	if o.Planner != nil && o.Fullest == nil {
		o.Fullest = fullest(append([]data.Group{train.Group(largest)}, groups...), f.MaxRows, c.Train.SharePrefix)
	}
	if o.MaxRows == 0 {
		o.MaxRows = f.MaxRows
	}
	if o.MaxAnswers == 0 {
		o.MaxAnswers = f.MaxAnswers
	}
	f.Memory = Memory(c.Train, mc, o)
	return f, nil
}

// maxRows bounds the rows of a micro-batch: the budget, unless a step has less or the
// largest group, which has so many rows, more.
func maxRows(c configs.Run, largest int) int {
	return max(largest, min(c.PassRows(), c.Train.PromptsPerStep*largest))
}

// largestGroup returns the number of the group with the most rows.
func largestGroup(c configs.Run, d *data.Dataset) (at int) {
	for i := range d.Len() {
		if d.Rows(i, c.Train.SharePrefix) > d.Rows(at, c.Train.SharePrefix) {
			at = i
		}
	}
	return at
}

// fullest returns a micro-batch of so many rows, as one of the run may be: groups, again
// and again while they fit, and a conversation of as many tokens as rows are left.
func fullest(groups []data.Group, rows int, share bool) *data.Batch {
	var all []data.Group
	for left := rows; ; {
		before := left
		for _, g := range groups {
			if n := data.PackRows(g, share); n <= left {
				all, left = append(all, g), left-n
			}
		}
		if left > 0 && left == before {
			all = append(all, data.Group{Answers: []data.Answer{{Tokens: make([]int32, left)}}})
			left = 0
		}
		if left == 0 {
			return data.Pack(all, share)
		}
	}
}

// Memory returns the bytes by purpose that a model and its optimizer take. Options have
// the MaxRows and MaxAnswers of the largest micro-batch.
func Memory(c configs.Train, mc llama.Config, o llama.Options) map[string]int64 {
	m := llama.Plan(mc, o)
	m[optimizerTag] += normBytes
	for _, p := range llama.Table(mc) {
		if o.Frozen != nil && o.Frozen(p.Name) {
			continue
		}
		elements := int64(1)
		for _, n := range p.Shape {
			elements *= int64(n)
		}
		m[optimizerTag] += elements * stateBytes(c, o.DType)
	}
	return m
}
