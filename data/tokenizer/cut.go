package tokenizer

import (
	"errors"
	"slices"
)

// The score positions of a Format.
const (
	lastToken      = "last_token"
	lastNonPad     = "last_non_pad"
	beforeFirstPad = "before_first_pad"
)

// finish cuts ids to the format's length and after the scored token. As in Hugging
// Face's tokenizers, prefix and suffix, which the post-processor adds, count but stay.
func (e *Encoder) finish(prefix, ids, suffix []int32) (Encoded, error) {
	out := Encoded{Tokens: len(prefix) + len(ids) + len(suffix)}
	if out.Tokens == 0 {
		return Encoded{}, errors.New("tokenizer: encode: there is no token to score")
	}
	if most := e.format.MaxLength; most > 0 && out.Tokens > most {
		out.Truncated = true
		keep := most - len(prefix) - len(suffix)
		if e.format.TruncationSide == "left" {
			ids = ids[len(ids)-keep:]
		} else {
			ids = ids[:keep]
		}
	}
	ids = slices.Concat(prefix, ids, suffix)
	out.IDs = ids[:scored(ids, e.format.ScorePosition, e.format.PadID)+1]
	return out, nil
}

// scored returns the index of the token at which the score of ids is read.
func scored(ids []int32, position string, pad int32) int {
	last := len(ids) - 1
	switch position {
	case lastNonPad:
		// transformers takes the largest index times (id != pad): 0 if all are pads.
		for i := last; i > 0; i-- {
			if ids[i] != pad {
				return i
			}
		}
		return 0
	case beforeFirstPad:
		// A pad at the very beginning gives index -1, which is the last token.
		if first := slices.Index(ids, pad); first > 0 {
			return first - 1
		}
	}
	return last
}
