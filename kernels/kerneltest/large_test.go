package kerneltest

import (
	"slices"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/reference"
)

// smallSizes have every part that large ones have: more rows than a sample, a table that
// is larger than a block is not, two key heads.
var smallSizes = Sizes{Rows: 67, Hidden: 40, FFN: 48, Tokens: 35, Heads: kernels.Heads{Q: 4, KV: 2, Dim: 8}, Prompt: 9, Answers: []int{5, 1, 7}}

func TestReferencePassesLargeChecks(t *testing.T) {
	for _, dt := range []kernels.DType{kernels.F64, kernels.F32, kernels.BF16} {
		b := reference.New(dt)
		for _, name := range smallSizes.LargeNames() {
			for _, err := range smallSizes.LargeErrors(b, dt, name) {
				t.Errorf("%v: %v", dt, err)
			}
		}
		if used := b.Used(); len(used) != 0 {
			t.Errorf("%v: %v is still in use", dt, used)
		}
	}
}

func TestEveryOperationHasALargeCheck(t *testing.T) {
	all := "\n" + strings.Join(smallSizes.LargeNames(), "\n")
	for _, name := range Names() {
		op := strings.Split(name, "/")[1]
		if strings.HasPrefix(name, "values/") && op != "Zero" && op != "AttentionBack" && op != "Attention" && !strings.Contains(all, "\n"+op+"/") {
			t.Errorf("no large check for %s", op)
		}
	}
}

// off is a backend whose named operation leaves its result slightly wrong.
type off struct {
	kernels.Backend
	at  string
	run int
}

func (o *off) spoil(op string, x kernels.Tensor, element int) {
	if op != o.at {
		return
	}
	v := load(o.Backend, x)
	v[element] = 4*v[element] + 1 + float64(o.run)
	o.Upload(x, encode(x.DType, round(x.DType, v)))
	o.run++
}

func (o *off) Add(out, a, b kernels.Tensor) {
	o.Backend.Add(out, a, b)
	o.spoil("Add", out, out.Len()-1)
}

func (o *off) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	o.Backend.MatMul(out, a, b, mode, accumulate)
	o.spoil("MatMul", out, out.Len()-1)
}

func (o *off) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	o.Backend.AttentionBack(dqkv, dout, out, lse, qkv, segs, h)
	o.spoil("AttentionBack", dqkv, dqkv.Len()-1)
}

func TestLargeChecksFindWhatIsWrong(t *testing.T) {
	for at, want := range map[string]string{"Add": "Add/", "MatMul": "MatMul/", "AttentionBack": "Attention and AttentionBack/"} {
		b := &off{Backend: reference.New(kernels.F32), at: at}
		for _, name := range smallSizes.LargeNames() {
			wrong := len(smallSizes.LargeErrors(b, kernels.F32, name)) > 0
			repeats := smallSizes.Repeat(b, kernels.F32, name, 3) == nil
			// AdamW's check copies its result by Add.
			expected := strings.HasPrefix(name, want) || at == "Add" && strings.HasPrefix(name, "AdamW/")
			if wrong != expected || repeats == expected {
				t.Errorf("%s is wrong: %s finds it: %v, repeats: %v", at, name, wrong, repeats)
			}
		}
	}
}

func TestUnknownLargeCheck(t *testing.T) {
	b := reference.New(kernels.F32)
	if len(smallSizes.LargeErrors(b, kernels.F32, "none")) != 1 || smallSizes.Repeat(b, kernels.F32, "none", 2) == nil {
		t.Error("a check that does not exist passes")
	}
}

func TestSomeAreDifferent(t *testing.T) {
	for n := 1; n < 400; n++ {
		at := some(n)
		if !slices.IsSorted(at) || len(slices.Compact(slices.Clone(at))) != min(n, 24) || at[0] != 0 || at[len(at)-1] != n-1 {
			t.Fatalf("some(%d) = %v", n, at)
		}
	}
}

// The values of an operand that is larger than a block repeat, and a part of them is what
// the bytes hold there.
func TestLargeOperandsRepeat(t *testing.T) {
	c := largeCase{testCase: testCase{name: "long", in: []operand{act(1009, 1201)}}}
	s := c.sources(kernels.BF16)[0]
	mem := s.bytes()
	part := cut{rows: []int{0, 500, 1008}, cols: []int{1, 1200}}
	got := decode(kernels.BF16, part.bytes(mem, s.shape, kernels.BF16.Size()))
	var want []float64
	part.visit(s.shape, func(i int) { want = append(want, s.block[i%len(s.block)]) })
	if len(s.block) != largeBlock || !slices.Equal(got, want) {
		t.Errorf("bytes hold %v, values %v", got, want)
	}
}
