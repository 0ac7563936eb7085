package kerneltest

import (
	"fmt"
	"slices"

	"rmtrain/kernels"
)

// A testCase is one operation on operands of given shapes. All operands, outputs
// too, start out random, so that a missing = or += shows.
type testCase struct {
	name  string // operation/variant/size
	class Class
	in    []operand
	out   []int // the operands that the operation writes
	rows  []int // the operands of which row r belongs to row r of out[0]
	// prepare makes some operands from others, on the reference.
	prepare func(ref kernels.Backend, t []kernels.Tensor)
	run     func(b kernels.Backend, t []kernels.Tensor)
	small   bool          // also a case of nonfinite/ and shapes/
	columns []int         // the operands that may be columns of a tensor
	poison  map[int][]int // nonfinite/: elements of operands; the default is a few of each
	flops   float64       // of MatMul
}

var cases = withColumns(slices.Concat(elementwiseCases(), rowCases(), matmulCases(), ropeCases(), attentionCases(), adamwCases()))

var matrixSizes = [][2]int{{5, 7}, {1, 1}, {31, 65}, {17, 576}, {130, 96}}

func elementwiseCases() (cs []testCase) {
	for i, s := range matrixSizes {
		n, c, first := s[0], s[1], i == 0
		size := fmt.Sprintf("%dx%d", n, c)
		cs = append(cs,
			testCase{name: "Zero/" + size, class: Copied, in: []operand{act(n, c)}, out: []int{0},
				run: func(b kernels.Backend, t []kernels.Tensor) { b.Zero(t[0]) }},
			testCase{name: "Add/" + size, class: Elementwise, small: first,
				in: []operand{act(n, c), act(n, c), act(n, c)}, out: []int{0}, rows: []int{0, 1, 2},
				run: func(b kernels.Backend, t []kernels.Tensor) { b.Add(t[0], t[1], t[2]) }},
			testCase{name: "Add/onto first/" + size, class: Elementwise,
				in: []operand{act(n, c), act(n, c)}, out: []int{0}, rows: []int{0, 1},
				run: func(b kernels.Backend, t []kernels.Tensor) { b.Add(t[0], t[0], t[1]) }},
			testCase{name: "Add/onto second/" + size, class: Elementwise,
				in: []operand{act(n, c), act(n, c)}, out: []int{0}, rows: []int{0, 1},
				run: func(b kernels.Backend, t []kernels.Tensor) { b.Add(t[0], t[1], t[0]) }},
			testCase{name: "AddBias/" + size, class: Elementwise, small: first,
				in: []operand{act(n, c).ofAnyRows(), act(c)}, out: []int{0}, rows: []int{0},
				run: func(b kernels.Backend, t []kernels.Tensor) { b.AddBias(t[0], t[1]) }},
			testCase{name: "AddBiasBack/" + size, class: Product, small: first,
				in: []operand{stat(c), act(n, c).ofAnyRows()}, out: []int{0},
				run: func(b kernels.Backend, t []kernels.Tensor) { b.AddBiasBack(t[0], t[1]) }},
			swiglu("SwiGLU/"+size, n, c, 1, first),
			swigluBack("SwiGLUBack/"+size, n, c, 1, first))
	}
	cs = append(cs, swiglu("SwiGLU/large gates", 33, 40, 40, false), swigluBack("SwiGLUBack/large gates", 33, 40, 40, false))
	for i, n := range []int{40, 1, 4099} {
		cs = append(cs,
			sumSq(fmt.Sprintf("SumSq/activations/%d", n), act(n), i == 0),
			sumSq(fmt.Sprintf("SumSq/gradients/%d", n), stat(n), false))
	}
	return append(cs, sumSq("SumSq/squares beyond float32", stat(33, 7).times(1e30), false))
}

func swiglu(name string, n, c int, scale float64, small bool) testCase {
	return testCase{name: name, class: Elementwise, small: small,
		in: []operand{act(n, c), act(n, 2*c).times(scale)}, out: []int{0}, rows: []int{0, 1},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.SwiGLU(t[0], t[1]) }}
}

func swigluBack(name string, n, c int, scale float64, small bool) testCase {
	return testCase{name: name, class: Elementwise, small: small,
		in: []operand{act(n, 2*c), act(n, c), act(n, 2*c).times(scale)}, out: []int{0}, rows: []int{0, 1, 2},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.SwiGLUBack(t[0], t[1], t[2]) }}
}

