package checkpoints

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
)

func TestConversionsRoundToNearestEven(t *testing.T) {
	tests := []struct {
		name       string
		src, dst   string
		from, want []byte
	}{
		{"ties go to even", "F32", "BF16", []byte{0, 0x80, 0x80, 0x3f, 0, 0x80, 0x81, 0x3f}, []byte{0x80, 0x3f, 0x82, 0x3f}},
		{"above a tie", "F32", "BF16", []byte{1, 0x80, 0x80, 0x3f}, []byte{0x81, 0x3f}},
		{"largest float32", "F32", "BF16", []byte{0xff, 0xff, 0x7f, 0x7f}, []byte{0x80, 0x7f}},
		{"NaN stays NaN", "F32", "BF16", []byte{1, 0, 0x80, 0x7f}, []byte{0xc0, 0x7f}},
		{"negative infinity", "F32", "BF16", []byte{0, 0, 0x80, 0xff}, []byte{0x80, 0xff}},
		{"bf16 widens exactly", "BF16", "F32", []byte{0x81, 0xbf}, []byte{0, 0, 0x81, 0xbf}},
		{"half one and a half", "F16", "F32", []byte{0, 0x3e}, floats(1.5)},
		{"smallest subnormal half", "F16", "F32", []byte{1, 0}, floats(0x1p-24)},
		{"largest subnormal half", "F16", "F32", []byte{0xff, 3}, floats(1023 * 0x1p-24)},
		{"half infinity", "F16", "F32", []byte{0, 0xfc}, floats(float32(math.Inf(-1)))},
		{"half negative zero", "F16", "BF16", []byte{0, 0x80}, []byte{0, 0x80}},
		{"half to bf16", "F16", "BF16", []byte{0xff, 0x3b}, []byte{0x80, 0x3f}},
		{"double", "F64", "F32", binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.1)), floats(0.1)},
		{"double just above a tie", "F64", "BF16", binary.LittleEndian.AppendUint64(nil, math.Float64bits(1+0x1p-8+0x1p-40)), []byte{0x81, 0x3f}},
		{"double just below a tie", "F64", "BF16", binary.LittleEndian.AppendUint64(nil, math.Float64bits(1+3*0x1p-8-0x1p-40)), []byte{0x81, 0x3f}},
		{"huge double", "F64", "BF16", binary.LittleEndian.AppendUint64(nil, math.Float64bits(-1e300)), []byte{0x80, 0xff}},
		{"tiny double", "F64", "BF16", binary.LittleEndian.AppendUint64(nil, math.Float64bits(1e-300)), []byte{0, 0}},
	}
	for _, c := range tests {
		convert, err := converter(c.dst, c.src)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(c.want))
		convert(got, c.from)
		if !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x becomes %x, want %x", c.name, c.from, got, c.want)
		}
	}
}

func TestHalvesWidenExactly(t *testing.T) {
	for h := range 1 << 16 {
		exp, frac := h>>10&31, float64(h&0x3ff)
		want := math.Ldexp(frac, -24)
		if exp > 0 {
			want = math.Ldexp(1024+frac, exp-25)
		}
		if h>>15 == 1 {
			want = -want
		}
		got := float64(math.Float32frombits(halfToFloat(uint16(h))))
		if exp == 31 {
			if (frac != 0) != math.IsNaN(got) || (frac == 0) != math.IsInf(got, 0) {
				t.Errorf("half %#x widens to %v", h, got)
			}
			continue
		}
		if got != want || math.Signbit(got) != math.Signbit(want) {
			t.Errorf("half %#x widens to %v, want %v", h, got, want)
		}
	}
}
