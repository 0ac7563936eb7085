package llama

import "rmtrain/data"

// FLOPs returns the floating point operations of the model's matrix products and
// attention for one forward pass over batch. Attention counts the keys that each
// row sees, and no others.
func (m *Model) FLOPs(batch *data.Batch) float64 {
	c := m.Config
	q := c.Heads * c.HeadDim
	perRow := 2 * float64(c.Hidden) * float64(m.h.QKV()+q+3*c.FFN)
	seen := 0.0
	for _, s := range batch.Segments {
		prefix := int(s.PrefixHi - s.PrefixLo)
		for i := prefix; i < prefix+int(s.Hi-s.Lo); i++ {
			keys := i + 1
			if c.Window > 0 {
				keys = min(keys, c.Window)
			}
			seen += float64(keys)
		}
	}
	attention := 4 * float64(q) * seen // q·k, then times v
	head := 2 * float64(c.Hidden) * float64(len(batch.Scored))
	return float64(c.Layers)*(perRow*float64(len(batch.Tokens))+attention) + head
}
