package tokenizer

import (
	"errors"
	"fmt"
	"slices"
)

// A Format says how a conversation becomes the ids that are scored. It is stored
// in a checkpoint's rmtrain.json, so that scoring cannot differ from training.
type Format struct {
	// Template is the Jinja source that renders messages. Empty means Nectar's
	// transcript as plain text: "\n\nHuman: ...\n\nAssistant: ...".
	Template string `json:"chat_template"`
	// MaxLength is the most tokens a conversation keeps; 0 is no limit.
	MaxLength int `json:"max_length"`
	// TruncationSide is left (the beginning is cut off; a BOS that the tokenizer
	// itself adds is kept) or right.
	TruncationSide string `json:"truncation_side"`
	// ScorePosition is last_token, last_non_pad or before_first_pad.
	ScorePosition string `json:"score_position"`
	// PadID is what the last two look for; -1 if the model has none.
	PadID int32 `json:"pad_token_id"`
}

// An Encoded conversation ends with the token at which the score is read.
type Encoded struct {
	IDs       []int32
	Tokens    int // as many as there were before truncation
	Truncated bool
}

// An Encoder makes the ids that the network reads. Training and scoring share it.
// It may be used by many goroutines at once.
type Encoder struct {
	tok      *Tokenizer
	format   Format
	template *chatTemplate // nil writes transcripts
}

// NewEncoder checks f against t.
func NewEncoder(t *Tokenizer, f Format) (*Encoder, error) {
	if err := f.check(t); err != nil {
		return nil, fmt.Errorf("tokenizer: format: %w", err)
	}
	e := &Encoder{tok: t, format: f}
	if f.Template == "" {
		return e, nil
	}
	template, err := compileTemplate(f.Template, t.config.specials)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: format: %w", err)
	}
	e.template = template
	return e, nil
}

func (f Format) check(t *Tokenizer) error {
	var errs []error
	added := len(t.prefix) + len(t.suffix)
	if f.MaxLength < 0 || f.MaxLength > 0 && f.MaxLength <= added {
		errs = append(errs, fmt.Errorf("max_length is %d (at least %d, or 0 for no limit)", f.MaxLength, added+1))
	}
	if f.TruncationSide != "left" && f.TruncationSide != "right" {
		errs = append(errs, fmt.Errorf("truncation_side is %q (left or right)", f.TruncationSide))
	}
	if !slices.Contains([]string{lastToken, lastNonPad, beforeFirstPad}, f.ScorePosition) {
		errs = append(errs, fmt.Errorf("score_position is %q (%s, %s or %s)", f.ScorePosition, lastToken, lastNonPad, beforeFirstPad))
	}
	if f.PadID < -1 {
		errs = append(errs, fmt.Errorf("pad_token_id is %d (-1 for none)", f.PadID))
	}
	return errors.Join(errs...)
}

// Format returns the format given to NewEncoder.
func (e *Encoder) Format() Format { return e.format }

// Tokenizer returns the tokenizer given to NewEncoder.
func (e *Encoder) Tokenizer() *Tokenizer { return e.tok }

// Messages encodes a conversation, whose last message is the answer. A chat template
// decides on BOS and EOS by itself, as with transformers' apply_chat_template; to a
// transcript the tokenizer adds its own.
func (e *Encoder) Messages(ms []Message) (Encoded, error) {
	if len(ms) == 0 {
		return Encoded{}, errors.New("tokenizer: encode messages: there are none")
	}
	if last := ms[len(ms)-1].Role; last != roleAssistant {
		return Encoded{}, fmt.Errorf("tokenizer: encode messages: the last one, which is scored, has role %q (it must be %s)", last, roleAssistant)
	}
	text, err := e.Render(ms)
	if err != nil {
		return Encoded{}, err
	}
	if e.template == nil {
		return e.Text(text)
	}
	ids, err := e.tok.Encode(text, false)
	if err != nil {
		return Encoded{}, err
	}
	return e.finish(nil, ids, nil)
}

// Render returns the text of a conversation before it is encoded.
func (e *Encoder) Render(ms []Message) (string, error) {
	if e.template == nil {
		return formatTranscript(ms)
	}
	text, err := e.template.render(ms)
	if err != nil {
		return "", fmt.Errorf("tokenizer: %w", err)
	}
	return text, nil
}

// Transcript encodes an answer to a prompt in Nectar's form,
// "\n\nHuman: ...\n\nAssistant: ", with any number of turns. Without a chat template
// the prompt is kept byte for byte; with one it is parsed into messages. A prompt that
// is no transcript is one message of the user.
func (e *Encoder) Transcript(prompt, answer string) (Encoded, error) {
	if e.template == nil && turnMark.MatchString(prompt) {
		return e.Text(prompt + answer)
	}
	ms, begun, err := splitTranscript(prompt)
	if err != nil {
		return Encoded{}, err
	}
	return e.Messages(append(ms, Message{roleAssistant, begun + answer}))
}

// Text encodes finished text, which no template touches. It never gets a second BOS.
func (e *Encoder) Text(s string) (Encoded, error) {
	ids, err := e.tok.Encode(s, false)
	if err != nil {
		return Encoded{}, err
	}
	prefix := e.tok.prefix
	if bos := e.tok.BOS().ID; len(ids) > 0 && ids[0] == bos && slices.Contains(prefix, bos) {
		prefix = nil
	}
	return e.finish(prefix, ids, e.tok.suffix)
}

// IDs takes ids as they are, but for truncation and the scored position.
func (e *Encoder) IDs(ids []int32) (Encoded, error) {
	for i, id := range ids {
		if id < 0 || int(id) >= e.tok.VocabSize() {
			return Encoded{}, fmt.Errorf("tokenizer: encode ids: id %d at position %d is not in 0..%d", id, i, e.tok.VocabSize()-1)
		}
	}
	return e.finish(nil, ids, nil)
}