func sumSq(name string, x operand, small bool) testCase {
	x.anyRows = true
	return testCase{name: name, class: Exact64, small: small, in: []operand{total(), x}, out: []int{0},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.SumSq(t[0], t[1]) }}
}

func rowCases() (cs []testCase) {
	for i, s := range matrixSizes {
		n, c := s[0], s[1]
		size := fmt.Sprintf("%dx%d", n, c)
		cs = append(cs,
			rmsNorm("RMSNorm/"+size, n, c, 1, 1e-5, i == 0),
			rmsNormBack("RMSNormBack/"+size, n, c, i == 0),
			embed("Embed/"+size, c, indicesBelow(9, n), i == 0),
			embedBack("EmbedBack/"+size, c, -1, indicesBelow(9, n), i == 0),
			scatter("Scatter/"+size, c, indicesBelow(2*n, min(n, 9)), i == 0))
	}
	cs = append(cs,
		rmsNorm("RMSNorm/rows as small as eps", 7, 33, 1e-3, 1e-5, false),
		scatter("Scatter/repeated", 33, ids(2, 2, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2), false),
		embedBack("EmbedBack/skip/repeated", 7, 3, ids(8, 0, 3, 3, 8, 8, 3), true),
		embedBack("EmbedBack/skip/first row", 33, 0, ids(0, 2, 0, 5), false))
	for i, s := range []struct{ n, c, answers int }{{7, 8, 3}, {1, 1, 1}, {65, 33, 9}, {130, 576, 7}} {
		at := make([]int32, s.answers) // all different, in no order
		for i := range at {
			at[i] = int32((s.n - 1 + 5*i) % s.n)
		}
		size := fmt.Sprintf("%dx%d", s.n, s.c)
		cs = append(cs,
			testCase{name: "ValueHead/" + size, class: Product, small: i == 0,
				in: []operand{stat(s.answers), act(s.n, s.c).ofAnyRows(), ids(at...), act(s.c)}, out: []int{0}, rows: []int{0, 2},
				run: func(b kernels.Backend, t []kernels.Tensor) { b.ValueHead(t[0], t[1], t[2], t[3]) }},
			valueHeadBack("ValueHeadBack/"+size, s.n, s.c, at, i == 0))
	}
	return append(cs, valueHeadBack("ValueHeadBack/repeated rows", 7, 33, []int32{2, 0, 2, 6, 2, 0}, false))
}

func valueHeadBack(name string, n, c int, at []int32, small bool) testCase {
	return testCase{name: name, class: Product, small: small,
		in: []operand{act(n, c), stat(c), stat(len(at)), act(n, c), ids(at...), act(c)}, out: []int{0, 1},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.ValueHeadBack(t[0], t[1], t[2], t[3], t[4], t[5]) }}
}

func rmsNorm(name string, n, c int, scale, eps float64, small bool) testCase {
	return testCase{name: name, class: Elementwise, small: small,
		in: []operand{act(n, c), stat(n), act(n, c).times(scale), act(c)}, out: []int{0, 1}, rows: []int{0, 1, 2},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.RMSNorm(t[0], t[1], t[2], t[3], eps) }}
}

func rmsNormBack(name string, n, c int, small bool) testCase {
	return testCase{name: name, class: Elementwise, small: small,
		in:  []operand{act(n, c), stat(c), act(n, c), act(n, c), act(c), stat(n)},
		out: []int{0, 1}, rows: []int{0, 2, 3, 5},
		prepare: func(ref kernels.Backend, t []kernels.Tensor) {
			saved := load(ref, t[0])
			ref.RMSNorm(t[0], t[5], t[3], t[4], 1e-5)
			ref.Upload(t[0], encode(t[0].DType, saved))
		},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.RMSNormBack(t[0], t[1], t[2], t[3], t[4], t[5]) }}
}

func embed(name string, c int, at operand, small bool) testCase {
	return testCase{name: name, class: Copied, small: small, columns: []int{1},
		in: []operand{act(len(at.indices), c), act(9, c).ofAnyRows(), at}, out: []int{0}, rows: []int{0, 2},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.Embed(t[0], t[1], t[2]) }}
}

func embedBack(name string, c int, skip int32, at operand, small bool) testCase {
	return testCase{name: name, class: Product, small: small,
		in: []operand{stat(9, c).ofAnyRows(), act(len(at.indices), c), at}, out: []int{0},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.EmbedBack(t[0], t[1], t[2], skip) }}
}

