package llama

import (
	"rmtrain/data"
	"rmtrain/kernels"
)

// FLOPs returns the floating point operations of the model's matrix products and
// attention for one forward pass over batch, those that Forward executes: attention
// counts the keys that each row sees, and the last layer the scored rows.
func (m *Model) FLOPs(batch *data.Batch) float64 {
	c := m.Config
	segs, last := segmentsOf(batch, nil, nil)
	q, rows, answers := float64(c.Heads*c.HeadDim), float64(len(batch.Tokens)), float64(len(batch.Scored))
	layers := float64(c.Layers)
	keys := 2 * float64(c.Hidden) * (float64(m.h.QKV()) - q) // and values
	rest := 2 * float64(c.Hidden) * (2*q + 3*float64(c.FFN))
	products := layers*rows*keys + ((layers-1)*rows+answers)*rest + answers*2*float64(c.Hidden)
	attention := 4 * q * ((layers-1)*c.seen(segs) + c.seen(last)) // q·k, then times v
	return products + attention
}

// seen counts the keys that the queries of segs see.
func (c Config) seen(segs []kernels.Segment) float64 {
	keys := 0
	for _, s := range segs {
		for r := s.Queries(); r < s.Hi; r++ {
			n := int(s.PrefixHi - s.PrefixLo + r - s.Lo + 1)
			if c.Window > 0 {
				n = min(n, c.Window)
			}
			keys += n
		}
	}
	return float64(keys)
}
