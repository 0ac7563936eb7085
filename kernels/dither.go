package kernels

import "math"

// A Dither is the random numbers of stochastic rounding in one update of one tensor: 16
// bits for each element, which are a function of seed, step and the element's index alone.
// There is no state, so that neither threads nor backends nor a resumed run change a bit.
//
// All arithmetic is modulo a power of two. With SplitMix64's finalizer (Steele, Lea and
// Flood, 2014), the update has the key
//
//	z = seed + step*0x9e3779b97f4a7c15
//	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
//	z = (z ^ z>>27) * 0x94d049bb133111eb
//	High<<32 | Low = z ^ z>>31
//
// and, with Wellons' lowbias32 as mix, element i has the upper half of 32 bits:
//
//	mix(x): x = (x ^ x>>16) * 0x7feb352d; x = (x ^ x>>15) * 0x846ca68b; x ^ x>>16
//	mix(mix(i mod 2^32 ^ Low) ^ i>>32 ^ High) >> 16
type Dither struct{ Low, High uint32 }

// NewDither returns the numbers of an update; steps count from 1, as those of AdamW.
func NewDither(seed uint64, step int) Dither {
	z := seed + uint64(step)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return Dither{Low: uint32(z), High: uint32(z >> 32)}
}

// At returns the number of element i, in [0, 2^16).
func (d Dither) At(i int) uint32 {
	x := mix(uint32(i) ^ d.Low)
	return mix(x^uint32(uint64(i)>>32)^d.High) >> 16
}

func mix(x uint32) uint32 {
	x = (x ^ x>>16) * 0x7feb352d
	x = (x ^ x>>15) * 0x846ca68b
	return x ^ x>>16
}

// Round returns the bits of x, which is element i, as a bfloat16: x itself if it is one,
// and otherwise one of its two neighbours, each with the probability of how near it is.
// Infinity is the upper neighbour of the largest bfloat16. Infinities and NaN stay.
func (d Dither) Round(x float32, i int) uint16 {
	bits := math.Float32bits(x)
	if x != x {
		return uint16(bits>>16) | 0x40 // quiet, so that cutting the payload leaves a NaN
	}
	return uint16((bits + d.At(i)) >> 16)
}
