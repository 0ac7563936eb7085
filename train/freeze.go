package train

import (
	"fmt"
	"strconv"
	"strings"
)

// Frozen returns which parameters of a model with the given number of layers
// train.freeze names: embed, norm (the final one), a layer such as 3, or layers
// such as 0-41, both ends included. It returns nil for an empty list.
func Frozen(freeze []string, layers int) (func(param string) bool, error) {
	if len(freeze) == 0 {
		return nil, nil
	}
	prefixes := make(map[string]bool)
	for _, entry := range freeze {
		switch entry = strings.TrimSpace(entry); entry {
		case "embed":
			prefixes["model.embed_tokens."] = true
		case "norm":
			prefixes["model.norm."] = true
		default:
			lo, hi, err := layerRange(entry, layers)
			if err != nil {
				return nil, err
			}
			for l := lo; l <= hi; l++ {
				prefixes[fmt.Sprintf("model.layers.%d.", l)] = true
			}
		}
	}
	return func(param string) bool {
		for p := range prefixes {
			if strings.HasPrefix(param, p) {
				return true
			}
		}
		return false
	}, nil
}

// layerRange parses "3" or "0-41".
func layerRange(entry string, layers int) (lo, hi int, err error) {
	first, last, ranged := strings.Cut(entry, "-")
	if !ranged {
		last = first
	}
	lo, errLo := strconv.Atoi(strings.TrimSpace(first))
	hi, errHi := strconv.Atoi(strings.TrimSpace(last))
	if errLo != nil || errHi != nil {
		return 0, 0, fmt.Errorf("train: freeze %q: not embed, norm, a layer or a range of layers such as 0-%d", entry, layers-1)
	}
	if lo < 0 || hi < lo || hi >= layers {
		return 0, 0, fmt.Errorf("train: freeze %q: the model has layers 0-%d", entry, layers-1)
	}
	return lo, hi, nil
}
