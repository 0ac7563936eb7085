package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"rmtrain/kernels"
)

// benchChecks measure speed, if asked to.
func (d *doctor) benchChecks() []doctorCheck {
	const section = "speed"
	if !d.o.bench {
		return []doctorCheck{{section, "measurements", "how fast this machine is", func(context.Context) finding { return skip("--bench was not given") }}}
	}
	var cs []doctorCheck
	cs = append(cs, d.perType(section, "matrix products", "measured at a trunk's shapes", d.benchProducts)...)
	cs = append(cs, d.perType(section, "attention", "measured over a group", d.benchAttention)...)
	cs = append(cs, d.perType(section, "operations bound by memory", "measured, each beside the fastest", d.benchMemory)...)
	cs = append(cs, d.perType(section, "launches and copies", "measured", d.benchCrossing)...)
	return append(cs, d.stepChecks(section)...)
}

// A meter times operations on one backend and owns their operands.
type meter struct {
	d       *doctor
	b       kernels.Backend
	dt      kernels.DType
	tensors []kernels.Tensor
	err     error // the first
}

// measure runs what takes measurements, and says how many numbers it gave.
func (d *doctor) measure(b kernels.Backend, dt kernels.DType, run func(m *meter)) finding {
	m := &meter{d: d, b: b, dt: dt}
	before := len(d.report.Measured)
	defer func() {
		for _, t := range m.tensors {
			b.Free(t)
		}
	}()
	run(m)
	return passOr(errors.Join(m.err, b.Sync()), "%s, below", count(len(d.report.Measured)-before, "number"))
}

// tensor returns one with numbers in it: zeros would cost a GPU less power, and so raise
// its clock.
func (m *meter) tensor(dt kernels.DType, rows, cols int) kernels.Tensor {
	if m.err != nil {
		return kernels.Tensor{DType: dt, Shape: [3]int{rows, cols, 1}}
	}
	t, err := m.b.Alloc("measurement", dt, rows, cols)
	if err != nil {
		m.err = err
		return t
	}
	m.tensors = append(m.tensors, t)
	mem := make([]byte, t.Bytes())
	const period = 1 << 16
	for i := range min(t.Len(), period) {
		putBench(mem[i*dt.Size():], dt, benchUniform(uint32(i)*2654435761))
	}
	for n := min(len(mem), period*dt.Size()); n < len(mem); n *= 2 {
		copy(mem[n:], mem[:n])
	}
	m.b.Upload(t, mem)
	return t
}

func (m *meter) act(rows, cols int) kernels.Tensor { return m.tensor(m.dt, rows, cols) }

// ids returns n row numbers below limit.
func (m *meter) ids(n, limit int) kernels.Tensor {
	t := m.tensor(kernels.I32, n, 1)
	var mem []byte
	for i := range n {
		mem = binary.LittleEndian.AppendUint32(mem, uint32(i*7919%limit))
	}
	if m.err == nil {
		m.b.Upload(t, mem)
	}
	return t
}

// seconds returns those of one run, after one to warm up. Short runs are repeated until
// they take a while; an emulator's are not.
func (m *meter) seconds(run func()) float64 {
	if m.err != nil {
		return 0
	}
	enough := 100 * time.Millisecond
	if m.d.quick {
		enough = time.Millisecond
	}
	for n := 1; ; n *= 2 {
		if n == 1 && !m.d.emulated {
			run()
		}
		if m.err = m.b.Sync(); m.err != nil {
			return 0
		}
		start := time.Now()
		for range n {
			run()
		}
		m.err = m.b.Sync()
		if took := time.Since(start); took >= enough || m.err != nil {
			return took.Seconds() / float64(n)
		}
	}
}

// add records a number of this type.
func (m *meter) add(name string, value float64, unit, note string) {
	if m.err == nil {
		m.d.report.Measured = append(m.d.report.Measured, measurement{Name: name + ", " + dtypeName(m.dt), Value: value, Unit: unit, Note: note})
	}
}

