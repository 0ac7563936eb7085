package configs

import (
	"fmt"
	"strconv"
	"strings"
)

// A Freeze is what train.freeze keeps as it is.
type Freeze struct {
	Embed  bool     // the embedding table
	Norm   bool     // the norm after the last layer
	Layers [][2]int // first and last layer of each range, from 0
}

// Layer reports whether layer n is frozen.
func (f Freeze) Layer(n int) bool {
	for _, r := range f.Layers {
		if r[0] <= n && n <= r[1] {
			return true
		}
	}
	return false
}

// ParseFreeze reads train.freeze: embed, norm, a layer such as 3, or a range of
// layers such as 0-41, both ends included.
func ParseFreeze(list []string) (Freeze, error) {
	var f Freeze
	for _, item := range list {
		switch item {
		case "embed":
			f.Embed = true
		case "norm":
			f.Norm = true
		default:
			r, err := parseLayers(item)
			if err != nil {
				return Freeze{}, err
			}
			f.Layers = append(f.Layers, r)
		}
	}
	return f, nil
}

func parseLayers(item string) ([2]int, error) {
	first, last, isRange := strings.Cut(item, "-")
	if !isRange {
		last = first
	}
	lo, err := strconv.ParseUint(first, 10, 31)
	hi, err2 := strconv.ParseUint(last, 10, 31)
	if err != nil || err2 != nil {
		if near := nearest(item, []string{"embed", "norm"}); near != "" && len(item) > 2 {
			return [2]int{}, fmt.Errorf("holds %q; did you mean %s? Allowed are embed, norm, and layers such as 3 or 0-41", item, near)
		}
		return [2]int{}, fmt.Errorf("holds %q; allowed are embed, norm, and layers such as 3 or 0-41", item)
	}
	if lo > hi {
		return [2]int{}, fmt.Errorf("holds %q; the first layer of a range is not above the last", item)
	}
	return [2]int{int(lo), int(hi)}, nil
}
