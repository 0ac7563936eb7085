package reference_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"rmtrain/kernels"
	"rmtrain/kernels/kerneltest"
	"rmtrain/kernels/reference"
)

// Each mutant breaks one operation of the reference in a way in which real
// kernels have been broken. Those that touch bits or bytes are in
// mutants_bits_test.go.
type mutant struct{ kernels.Backend }

var mutants = []struct {
	name string
	op   string // a check with this in its name must fail
	dt   kernels.DType
	make func(mutant) kernels.Backend
}{
	{"MatMul drops accumulate", "values/MatMul", kernels.F32, func(m mutant) kernels.Backend { return dropsAccumulate{m} }},
	{"MatMul always accumulates", "values/MatMul", kernels.F32, func(m mutant) kernels.Backend { return alwaysAccumulates{m} }},
	{"MatMul multiplies the old output by zero", "nonfinite/MatMul", kernels.F32, func(m mutant) kernels.Backend { return betaZero{m} }},
	{"MatMul depends on the number of rows", "exact/rows/MatMul", kernels.F32, func(m mutant) kernels.Backend { return countsRows{m} }},
	{"MatMul differs from run to run", "exact/repeated/MatMul", kernels.F32, func(m mutant) kernels.Backend { return &differsEveryTime{mutant: m} }},
	{"MatMul does not check shapes", "shapes/MatMul", kernels.F32, func(m mutant) kernels.Backend { return acceptsAnyShape{m} }},
	{"MatMul reads columns of a tensor as if they were all", "values/MatMul", kernels.F32, func(m mutant) kernels.Backend { return ignoresStrideOfA{m} }},
	{"MatMul writes columns of a tensor as if they were all", "values/MatMul", kernels.BF16, func(m mutant) kernels.Backend { return ignoresStrideOfOut{m} }},
	{"Scatter clears between columns", "values/Scatter", kernels.F32, func(m mutant) kernels.Backend { return clearsBetween{m} }},
	{"Attention forgets the prefix", "values/Attention/", kernels.F32, func(m mutant) kernels.Backend { return segments{m, noPrefix} }},
	{"Attention loses the last prefix row", "values/Attention/", kernels.F32, func(m mutant) kernels.Backend { return segments{m, shortPrefix} }},
	{"AttentionBack forgets the prefix", "values/AttentionBack/", kernels.F32, func(m mutant) kernels.Backend { return segmentsBack{m, noPrefix} }},
	{"AttentionBack loses the last prefix row", "values/AttentionBack/", kernels.BF16, func(m mutant) kernels.Backend { return segmentsBack{m, shortPrefix} }},
	{"AttentionBack accumulates", "values/AttentionBack/", kernels.F32, func(m mutant) kernels.Backend { return accumulatesQKV{m} }},
	{"Attention forgets the window", "values/Attention/", kernels.F32, func(m mutant) kernels.Backend { return windows{m, noWindow} }},
	{"Attention's window is one longer", "values/Attention/", kernels.BF16, func(m mutant) kernels.Backend { return windows{m, longer} }},
	{"Attention depends on sharing", "own copy of the prompt", kernels.F32, func(m mutant) kernels.Backend { return noticesSharing{m} }},
	{"Attention depends on other groups", "group alone", kernels.F32, func(m mutant) kernels.Backend { return noticesGroups{m} }},
	{"RoPE is not inverted", "values/RoPE", kernels.F32, func(m mutant) kernels.Backend { return neverInverse{m} }},
	{"RoPE is interleaved", "values/RoPE", kernels.BF16, func(m mutant) kernels.Backend { return interleaved{m} }},
	{"RMSNorm ignores eps", "values/RMSNorm/", kernels.F32, func(m mutant) kernels.Backend { return noEps{m} }},
	{"RMSNormBack overwrites dx", "values/RMSNormBack", kernels.BF16, func(m mutant) kernels.Backend { return overwritesResidual{m} }},
	{"AddBiasBack overwrites", "values/AddBiasBack", kernels.F32, func(m mutant) kernels.Backend { return overwritesBias{m} }},
	{"EmbedBack ignores skip", "values/EmbedBack", kernels.BF16, func(m mutant) kernels.Backend { return neverSkips{m} }},
	{"Scatter keeps other rows", "values/Scatter", kernels.F32, func(m mutant) kernels.Backend { return keepsUnscattered{m} }},
	{"Scatter keeps the last of repeated rows", "values/Scatter", kernels.BF16, func(m mutant) kernels.Backend { return scattersLast{m} }},
	{"Attention computes rows that are keys only", "values/Attention/", kernels.F32, func(m mutant) kernels.Backend { return segments{m, allQueries} }},
	{"AttentionBack forgets which rows are keys only", "values/AttentionBack/", kernels.F32, func(m mutant) kernels.Backend { return segmentsBack{m, allQueries} }},
	{"ValueHeadBack keeps other rows", "values/ValueHeadBack", kernels.F32, func(m mutant) kernels.Backend { return keepsOtherRows{m} }},
	{"SwiGLU swallows NaN", "nonfinite/SwiGLU/", kernels.F32, func(m mutant) kernels.Backend { return swallowsNaN{m} }},
	{"SumSq overwrites", "values/SumSq", kernels.F32, func(m mutant) kernels.Backend { return overwritesSum{m} }},
	{"SumSq sums in float32", "values/SumSq", kernels.F32, func(m mutant) kernels.Backend { return narrowSum{m} }},
	{"AdamW couples weight decay", "values/AdamW", kernels.F32, func(m mutant) kernels.Backend { return coupledDecay{m} }},
	{"AdamW does not correct its bias", "values/AdamW", kernels.BF16, func(m mutant) kernels.Backend { return uncorrected{m} }},
	{"AdamW forgets GradScale", "values/AdamW", kernels.F32, func(m mutant) kernels.Backend { return unscaled{m} }},
	{"AdamW leaves the parameter behind its master", "exact/AdamW", kernels.BF16, func(m mutant) kernels.Backend { return truncatesParameter{m} }},
	{"AdamW without a master rounds to nearest", "exact/AdamW stochastic", kernels.BF16, func(m mutant) kernels.Backend { return roundsBy{m, nearest} }},
	{"AdamW without a master has one number for all elements", "exact/AdamW stochastic", kernels.BF16, func(m mutant) kernels.Backend { return roundsBy{m, oneNumber} }},
	{"AdamW without a master has the same numbers in every step", "exact/AdamW stochastic", kernels.BF16, func(m mutant) kernels.Backend { return roundsBy{m, ignoresStep} }},
	{"AdamW without a master has the same numbers for all seeds", "exact/AdamW stochastic", kernels.BF16, func(m mutant) kernels.Backend { return roundsBy{m, ignoresSeed} }},
	{"AdamW does without a master unasked", "shapes/AdamW stochastic", kernels.BF16, func(m mutant) kernels.Backend { return needsNoMaster{m} }},
	{"MatMul does not see what AdamW wrote to a kept weight", "exact/kept/AdamW", kernels.F32, func(m mutant) kernels.Backend { return newKeeper(m, "AdamW") }},
	{"MatMul does not see an upload to a kept weight", "memory/", kernels.F32, func(m mutant) kernels.Backend { return newKeeper(m, "Upload") }},
	{"Free forgets what was kept", "memory/", kernels.F32, func(m mutant) kernels.Backend { return newKeeper(m, "Free") }},
	{"Add writes past the end", "values/Add/", kernels.F32, func(m mutant) kernels.Backend { return writesPastEnd{m} }},
	{"Add writes before the beginning", "values/Add/", kernels.BF16, func(m mutant) kernels.Backend { return writesBefore{m} }},
	{"Add changes its input", "values/Add/", kernels.F32, func(m mutant) kernels.Backend { return changesInput{m} }},
	{"Add truncates to bfloat16", "values/Add/", kernels.BF16, func(m mutant) kernels.Backend { return truncatesSum{m} }},
	{"Alloc does not clear", "memory/", kernels.F32, func(m mutant) kernels.Backend { return dirtyMemory{m} }},
	{"Used forgets what was freed", "memory/", kernels.F32, func(m mutant) kernels.Backend { return neverFrees{m} }},
}

func TestSuiteKillsMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, name := range kerneltest.Names() {
				if !strings.Contains(name, m.op) {
					continue
				}
				if errs := kerneltest.Errors(m.make(mutant{reference.New(m.dt)}), m.dt, name); len(errs) > 0 {
					t.Logf("caught by %s: %v", name, errs[0])
					return
				}
			}
			t.Error("survives")
		})
	}
}

type dropsAccumulate struct{ mutant }

func (m dropsAccumulate) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, _ bool) {
	m.Backend.MatMul(out, a, b, mode, false)
}

type alwaysAccumulates struct{ mutant }

func (m alwaysAccumulates) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, _ bool) {
	m.Backend.MatMul(out, a, b, mode, true)
}

type acceptsAnyShape struct{ mutant }

func (m acceptsAnyShape) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	defer func() { _ = recover() }()
	m.Backend.MatMul(out, a, b, mode, accumulate)
}

type ignoresStrideOfA struct{ mutant }

func (m ignoresStrideOfA) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	a.Stride = 0
	m.Backend.MatMul(out, a, b, mode, accumulate)
}

type ignoresStrideOfOut struct{ mutant }

func (m ignoresStrideOfOut) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	out.Stride = 0
	m.Backend.MatMul(out, a, b, mode, accumulate)
}

