package checkpoints

import "encoding/binary"

// The conversions that opening a model waits for take several elements at a time, as lanes
// of one 64-bit word. Lanes that need care, of which weights have few, go to the functions
// for one element; results have the same bits.
const (
	lanes16 = 0x0001000100010001 // the lowest bit of each lane of 16
	lanes32 = 0x0000000100000001
)

// widenBF16 converts bfloat16 to float32.
func widenBF16(d, s []byte) {
	le := binary.LittleEndian
	for len(s) >= 16 && len(d) >= 32 {
		a, b := le.Uint64(s), le.Uint64(s[8:])
		le.PutUint64(d, firstTwo(a))
		le.PutUint64(d[8:], lastTwo(a))
		le.PutUint64(d[16:], firstTwo(b))
		le.PutUint64(d[24:], lastTwo(b))
		d, s = d[32:], s[16:]
	}
	for i := range len(s) / 2 {
		le.PutUint32(d[4*i:], uint32(le.Uint16(s[2*i:]))<<16)
	}
}

// firstTwo and lastTwo move two lanes of 16 to the upper halves of lanes of 32.
func firstTwo(v uint64) uint64 { return v&0xffff<<16 | v&0xffff0000<<32 }
func lastTwo(v uint64) uint64  { return v>>32&0xffff<<16 | v>>48<<48 }

// narrowFloat converts float32 to bfloat16.
func narrowFloat(d, s []byte) {
	le := binary.LittleEndian
	for len(s) >= 32 && len(d) >= 16 {
		a, b, c, e := le.Uint64(s), le.Uint64(s[8:]), le.Uint64(s[16:]), le.Uint64(s[24:])
		if notNumbers(a)|notNumbers(b)|notNumbers(c)|notNumbers(e) == 0 {
			le.PutUint64(d, rounded(a)|rounded(b)<<32)
			le.PutUint64(d[8:], rounded(c)|rounded(e)<<32)
		} else {
			narrowEach(d[:16], s[:32])
		}
		d, s = d[16:], s[32:]
	}
	narrowEach(d, s)
}

func narrowEach(d, s []byte) {
	le := binary.LittleEndian
	for i := range len(s) / 4 {
		le.PutUint16(d[2*i:], floatToBF16(le.Uint32(s[4*i:])))
	}
}

// notNumbers returns a word that is not 0 if one of two floats is NaN.
func notNumbers(v uint64) uint64 {
	return (v&(0x7fffffff*lanes32) + 0x007fffff*lanes32) & (0x80000000 * lanes32)
}

// rounded rounds two floats, neither of which is NaN, to the lower half of a word.
func rounded(v uint64) uint64 {
	v += 0x7fff*lanes32 + v>>16&lanes32
	return v>>16&0xffff | v>>32&0xffff0000
}

// widenHalf converts IEEE halves to float32.
func widenHalf(d, s []byte) {
	le := binary.LittleEndian
	for len(s) >= 8 && len(d) >= 16 {
		v := le.Uint64(s)
		if normalHalves(v) {
			le.PutUint64(d, halvesToFloats(firstTwo(v)))
			le.PutUint64(d[8:], halvesToFloats(lastTwo(v)))
		} else {
			widenEachHalf(d[:16], s[:8])
		}
		d, s = d[16:], s[8:]
	}
	widenEachHalf(d, s)
}

func widenEachHalf(d, s []byte) {
	le := binary.LittleEndian
	for i := range len(s) / 2 {
		le.PutUint32(d[4*i:], halfToFloat(le.Uint16(s[2*i:])))
	}
}

// normalHalves tells whether four halves are neither zero, subnormal, infinite nor NaN:
// without its sign, each lies in [0x0400, 0x7c00).
func normalHalves(v uint64) bool {
	v &= 0x7fff * lanes16
	return (v+0x7c00*lanes16)&^(v+0x0400*lanes16)&(0x8000*lanes16) == 0x8000*lanes16
}

// halvesToFloats widens two normal halves in the upper halves of lanes of 32.
func halvesToFloats(v uint64) uint64 {
	const signs = 0x80000000 * lanes32
	return v&signs | (v&^signs>>3 + 112<<23*lanes32)
}

// narrowHalf converts IEEE halves to bfloat16.
func narrowHalf(d, s []byte) {
	le := binary.LittleEndian
	for len(s) >= 8 && len(d) >= 8 {
		v := le.Uint64(s)
		if normalHalves(v) {
			le.PutUint64(d, halvesToBF16(v))
		} else {
			narrowEachHalf(d[:8], s[:8])
		}
		d, s = d[8:], s[8:]
	}
	narrowEachHalf(d, s)
}

func narrowEachHalf(d, s []byte) {
	le := binary.LittleEndian
	for i := range len(s) / 2 {
		le.PutUint16(d[2*i:], floatToBF16(halfToFloat(le.Uint16(s[2*i:]))))
	}
}

// halvesToBF16 rounds three of ten fraction bits of four normal halves away.
func halvesToBF16(v uint64) uint64 {
	x := v & (0x7fff * lanes16)
	x += 3*lanes16 + x>>3&lanes16
	return v&(0x8000*lanes16) | (x>>3&(0x1fff*lanes16) + 112<<7*lanes16)
}
