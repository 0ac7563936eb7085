//go:build nvidia

package cuda

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/cost"
)

// envCosted is which of costed a child runs.
const envCosted = "RMTRAIN_TEST_COSTED"

// A costing is an operation, the kernels that it launches, and the times that it clears
// memory, which launches no kernel of ours but one of the driver's.
type costing struct {
	round   int  // operations that share a kernel are in different rounds
	repeats bool // it reads ids, vectors as long as a row, or its row more than once
	kernels []string
	clears  int
	run     func(o *operands)
}

// An operation that has several kernels has an entry for each, with a word after a slash.
var costed = map[string]costing{
	"Add":         {0, false, []string{"add_bf16"}, 0, func(o *operands) { o.b.Add(o.act(), o.act(), o.act()) }},
	"AddBias":     {0, true, []string{"add_bias_bf16"}, 0, func(o *operands) { o.b.AddBias(o.act(), o.vector(kernels.BF16, costCols)) }},
	"AddBiasBack": {0, false, []string{"column_parts_bf16", "sum_parts"}, 0, func(o *operands) { o.b.AddBiasBack(o.vector(kernels.F32, costCols), o.act()) }},
	"Embed":       {0, true, []string{"embed_16"}, 0, func(o *operands) { o.b.Embed(o.act(), o.act(), o.ids()) }},
	"EmbedBack":   {0, true, []string{"link_rows", "embed_back_bf16"}, 1, func(o *operands) { o.b.EmbedBack(o.tensor(kernels.F32, costRows, costCols), o.act(), o.ids(), -1) }},
	"RMSNorm": {0, true, []string{"rmsnorm_bf16"}, 0, func(o *operands) {
		o.b.RMSNorm(o.act(), o.vector(kernels.F32, costRows), o.act(), o.vector(kernels.BF16, costCols), 1e-5)
	}},
	"RoPE": {0, true, []string{"rope_bf16"}, 0, func(o *operands) {
		o.b.RoPE(o.act(), o.ids(), o.tensor(kernels.F32, costRows, 64), kernels.Heads{Q: 4, KV: 2, Dim: 64}, false)
	}},
	"SwiGLU": {0, false, []string{"swiglu_bf16"}, 0, func(o *operands) { o.b.SwiGLU(o.act(), o.tensor(kernels.BF16, costRows, 2*costCols)) }},
	"SwiGLUBack": {0, false, []string{"swiglu_back_bf16"}, 0, func(o *operands) {
		o.b.SwiGLUBack(o.tensor(kernels.BF16, costRows, 2*costCols), o.act(), o.tensor(kernels.BF16, costRows, 2*costCols))
	}},
	"ValueHead": {0, true, []string{"value_head_bf16"}, 0, func(o *operands) {
		o.b.ValueHead(o.vector(kernels.F32, costRows), o.act(), o.ids(), o.vector(kernels.BF16, costCols))
	}},
	"SumSq": {0, false, []string{"sum_squares_f32", "sum_partial"}, 0, func(o *operands) { o.b.SumSq(o.tensor(kernels.F64, 1, 1), o.tensor(kernels.F32, costRows, costCols)) }},
	"AdamW": {0, false, []string{"adamw_bf16"}, 0, func(o *operands) {
		stat := func() kernels.Tensor { return o.tensor(kernels.F32, costRows, costCols) }
		o.b.AdamW(kernels.AdamW{Param: o.act(), Master: stat(), M: stat(), V: stat(), Grad: stat(), GradScale: 1, Eps: 1, Step: 1})
	}},
	"AdamW/stochastic": {1, false, []string{"adamw_stochastic_bf16"}, 0, func(o *operands) {
		stat := func() kernels.Tensor { return o.tensor(kernels.F32, costRows, costCols) }
		o.b.AdamW(kernels.AdamW{Param: o.act(), M: stat(), V: stat(), Grad: stat(), GradScale: 1, Eps: 1, Step: 1, Stochastic: true})
	}},
	"RMSNormBack": {1, true, []string{"rmsnorm_back_bf16", "rmsnorm_parts_bf16", "sum_parts"}, 0, func(o *operands) {
		o.b.RMSNormBack(o.act(), o.vector(kernels.F32, costCols), o.act(), o.act(), o.vector(kernels.BF16, costCols), o.vector(kernels.F32, costRows))
	}},
	"Scatter": {1, true, []string{"link_rows", "scatter_bf16"}, 2, func(o *operands) { o.b.Scatter(o.act(), o.act(), o.ids()) }},
	"ValueHeadBack": {2, true, []string{"link_rows", "value_head_dx_bf16", "value_head_dw_bf16"}, 2, func(o *operands) {
		o.b.ValueHeadBack(o.act(), o.vector(kernels.F32, costCols), o.vector(kernels.F32, costRows), o.act(), o.ids(), o.vector(kernels.BF16, costCols))
	}},
}