type clearsBetween struct{ mutant }

func (m clearsBetween) Scatter(dtable, dout, ids kernels.Tensor) {
	m.Backend.Scatter(dtable, dout, ids)
	if dtable.Stride != 0 {
		clear(dtable.Buf.Host[dtable.Off+dtable.Cols()*dtable.DType.Size():][:dtable.DType.Size()])
	}
}

func noPrefix(s *kernels.Segment) { s.PrefixLo = s.PrefixHi }

func shortPrefix(s *kernels.Segment) { s.PrefixHi = max(s.PrefixLo, s.PrefixHi-1) }

func changed(segs []kernels.Segment, change func(*kernels.Segment)) []kernels.Segment {
	segs = append([]kernels.Segment(nil), segs...)
	for i := range segs {
		change(&segs[i])
	}
	return segs
}

func allQueries(s *kernels.Segment) { s.From = 0 }

type segments struct {
	mutant
	change func(*kernels.Segment)
}

func (m segments) Attention(out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	m.Backend.Attention(out, lse, qkv, changed(segs, m.change), h)
}

type segmentsBack struct {
	mutant
	change func(*kernels.Segment)
}

func (m segmentsBack) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	m.Backend.AttentionBack(dqkv, dout, out, lse, qkv, changed(segs, m.change), h)
}

type accumulatesQKV struct{ mutant }

func (m accumulatesQKV) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	before, _ := m.Alloc("before", dqkv.DType, dqkv.Shape[:]...)
	m.Zero(before)
	m.Add(before, before, dqkv)
	m.Backend.AttentionBack(dqkv, dout, out, lse, qkv, segs, h)
	m.Add(dqkv, dqkv, before)
}

type windows struct {
	mutant
	change func(int) int
}

func (m windows) Attention(out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	if h.Window > 0 {
		h.Window = m.change(h.Window)
	}
	m.Backend.Attention(out, lse, qkv, segs, h)
}

func noWindow(int) int { return 0 }

func longer(window int) int { return window + 1 }

type neverInverse struct{ mutant }

func (m neverInverse) RoPE(qkv, pos, table kernels.Tensor, h kernels.Heads, _ bool) {
	m.Backend.RoPE(qkv, pos, table, h, false)
}

type noEps struct{ mutant }

func (m noEps) RMSNorm(out, rstd, x, w kernels.Tensor, _ float64) {
	m.Backend.RMSNorm(out, rstd, x, w, 0)
}

type overwritesResidual struct{ mutant }

func (m overwritesResidual) RMSNormBack(dx, dw, dout, x, w, rstd kernels.Tensor) {
	m.Zero(dx)
	m.Backend.RMSNormBack(dx, dw, dout, x, w, rstd)
}

type overwritesBias struct{ mutant }

func (m overwritesBias) AddBiasBack(dbias, dout kernels.Tensor) {
	m.Zero(dbias)
	m.Backend.AddBiasBack(dbias, dout)
}

