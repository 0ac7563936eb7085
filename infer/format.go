package infer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"rmtrain/checkpoints"
	"rmtrain/data/tokenizer"
	"rmtrain/kernels/llama"
)

// What the class in the model card of Starling-RM does with texts.
const (
	starlingLength = 2048
	starlingPad    = 0 // whatever config.json says
)

// FormatOf returns how dir's conversations become ids: as rmtrain.json says, or,
// without one, as the programs do for which such a folder is made: transformers'
// ...ForSequenceClassification, or the class in Starling-RM's model card.
func FormatOf(dir *checkpoints.Dir, c llama.Config, t *tokenizer.Tokenizer) (tokenizer.Format, error) {
	f := tokenizer.Format{Template: t.ChatTemplate(), MaxLength: c.MaxPositions, TruncationSide: "left"}
	if dir.Meta != nil && len(dir.Meta.Format) > 0 {
		f = tokenizer.Format{PadID: -1}
		if err := json.Unmarshal(dir.Meta.Format, &f); err != nil {
			return f, fmt.Errorf("read rmtrain.json: field format: %w", err)
		}
		return f, nil
	}
	if dir.Dialect == checkpoints.Starling {
		f.MaxLength = min(starlingLength, c.MaxPositions)
		f.ScorePosition, f.PadID = "before_first_pad", starlingPad
		return f, nil
	}
	pad, err := padTokenID(dir.Config)
	if err != nil {
		return f, err
	}
	f.ScorePosition, f.PadID = "last_non_pad", pad
	if pad < 0 { // transformers then takes the last token, or finds no pad before it
		f.ScorePosition = "last_token"
	}
	return f, nil
}

// padTokenID returns pad_token_id, or -1 if there is none. It is not llama.Config's,
// where a negative one counts from the vocabulary's end, as in PyTorch's embedding: in
// a text no id is negative, so there it is never found.
func padTokenID(configJSON []byte) (int32, error) {
	var c struct {
		Pad *float64 `json:"pad_token_id"`
	}
	if err := json.Unmarshal(configJSON, &c); err != nil {
		return -1, fmt.Errorf("read config.json: %w", err)
	}
	if c.Pad == nil || *c.Pad < 0 {
		return -1, nil
	}
	return int32(*c.Pad), nil
}

// newEncoder opens the tokenizer of dir. maxLength, if not 0, replaces the length of
// its format.
func newEncoder(dir *checkpoints.Dir, c llama.Config, maxLength int) (_ *tokenizer.Encoder, err error) {
	t, err := tokenizer.Open(dir.Path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	f, err := FormatOf(dir, c, t)
	if err != nil {
		return nil, err
	}
	if most := max(c.MaxPositions, f.MaxLength); maxLength > most {
		return nil, fmt.Errorf("max length %d is above the model's max_position_embeddings %d", maxLength, most)
	}
	f.MaxLength = cmp.Or(maxLength, f.MaxLength)
	return tokenizer.NewEncoder(t, f)
}
