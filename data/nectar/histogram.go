package nectar

import (
	"maps"
	"slices"
	"unicode/utf8"
)

// A Histogram describes counts of something, such as tokens. All but Buckets is exact.
type Histogram struct {
	Count   int      `json:"count"`
	Sum     int64    `json:"sum"`
	Min     int      `json:"min"`
	Mean    float64  `json:"mean"`
	P50     int      `json:"p50"`
	P90     int      `json:"p90"`
	P99     int      `json:"p99"`
	Max     int      `json:"max"`
	Buckets []Bucket `json:"buckets"`

	values map[int]int // how often each value occurred
}

// A Bucket counts the values from Lo to Hi, both included.
type Bucket struct {
	Lo    int `json:"lo"`
	Hi    int `json:"hi"`
	Count int `json:"count"`
}

// Add counts a value, at least 0.
func (h *Histogram) Add(value int) {
	if h.values == nil {
		h.values = map[int]int{}
	}
	h.values[value]++
	h.Count++
	h.Sum += int64(value)
}

// finish computes the description. Buckets double in width: 0, 1, 2-3, 4-7, ...
func (h *Histogram) finish() {
	h.Buckets = []Bucket{}
	if h.Count == 0 {
		return
	}
	values := slices.Sorted(maps.Keys(h.values))
	h.Min, h.Max = values[0], values[len(values)-1]
	h.Mean = share(float64(h.Sum), h.Count)
	marks := []struct {
		percent int
		to      *int
	}{{50, &h.P50}, {90, &h.P90}, {99, &h.P99}}
	seen, bucket := 0, Bucket{}
	for _, v := range values {
		for v > bucket.Hi {
			h.push(bucket)
			bucket = Bucket{Lo: bucket.Hi + 1, Hi: 2*bucket.Hi + 1}
		}
		n := h.values[v]
		bucket.Count += n
		seen += n
		for len(marks) > 0 && 100*seen >= marks[0].percent*h.Count {
			*marks[0].to = v
			marks = marks[1:]
		}
	}
	h.push(bucket)
	h.values = nil
}

// push appends a bucket, unless nothing came before it and it is empty.
func (h *Histogram) push(b Bucket) {
	if b.Count > 0 || len(h.Buckets) > 0 {
		h.Buckets = append(h.Buckets, b)
	}
}

func runes(s string) int { return utf8.RuneCountInString(s) }