type neverSkips struct{ mutant }

func (m neverSkips) EmbedBack(dtable, dout, ids kernels.Tensor, _ int32) {
	m.Backend.EmbedBack(dtable, dout, ids, -1)
}

type keepsUnscattered struct{ mutant }

func (m keepsUnscattered) Scatter(dtable, dout, ids kernels.Tensor) {
	before, _ := m.Alloc("before", dtable.DType, dtable.Shape[:]...)
	m.Zero(before)
	m.Add(before, before, dtable)
	m.Backend.Scatter(dtable, dout, ids)
	m.Add(dtable, dtable, before)
}

type scattersLast struct{ mutant }

func (m scattersLast) Scatter(dtable, dout, ids kernels.Tensor) {
	m.Backend.Scatter(dtable, dout, ids)
	for r := range ids.Len() {
		id := int(binary.LittleEndian.Uint32(ids.Buf.Host[ids.Off+4*r:]))
		to := dtable.Slice(id, id+1)
		m.Zero(to)
		m.Add(to, to, dout.Slice(r, r+1))
	}
}

type overwritesSum struct{ mutant }

func (m overwritesSum) SumSq(out, x kernels.Tensor) {
	m.Zero(out)
	m.Backend.SumSq(out, x)
}

type uncorrected struct{ mutant }

func (m uncorrected) AdamW(a kernels.AdamW) {
	a.Step = 1e6
	m.Backend.AdamW(a)
}

type unscaled struct{ mutant }

func (m unscaled) AdamW(a kernels.AdamW) {
	a.GradScale = 1
	m.Backend.AdamW(a)
}

// needsNoMaster rounds stochastically where the master was forgotten.
type needsNoMaster struct{ mutant }

func (m needsNoMaster) AdamW(a kernels.AdamW) {
	a.Stochastic = a.Stochastic || a.Param.DType == kernels.BF16 && a.Master.Buf == nil
	m.Backend.AdamW(a)
}

type neverFrees struct{ mutant }

func (m neverFrees) Free(kernels.Tensor) {}

// keeper keeps copies of weights, which are stale once an operation has written to
// the weight and does not say so.
type keeper struct {
	mutant
	silent string // the operation
	copies map[kernels.Tensor]kernels.Tensor
}

func newKeeper(m mutant, silent string) kernels.Backend {
	return keeper{m, silent, map[kernels.Tensor]kernels.Tensor{}}
}

func (k keeper) KeptBytes(w kernels.Tensor, _ kernels.Trans) int64 { return int64(w.Bytes()) / 2 }

func (k keeper) Keep(w kernels.Tensor, _ kernels.Trans) error {
	if _, ok := k.copies[w]; ok {
		return nil
	}
	c, err := k.Alloc(kernels.KeptTag, w.DType, w.Shape[:]...)
	k.copies[w] = c
	k.refresh("Keep", w.Buf)
	return err
}

// refresh copies what lies in buf again.
func (k keeper) refresh(op string, buf *kernels.Buffer) {
	for w, c := range k.copies {
		if w.Buf == buf && op != k.silent {
			k.Backend.Upload(c, bytesOf(w))
		}
	}
}

func (k keeper) MatMul(out, a, b kernels.Tensor, mode kernels.Trans, accumulate bool) {
	if c, ok := k.copies[b]; ok {
		b = c
	}
	k.Backend.MatMul(out, a, b, mode, accumulate)
}

func (k keeper) AdamW(a kernels.AdamW) {
	k.Backend.AdamW(a)
	for _, t := range []kernels.Tensor{a.Param, a.M, a.V} {
		k.refresh("AdamW", t.Buf)
	}
}

func (k keeper) Upload(dst kernels.Tensor, src []byte) {
	k.Backend.Upload(dst, src)
	k.refresh("Upload", dst.Buf)
}

func (k keeper) Free(t kernels.Tensor) {
	for w, c := range k.copies {
		if w.Buf == t.Buf && k.silent != "Free" {
			k.Backend.Free(c)
			delete(k.copies, w)
		}
	}
	k.Backend.Free(t)
}