// ranked sets the shares of all numbers of one unit from the place on.
func (d *doctor) ranked(from int, unit string) (best float64) {
	for _, m := range d.report.Measured[from:] {
		if m.Unit == unit {
			best = max(best, m.Value)
		}
	}
	for i := from; i < len(d.report.Measured) && best > 0; i++ {
		if m := &d.report.Measured[i]; m.Unit == unit {
			m.Share = m.Value / best
		}
	}
	return best
}

// benchProducts multiplies as a layer does: forward, for the input's gradient, and for the
// weight's.
func (d *doctor) benchProducts(_ context.Context, b kernels.Backend, dt kernels.DType) finding {
	s, from := d.sizes(), len(d.report.Measured)
	f := d.measure(b, dt, func(m *meter) {
		for _, p := range []struct {
			name string
			n, k int
		}{
			{"q|k|v", s.Heads.QKV(), s.Hidden}, {"attention out", s.Hidden, s.Heads.Q * s.Heads.Dim},
			{"gate|up", 2 * s.FFN, s.Hidden}, {"down", s.Hidden, s.FFN},
		} {
			part := &meter{d: d, b: b, dt: dt, err: m.err}
			x, w, y := part.act(s.Tokens, p.k), part.act(p.n, p.k), part.act(s.Tokens, p.n)
			dw := part.tensor(kernels.F32, p.n, p.k)
			flops := 2 * float64(s.Tokens) * float64(p.n) * float64(p.k)
			size := fmt.Sprintf("%d x %d x %d", s.Tokens, p.n, p.k)
			for _, form := range []struct {
				name string
				run  func()
			}{
				{"forward", func() { b.MatMul(y, x, w, kernels.NT, false) }},
				{"gradient of input", func() { b.MatMul(x, y, w, kernels.NN, false) }},
				{"gradient of weight", func() { b.MatMul(dw, y, x, kernels.TN, true) }},
			} {
				part.add("product "+p.name+" "+form.name, flops/part.seconds(form.run), "FLOP/s", size)
			}
			for _, t := range part.tensors {
				b.Free(t)
			}
			m.err = part.err
		}
	})
	d.peaks[dt] = d.ranked(from, "FLOP/s")
	return f
}

// benchAttention runs one group, counting the keys that rows see.
func (d *doctor) benchAttention(_ context.Context, b kernels.Backend, dt kernels.DType) finding {
	s := d.sizes()
	segs := []kernels.Segment{{Hi: int32(s.Prompt)}}
	rows, pairs := s.Prompt, s.Prompt*(s.Prompt+1)/2
	for _, n := range s.Answers {
		segs = append(segs, kernels.Segment{PrefixHi: int32(s.Prompt), Lo: int32(rows), Hi: int32(rows + n)})
		rows, pairs = rows+n, pairs+n*s.Prompt+n*(n+1)/2
	}
	h := s.Heads
	from := len(d.report.Measured)
	f := d.measure(b, dt, func(m *meter) {
		out, lse, qkv := m.act(rows, h.Q*h.Dim), m.tensor(kernels.F32, rows, h.Q), m.act(rows, h.QKV())
		dqkv, dout := m.act(rows, h.QKV()), m.act(rows, h.Q*h.Dim)
		flops := 4 * float64(pairs) * float64(h.Q*h.Dim)
		note := fmt.Sprintf("%d:%d heads of %d, prompt of %d, %d answers", h.Q, h.KV, h.Dim, s.Prompt, len(s.Answers))
		m.add("attention forward", flops/m.seconds(func() { b.Attention(out, lse, qkv, segs, h) }), "FLOP/s", note)
		m.add("attention backward", 2.5*flops/m.seconds(func() { b.AttentionBack(dqkv, dout, out, lse, qkv, segs, h) }), "FLOP/s", note)
	})
	for i := from; i < len(d.report.Measured) && d.peaks[dt] > 0; i++ {
		d.report.Measured[i].Share = d.report.Measured[i].Value / d.peaks[dt]
	}
	return f
}
