package configs

import (
	"fmt"
	"strconv"
	"strings"
)

const freezable = "embed, norm, and layers such as 3 or 0-41"

// checkFreeze checks the spelling of an item of train.freeze: embed, norm, a layer
// from 0, or a range of layers. Whether the model has them is the trainer's concern.
func checkFreeze(item string) error {
	if item == "embed" || item == "norm" {
		return nil
	}
	first, last, isRange := strings.Cut(item, "-")
	if !isRange {
		last = first
	}
	lo, errLo := strconv.ParseUint(first, 10, 31)
	hi, errHi := strconv.ParseUint(last, 10, 31)
	if errLo != nil || errHi != nil {
		if near := nearest(item, []string{"embed", "norm"}); near != "" {
			return fmt.Errorf("holds %q; did you mean %s? Allowed are %s", item, near, freezable)
		}
		return fmt.Errorf("holds %q; allowed are %s", item, freezable)
	}
	if lo > hi {
		return fmt.Errorf("holds %q; the first layer of a range is not above the last", item)
	}
	return nil
}
