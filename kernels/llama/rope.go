package llama

import "math"

// maxPosition is the first position that float32, in which angles are computed,
// no longer tells from its neighbours.
const maxPosition = 1 << 24

// ropeTable returns positions rows of the cosines and then the sines of every
// frequency's angle. Angle, cosine and sine
// are rounded to float32, as transformers does whatever the type of the model.
func ropeTable(positions int, invFreq []float32) []float64 {
	half := len(invFreq)
	table := make([]float64, positions*2*half)
	for p := range positions {
		row := table[p*2*half:][:2*half]
		for i, f := range invFreq {
			sin, cos := math.Sincos(float64(float32(p) * f))
			row[i], row[half+i] = float64(float32(cos)), float64(float32(sin))
		}
	}
	return table
}
