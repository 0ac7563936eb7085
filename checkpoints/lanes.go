package checkpoints

import "encoding/binary"

// IEEE halves are converted four at a time, as lanes of one 64-bit word, where all of them
// are normal numbers, as most weights are, and else one by one. Results have the same bits.
const (
	lanes16 = 0x0001000100010001 // the lowest bit of each lane of 16
	lanes32 = 0x0000000100000001
)

// firstTwo and lastTwo move two lanes of 16 to the upper halves of lanes of 32.
func firstTwo(v uint64) uint64 { return v&0xffff<<16 | v&0xffff0000<<32 }
func lastTwo(v uint64) uint64  { return v>>32&0xffff<<16 | v>>48<<48 }

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
