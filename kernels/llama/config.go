package llama

import (
	"fmt"

	"rmtrain/kernels"
)

// Config is the part of a Hugging Face config.json that shapes the numbers.
type Config struct {
	Layers, Hidden, FFN, Heads, KVHeads, HeadDim, Vocab int
	MaxPositions                                        int
	Eps                                                 float64
	Tied                                                bool  // embedding and lm_head are one tensor; only loading cares
	PadTokenID                                          int32 // its embedding gets no gradient; -1 if none
	Window                                              int   // sliding window, 0 if none
	QKVBias, OutBias, MLPBias                           bool
	InvFreq                                             []float32 // RoPE, HeadDim/2, scaling applied
}

func (c Config) heads() kernels.Heads {
	return kernels.Heads{Q: c.Heads, KV: c.KVHeads, Dim: c.HeadDim, Window: c.Window}
}

// check refuses sizes that no model can have, such as those of a Config that
// did not come from ParseConfig.
func (c Config) check() error {
	for _, s := range []struct {
		name string
		n    int
	}{
		{"Layers", c.Layers}, {"Hidden", c.Hidden}, {"FFN", c.FFN}, {"Heads", c.Heads},
		{"KVHeads", c.KVHeads}, {"HeadDim", c.HeadDim}, {"Vocab", c.Vocab},
	} {
		if s.n <= 0 {
			return fmt.Errorf("config: %s is %d, must be positive", s.name, s.n)
		}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("config: %d heads cannot share %d key-value heads evenly", c.Heads, c.KVHeads)
	case len(c.InvFreq)*2 != c.HeadDim:
		return fmt.Errorf("config: %d RoPE frequencies for heads of %d channels", len(c.InvFreq), c.HeadDim)
	case c.Window < 0:
		return fmt.Errorf("config: Window is %d, must not be negative", c.Window)
	}
	return nil
}
