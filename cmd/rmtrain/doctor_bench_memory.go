package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"rmtrain/kernels"
)

// A memoryBound operation is timed by the bytes that it must read and write at least.
type memoryBound struct {
	name  string
	bytes int
	run   func()
}

// benchMemory measures bandwidths. The roofline beside each is the fastest of them: what
// this machine's memory was seen to do in this run.
func (d *doctor) benchMemory(_ context.Context, b kernels.Backend, dt kernels.DType) finding {
	from := len(d.report.Measured)
	f := d.measure(b, dt, func(m *meter) {
		for _, o := range d.memoryBound(m) {
			seconds := m.seconds(o.run)
			m.add("bandwidth of "+o.name, float64(o.bytes)/seconds, "B/s", fmt.Sprintf("%s a run", mebibytes(int64(o.bytes))))
		}
	})
	d.ranked(from, "B/s")
	return f
}

func (d *doctor) memoryBound(m *meter) []memoryBound {
	s, b := d.sizes(), m.b
	n, h, scored := s.Rows, s.Hidden, (s.Rows+tokensOfAnswer-1)/tokensOfAnswer
	x, y, z := m.act(n, h), m.act(n, h), m.act(n, h)
	w, dw, rstd := m.tensor(m.dt, h, 1), m.tensor(kernels.F32, h, 1), m.tensor(kernels.F32, n, 1)
	w.Shape, dw.Shape, rstd.Shape = [3]int{h, 1, 1}, [3]int{h, 1, 1}, [3]int{n, 1, 1}
	gates, dgates := m.act(s.Tokens, 2*s.FFN), m.act(s.Tokens, 2*s.FFN)
	up := m.act(s.Tokens, s.FFN)
	qkv, positions, angles := m.act(n, s.Heads.QKV()), m.ids(n, n), m.rotation(n, s.Heads.Dim)
	scores, answers := m.tensor(kernels.F32, scored, 1), m.ids(scored, n)
	scores.Shape = [3]int{scored, 1, 1}
	total := m.tensor(kernels.F64, 1, 1)
	step := kernels.AdamW{Param: x, M: m.tensor(kernels.F32, n, h), V: m.tensor(kernels.F32, n, h), Grad: m.tensor(kernels.F32, n, h), LR: 1e-6, Beta1: .9, Beta2: .95, Eps: 1e-8, GradScale: 1, Step: 1}
	adam := 7 * 4 * n * h // parameter, m and v both ways, and the gradient
	if m.dt == kernels.BF16 {
		step.Master = m.tensor(kernels.F32, n, h)
		adam += 2 * n * h
	}
	if m.err == nil {
		b.Zero(step.V) // a second moment is not negative
	}
	rotated := (s.Heads.Q + s.Heads.KV) * s.Heads.Dim
	matrix, gate, few := n*h*m.dt.Size(), s.Tokens*s.FFN*m.dt.Size(), scored*h*m.dt.Size()
	return []memoryBound{
		{"Zero", matrix, func() { b.Zero(z) }},
		{"Add", 3 * matrix, func() { b.Add(z, x, y) }},
		{"AddBias", 2 * matrix, func() { b.AddBias(z, w) }},
		{"AddBiasBack", matrix, func() { b.AddBiasBack(dw, x) }},
		{"RMSNorm", 2 * matrix, func() { b.RMSNorm(z, rstd, x, w, 1e-5) }},
		{"RMSNormBack", 4 * matrix, func() { b.RMSNormBack(z, dw, y, x, w, rstd) }},
		{"Embed", 2 * matrix, func() { b.Embed(z, x, positions) }},
		{"EmbedBack", matrix + 2*4*n*h, func() { b.EmbedBack(step.Grad, x, positions, -1) }},
		{"Scatter", 2 * matrix, func() { b.Scatter(z, x, positions) }},
		{"RoPE", 2 * n * rotated * m.dt.Size(), func() { b.RoPE(qkv, positions, angles, s.Heads, false) }},
		{"SwiGLU", 3 * gate, func() { b.SwiGLU(up, gates) }},
		{"SwiGLUBack", 5 * gate, func() { b.SwiGLUBack(dgates, up, gates) }},
		{"ValueHead", few, func() { b.ValueHead(scores, x, answers, w) }},
		{"ValueHeadBack", matrix + 2*few, func() { b.ValueHeadBack(z, dw, scores, x, answers, w) }},
		{"SumSq", 4 * n * h, func() { b.SumSq(total, step.Grad) }},
		{"AdamW", adam, func() { b.AdamW(step) }},
	}
}

// rotation is a RoPE table with one angle: what is rotated again and again must neither
// grow nor shrink.
func (m *meter) rotation(positions, dim int) kernels.Tensor {
	t := m.tensor(kernels.F32, positions, dim)
	mem := make([]byte, 0, t.Bytes())
	for i := range t.Len() {
		x := float32(0.8) // the cosine
		if i%dim >= dim/2 {
			x = 0.6
		}
		mem = binary.LittleEndian.AppendUint32(mem, math.Float32bits(x))
	}
	if m.err == nil {
		m.b.Upload(t, mem)
	}
	return t
}

// benchCrossing measures what an operation costs besides its work, and copies.
func (d *doctor) benchCrossing(_ context.Context, b kernels.Backend, dt kernels.DType) finding {
	operations, bytes := 1000, 256<<20
	if d.quick {
		operations, bytes = 20, 1<<20
	}
	return d.measure(b, dt, func(m *meter) {
		small := m.act(1, 8)
		took := m.seconds(func() {
			for range operations {
				b.Zero(small)
			}
		})
		m.add("launch cost", took/float64(operations)*1e6, "µs", fmt.Sprintf("the smallest operation, %d in a row", operations))
		large := m.tensor(dt, bytes/dt.Size()/1024, 1024)
		host := make([]byte, large.Bytes())
		note := mebibytes(int64(len(host)))
		m.add("copy to the device", float64(len(host))/m.seconds(func() { b.Upload(large, host) }), "B/s", note)
		m.add("copy to the host", float64(len(host))/m.seconds(func() { b.Download(host, large) }), "B/s", note)
	})
}
