package llama

import (
	"math"
	"slices"
	"strings"
)

// maxPosition is the first position that float32, in which angles are computed,
// no longer tells from its neighbours.
const maxPosition = 1 << 24

// rope returns the frequencies that rope_theta, rope_scaling (transformers 4) and
// rope_parameters (transformers 5) describe.
func (f *fields) rope(headDim int) []float32 {
	theta := f.positive("rope_theta", 10000)
	var out []float32
	for _, key := range []string{"rope_scaling", "rope_parameters"} {
		o := f.object(key)
		if o == nil || len(o.raw) == 0 {
			continue
		}
		if !f.null("rope_theta") && !o.null("rope_theta") && o.positive("rope_theta", theta) != theta {
			f.problem("rope_theta and %s.rope_theta differ", key)
		}
		freq := o.ropeObject(theta, headDim)
		f.problems = append(f.problems, o.problems...)
		if out != nil && freq != nil && !slices.Equal(out, freq) {
			f.problem("rope_scaling and rope_parameters differ")
		}
		out = freq
	}
	if out == nil && len(f.problems) == 0 {
		out = invFreq(theta, headDim)
	}
	for _, freq := range out {
		if !(freq > 0) || math.IsInf(float64(freq), 0) {
			f.problem("RoPE with rope_theta %g has frequencies beyond float32", theta)
			return nil
		}
	}
	return out
}

// ropeObject returns nil if it has problems.
func (f *fields) ropeObject(theta float64, headDim int) []float32 {
	kind := f.text("rope_type")
	if old := f.text("type"); old != "" {
		if kind != "" && kind != old {
			f.problem("%srope_type %q and %stype %q differ", f.prefix, kind, f.prefix, old)
		}
		kind = old
	}
	theta = f.positive("rope_theta", theta)
	if !f.null("partial_rotary_factor") && f.positive("partial_rotary_factor", 1) != 1 {
		f.problem("%spartial_rotary_factor must be 1, RoPE of a part of the channels is not supported", f.prefix)
	}
	if f.has("full_attention") || f.has("sliding_attention") {
		f.problem("%s of each kind of layer are not supported", strings.TrimSuffix(f.prefix, "."))
		return nil
	}
	if kind == "" && f.prefix == "rope_parameters." {
		kind = "default"
	}
	switch kind {
	case "default":
		return f.unlessProblems(func() []float32 { return invFreq(theta, headDim) })
	case "linear":
		factor := float32(f.positive("factor", 0))
		return f.unlessProblems(func() []float32 {
			out := invFreq(theta, headDim)
			for i := range out {
				out[i] /= factor
			}
			return out
		})
	case "llama3":
		s := llama3{
			factor:   f.positive("factor", 0),
			low:      f.positive("low_freq_factor", 0),
			high:     f.positive("high_freq_factor", 0),
			original: f.size("original_max_position_embeddings", 0, maxInt32),
		}
		if s.high <= s.low {
			f.problem("%shigh_freq_factor must be above low_freq_factor", f.prefix)
		}
		return f.unlessProblems(func() []float32 { return s.scale(invFreq(theta, headDim)) })
	}
	f.problem("%srope_type %q: supported are default, linear and llama3", f.prefix, kind)
	return nil
}

func (f *fields) unlessProblems(compute func() []float32) []float32 {
	if len(f.problems) > 0 {
		return nil
	}
	return compute()
}

// invFreq returns theta^(-2i/dim), rounded to float32 where PyTorch does.
func invFreq(theta float64, dim int) []float32 {
	out := make([]float32, dim/2)
	base := float64(float32(theta))
	for i := range out {
		exponent := float32(2*i) / float32(dim)
		out[i] = 1 / float32(math.Pow(base, float64(exponent)))
	}
	return out
}

// llama3 is the scaling of Llama 3.1: it divides the frequencies whose waves are
// longer than the original context by factor, leaves the short ones, and
// interpolates between.
type llama3 struct {
	factor, low, high float64
	original          int
}

// scale rounds to float32 where transformers does. The conversions also keep the
// compiler from fusing products and sums.
func (s llama3) scale(freq []float32) []float32 {
	long, short := float32(float64(s.original)/s.low), float32(float64(s.original)/s.high)
	factor := float32(s.factor)
	for i, f := range freq {
		wave := float32(2*math.Pi) / f
		switch {
		case wave > long:
			freq[i] = f / factor
		case wave >= short:
			smooth := (float32(s.original)/wave - float32(s.low)) / float32(s.high-s.low)
			freq[i] = float32(float32((1-smooth)*f)/factor) + float32(smooth*f)
		}
	}
	return freq
}

// ropeTable returns positions rows of the cosines and then the sines of every
// frequency's angle. Angle, cosine and sine are rounded to float32, as
// transformers does whatever the type of the model.
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
