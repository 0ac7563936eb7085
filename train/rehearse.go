package train

import (
	"fmt"

	"rmtrain/configs"
	"rmtrain/data"
	"rmtrain/kernels"
	"rmtrain/kernels/llama"
)

// Phases are the parts of a step, as Rehearse names them.
var Phases = []string{"forward", "backward", "optimizer"}

// Rehearse issues the operations of an optimizer step over groups to b, in the order of a run:
// for a backend that counts them. Weights and gradients of scores are zero. With
// o.Train false it only scores. Phase hears which of Phases begins.
func Rehearse(b kernels.Backend, c configs.Run, mc llama.Config, o llama.Options, groups []data.Group, phase func(string)) error {
	batches := pack(groups, c.PassRows(), c.Train.SharePrefix)
	for _, batch := range batches {
		o.MaxRows, o.MaxAnswers = max(o.MaxRows, len(batch.layout.Tokens)), max(o.MaxAnswers, len(batch.layout.Scored))
	}
	m, err := llama.New(b, mc, o)
	if err != nil {
		return fmt.Errorf("train: rehearse: %w", err)
	}
	defer m.Close()
	phase(Phases[2])
	m.ZeroGrad()
	for _, batch := range batches {
		phase(Phases[0])
		scores, err := m.Forward(batch.layout)
		if err != nil {
			return fmt.Errorf("train: rehearse: %w", err)
		}
		if !o.Train {
			continue
		}
		phase(Phases[1])
		if err := m.Backward(make([]float64, len(scores))); err != nil {
			return fmt.Errorf("train: rehearse: %w", err)
		}
	}
	if !o.Train {
		return nil
	}
	phase(Phases[2])
	opt, err := allocateOptimizer(b, c.Train, m.Params())
	defer opt.close()
	if err != nil {
		return fmt.Errorf("train: rehearse: %w", err)
	}
	if _, err := opt.gradNorm(); err != nil {
		return err
	}
	return opt.update(1, c.Train.LearningRate, 1)
}