const costRows, costCols, costRounds = 256, 512, 3

// operands are made for one operation of a backend.
type operands struct {
	t *testing.T
	b kernels.Backend
}

func (o *operands) tensor(dt kernels.DType, shape ...int) kernels.Tensor {
	x, err := o.b.Alloc("operand", dt, shape...)
	if err != nil {
		o.t.Fatal(err)
	}
	return x
}

func (o *operands) act() kernels.Tensor { return o.tensor(kernels.BF16, costRows, costCols) }

func (o *operands) vector(dt kernels.DType, n int) kernels.Tensor { return o.tensor(dt, n) }

// ids are all rows, each once.
func (o *operands) ids() kernels.Tensor {
	x := o.tensor(kernels.I32, costRows)
	var raw []byte
	for i := range costRows {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(i))
	}
	o.b.Upload(x, raw)
	return x
}

// TestCostedRound is a child of the next test: it runs the operations of a round once.
func TestCostedRound(t *testing.T) {
	round := os.Getenv(envCosted)
	if round == "" {
		t.Skip("the test behind it starts it")
	}
	o := &operands{t, newBackend(t, kernels.BF16)}
	for _, c := range costed {
		if strconv.Itoa(c.round) == round {
			c.run(o)
		}
	}
	if err := o.b.Sync(); err != nil {
		t.Fatal(err)
	}
}

// What package cost counts of operations that memory bounds is what their kernels read and
// write, as the emulator counts it. What a kernel reads again counts once there, as it is small
// enough to lie in a cache, and so is less than the emulator's.
func TestCostIsWhatKernelsMove(t *testing.T) {
	needDevice(t)
	const slack = 0.01 // the emulator prints kilobytes
	for round := range costRounds {
		moved := statistics(t, "TestCostedRound", envCosted+"="+strconv.Itoa(round))
		for name, c := range costed {
			if c.round != round {
				continue
			}
			counted := cost.NewRecorder()
			c.run(&operands{t, counted})
			op := counted.Entries()[0].Op
			if operation, _, _ := strings.Cut(name, "/"); op.Name != operation || op.Kernels != len(c.kernels)+c.clears {
				t.Errorf("%s: %+v, want %d kernels", name, op, len(c.kernels)+c.clears)
			}
			got := cleared(name)
			for _, k := range c.kernels {
				traffic, ran := moved[k]
				if !ran {
					t.Errorf("%s: kernel %s did not run", name, k)
				}
				got += traffic.read + traffic.write
			}
			if !(op.Bytes <= got*(1+slack)) || !c.repeats && !(op.Bytes >= got*(1-slack)) {
				t.Errorf("%s: kernels move %.0f bytes, counted are %.0f", name, got, op.Bytes)
			}
		}
	}
}

// cleared is what an operation writes by clearing memory, which is in no kernel's traffic.
func cleared(name string) float64 {
	const matrix, links = 2 * costRows * costCols, 4 * costRows
	return map[string]float64{"EmbedBack": links, "Scatter": matrix + links, "ValueHeadBack": matrix + links}[name]
}
