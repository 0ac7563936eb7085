package reference

import (
	"fmt"
	"math"

	"rmtrain/kernels"
)

func (b *backend) RoPE(qkv, pos, table kernels.Tensor, h kernels.Heads, inverse bool) {
	rows := qkv.Rows()
	wantHeads("RoPE", h)
	want(h.Dim%2 == 0 && matrix(qkv, b.act, rows, h.QKV()) && vector(pos, kernels.I32, rows) &&
		matrix(table, b.stat, table.Rows(), h.Dim), "RoPE", qkv, pos, table)
	positions := ints(pos)
	wantIndices("RoPE", "position", positions, table.Rows())
	v, angles, half := load(qkv), load(table), h.Dim/2
	for r, p := range positions {
		cosines, sines := angles[int(p)*h.Dim:][:half], angles[int(p)*h.Dim+half:][:half]
		for head := range h.Q + h.KV {
			x := v[r*h.QKV()+head*h.Dim:][:h.Dim]
			for j := range half {
				c, s := cosines[j], sines[j]
				if inverse {
					s = -s
				}
				x[j], x[j+half] = x[j]*c-x[j+half]*s, x[j+half]*c+x[j]*s
			}
		}
	}
	store(qkv, v)
}

func (b *backend) Attention(out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	rows := qkv.Rows()
	wantHeads("Attention", h)
	want(matrix(out, b.act, rows, h.Q*h.Dim) && matrix(lse, b.stat, rows, h.Q) &&
		matrix(qkv, b.act, rows, h.QKV()), "Attention", out, lse, qkv)
	wantSegments("Attention", segs, rows)
	v := load(qkv)
	for _, s := range segs {
		for r := int(s.Queries()); r < int(s.Hi); r++ {
			keys := visible(s, r, h.Window)
			o, l := make([]float64, h.Q*h.Dim), make([]float64, h.Q)
			for head := range h.Q {
				p, logSum := softmax(v, r, head, keys, h)
				l[head] = logSum
				for i, k := range keys {
					value := v[k*h.QKV()+valueColumn(head, h):][:h.Dim]
					for j := range h.Dim {
						o[head*h.Dim+j] += p[i] * value[j]
					}
				}
			}
			store(out.Slice(r, r+1), o)
			store(lse.Slice(r, r+1), l)
		}
	}
}

func (b *backend) AttentionBack(dqkv, dout, out, lse, qkv kernels.Tensor, segs []kernels.Segment, h kernels.Heads) {
	rows := qkv.Rows()
	wantHeads("AttentionBack", h)
	want(matrix(dqkv, b.act, rows, h.QKV()) && matrix(dout, b.act, rows, h.Q*h.Dim) &&
		matrix(out, b.act, rows, h.Q*h.Dim) && matrix(lse, b.stat, rows, h.Q) &&
		matrix(qkv, b.act, rows, h.QKV()), "AttentionBack", dqkv, dout, out, lse, qkv)
	wantSegments("AttentionBack", segs, rows)
	wantPrefixesCovered(segs, rows)
	dv, d, o, l, v := make([]float64, qkv.Len()), load(dout), load(out), load(lse), load(qkv)
	scale := 1 / math.Sqrt(float64(h.Dim))
	for _, s := range segs {
		for r := int(s.Queries()); r < int(s.Hi); r++ {
			keys := visible(s, r, h.Window)
			for head := range h.Q {
				at := (r*h.Q + head) * h.Dim
				do, delta := d[at:at+h.Dim], dot(d[at:at+h.Dim], o[at:])
				query, dquery := r*h.QKV()+head*h.Dim, dv[r*h.QKV()+head*h.Dim:]
				for _, k := range keys {
					key, value := k*h.QKV()+keyColumn(head, h), k*h.QKV()+valueColumn(head, h)
					p := math.Exp(scale*dot(v[query:query+h.Dim], v[key:]) - l[r*h.Q+head])
					ds := scale * p * (dot(do, v[value:]) - delta)
					for j := range h.Dim {
						dv[value+j] += p * do[j]
						dv[key+j] += ds * v[query+j]
						dquery[j] += ds * v[key+j]
					}
				}
			}
		}
	}
	for _, s := range segs {
		store(dqkv.Slice(int(s.Lo), int(s.Hi)), dv[int(s.Lo)*h.QKV():int(s.Hi)*h.QKV()])
	}
}

// visible returns the rows that row r of segment s attends to, by key number.
func visible(s kernels.Segment, r, window int) []int {
	prefix := int(s.PrefixHi - s.PrefixLo)
	query, first := prefix+r-int(s.Lo), 0
	if window > 0 {
		first = max(0, query-window+1)
	}
	var rows []int
	for number := first; number <= query; number++ {
		if number < prefix {
			rows = append(rows, int(s.PrefixLo)+number)
		} else {
			rows = append(rows, int(s.Lo)+number-prefix)
		}
	}
	return rows
}

// softmax returns the attention of head of row r to the keys, and the log of its
// denominator.
func softmax(v []float64, r, head int, keys []int, h kernels.Heads) (p []float64, logSum float64) {
	query, scale := v[r*h.QKV()+head*h.Dim:][:h.Dim], 1/math.Sqrt(float64(h.Dim))
	p = make([]float64, len(keys))
	largest := math.Inf(-1)
	for i, k := range keys {
		p[i] = scale * dot(query, v[k*h.QKV()+keyColumn(head, h):])
		largest = max(largest, p[i])
	}
	var sum float64
	for i := range p {
		p[i] = math.Exp(p[i] - largest)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p, largest + math.Log(sum)
}

// keyColumn and valueColumn return where the key and value of a query head begin
// in a row of qkv.
func keyColumn(head int, h kernels.Heads) int   { return (h.Q + head/(h.Q/h.KV)) * h.Dim }
func valueColumn(head int, h kernels.Heads) int { return keyColumn(head, h) + h.KV*h.Dim }

func wantHeads(op string, h kernels.Heads) {
	if h.Q <= 0 || h.KV <= 0 || h.Dim <= 0 || h.Q%h.KV != 0 || h.Window < 0 {
		panic(fmt.Sprintf("reference: %s: impossible heads %+v", op, h))
	}
}

// wantSegments panics unless all segments lie within rows and no row is in two.
func wantSegments(op string, segs []kernels.Segment, rows int) {
	owned := make([]bool, rows)
	for _, s := range segs {
		if s.PrefixLo < 0 || s.PrefixLo > s.PrefixHi || int(s.PrefixHi) > rows ||
			s.Lo < 0 || s.Lo > s.Hi || int(s.Hi) > rows {
			panic(fmt.Sprintf("reference: %s: segment %+v of %d rows", op, s, rows))
		}
		for r := s.Lo; r < s.Hi; r++ {
			if owned[r] {
				panic(fmt.Sprintf("reference: %s: row %d is in two segments: %+v", op, r, segs))
			}
			owned[r] = true
		}
	}
}

// wantPrefixesCovered panics if a gradient would be lost: that of a prefix row
// which is in no segment.
func wantPrefixesCovered(segs []kernels.Segment, rows int) {
	owned := make([]bool, rows)
	for _, s := range segs {
		for r := s.Lo; r < s.Hi; r++ {
			owned[r] = true
		}
	}
	for _, s := range segs {
		for r := s.PrefixLo; r < s.PrefixHi; r++ {
			if !owned[r] {
				panic(fmt.Sprintf("reference: AttentionBack: prefix row %d is in no segment: %+v", r, segs))
			}
		}
	}
}