func scatter(name string, c int, at operand, small bool) testCase {
	n := 2 * len(at.indices)
	for _, i := range at.indices {
		n = max(n, int(i)+1)
	}
	return testCase{name: name, class: Elementwise, small: small, columns: []int{0},
		in: []operand{act(n, c).ofAnyRows(), act(len(at.indices), c), at}, out: []int{0},
		run: func(b kernels.Backend, t []kernels.Tensor) { b.Scatter(t[0], t[1], t[2]) }}
}

// matmulSizes are rows, columns and the length of sums.
var matmulSizes = [][3]int{{5, 7, 3}, {1, 1, 1}, {1, 66, 100}, {17, 5, 65}, {15, 33, 17}, {16, 32, 64}, {31, 65, 63}, {33, 47, 31}, {64, 200, 150}, {130, 70, 530}}

func matmulCases() (cs []testCase) {
	for i, s := range matmulSizes {
		for mode, name := range []string{"NT", "NN", "TN"} {
			for _, accumulate := range []bool{false, true} {
				cs = append(cs, matmul(name, kernels.Trans(mode), s[0], s[1], s[2], accumulate, i == 0))
			}
		}
	}
	return cs
}

func matmul(name string, mode kernels.Trans, m, n, k int, accumulate, small bool) testCase {
	c := testCase{class: Product, small: small, out: []int{0}, columns: []int{0, 1}, flops: 2 * float64(m) * float64(n) * float64(k),
		run: func(b kernels.Backend, t []kernels.Tensor) { b.MatMul(t[0], t[1], t[2], mode, accumulate) }}
	switch mode {
	case kernels.NT:
		c.in, c.rows = []operand{act(m, n), act(m, k), act(n, k)}, []int{0, 1}
	case kernels.NN:
		c.in, c.rows = []operand{act(m, n), act(m, k), act(k, n)}, []int{0, 1}
	case kernels.TN:
		c.in = []operand{stat(m, n), act(k, m), act(k, n)}
	}
	c.name = fmt.Sprintf("MatMul/%s/%dx%dx%d", name, m, n, k)
	if accumulate {
		c.name = fmt.Sprintf("MatMul/%s accumulate/%dx%dx%d", name, m, n, k)
	}
	return c
}

func adamwCases() (cs []testCase) {
	for i, s := range []struct {
		shape []int
		step  int
		decay float64
	}{{[]int{5, 7}, 3, .1}, {[]int{1}, 1, 0}, {[]int{4099}, 1, .1}, {[]int{130, 96}, 1000, .01}} {
		step := kernels.AdamW{LR: .1, Beta1: .9, Beta2: .95, Eps: 1e-2, WeightDecay: s.decay, GradScale: .5, Step: s.step}
		of := func(k kind) operand { return operand{kind: k, shape: s.shape} }
		cs = append(cs, testCase{name: fmt.Sprintf("AdamW/%v", s.shape), class: Elementwise, small: i == 0,
			// Param, Master, M, V, Grad.
			in:  []operand{of(activation), of(statistic), of(statistic), of(statistic).positive(), of(statistic)},
			out: []int{0, 1, 2, 3},
			run: func(b kernels.Backend, t []kernels.Tensor) { adamW(b, step, t) }}, testCase{
			name: fmt.Sprintf("AdamW stochastic/%v", s.shape), class: Elementwise, small: i == 0,
			// Param, M, V, Grad.
			in:  []operand{of(activation), of(statistic), of(statistic).positive(), of(statistic)},
			out: []int{0, 1, 2},
			run: func(b kernels.Backend, t []kernels.Tensor) { stochasticAdamW(b, step, t) }})
	}
	return cs
}

// stochasticAdamW updates the parameter t[0], without a master if it is BF16. Parameters of
// other types are not rounded stochastically.
func stochasticAdamW(b kernels.Backend, step kernels.AdamW, t []kernels.Tensor) {
	step.Param, step.M, step.V, step.Grad = t[0], t[1], t[2], t[3]
	step.Stochastic, step.Seed = t[0].DType == kernels.BF16, 7
	b.AdamW(step)
}

// adamW updates the master t[1] and sets the parameter t[0] to it, which is what
// AdamW does for BF16. For other types, where the parameter is its own master, it
// updates t[1] and copies.
func adamW(b kernels.Backend, step kernels.AdamW, t []kernels.Tensor) {
	step.M, step.V, step.Grad = t[2], t[3], t[4]
	if t[0].DType == kernels.BF16 {
		step.Param, step.Master = t[0], t[1]
		b.AdamW(step)
		return
	}
	step.Param = t[1]
	b.AdamW(step)
	b.Zero(t[0])
	b.Add(t[0], t[0], t[1])
}
