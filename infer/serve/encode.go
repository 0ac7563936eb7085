package serve

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"

	"rmtrain/data/tokenizer"
)

// An input is one conversation of a request: exactly one field is set, but that
// answer goes with prompt and plain with text or messages.
type input struct {
	text     *string
	messages []tokenizer.Message
	ids      []int32
	prompt   *string // Nectar's transcript, or a single message of the user
	answer   string
	// specials, if not nil, overrules whether the tokenizer adds its own special tokens.
	// A second BOS is never added.
	specials *bool
}

func textInput(s string) input { return input{text: &s} }

// A cut is where a client wants conversations to end. Zero values mean what the
// checkpoint says.
type cut struct {
	length int    // or whole
	side   string // left or right
}

// whole is the length of what is not cut at all, neither behind the scored token.
const whole = -1

// encodeOptions are a request's for all of its conversations.
type encodeOptions struct {
	cut    cut
	refuse *bool // an error for what is too long, instead of truncation; nil: as the server says
}

// mostEncoders bounds the encoders that clients can cause to be kept.
const mostEncoders = 64

// encoder returns the checkpoint's encoder but for c.
func (e *engine) encoder(c cut) (*tokenizer.Encoder, error) {
	f := e.model.Encoder.Format()
	if c.length == f.MaxLength {
		c.length = 0
	}
	if c.side == f.TruncationSide {
		c.side = ""
	}
	if c == (cut{}) {
		return e.model.Encoder, nil
	}
	e.encoderMu.Lock()
	defer e.encoderMu.Unlock()
	if enc := e.encoders[c]; enc != nil {
		return enc, nil
	}
	switch {
	case c.length == whole:
		f.MaxLength, f.ScorePosition = 0, "last_token"
	case f.MaxLength > 0 && c.length > f.MaxLength:
		// Only vLLM's dialect asks for more than there is; the others take it as "all".
		return nil, &failure{kind: kindInvalid, param: "truncate_prompt_tokens", text: fmt.Sprintf("truncate_prompt_tokens is %d, more than the %d tokens that the model reads (-1 asks for as many as it reads)", c.length, f.MaxLength)}
	case c.length > 0:
		f.MaxLength = c.length
	}
	if c.side != "" {
		f.TruncationSide = c.side
	}
	enc, err := tokenizer.NewEncoder(e.model.Encoder.Tokenizer(), f)
	if err != nil {
		return nil, failf(kindInvalid, "truncation: %v", err)
	}
	if len(e.encoders) >= mostEncoders {
		clear(e.encoders)
	}
	e.encoders[c] = enc
	return enc, nil
}

// encode returns the ids of a request's inputs.
func (s *Server) encodeAll(ctx context.Context, e *engine, ins []input, o encodeOptions) ([]tokenizer.Encoded, error) {
	if len(ins) > s.limits.Inputs {
		return nil, failf(kindLimit, "the request has %d inputs, more than the %d that this server allows", len(ins), s.limits.Inputs)
	}
	enc, err := e.encoder(o.cut)
	if err != nil {
		return nil, err
	}
	select {
	case s.encode <- struct{}{}:
		defer func() { <-s.encode }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out := make([]tokenizer.Encoded, len(ins))
	for i, in := range ins {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if out[i], err = e.cached(enc, in); err != nil {
			return nil, failf(kindInvalid, "input %d: %v", i, err)
		}
		refuse := s.limits.RefuseTooLong
		if o.refuse != nil {
			refuse = *o.refuse
		}
		if out[i].Truncated && refuse {
			return nil, failf(kindLimit, "input %d has %d tokens, more than %d (shorten it, or ask for truncation)", i, out[i].Tokens, enc.Format().MaxLength)
		}
	}
	return out, nil
}

// cached encodes in, or remembers it.
func (e *engine) cached(enc *tokenizer.Encoder, in input) (tokenizer.Encoded, error) {
	if in.ids != nil { // ids are encoded already, but for the end
		return e.checked(enc.IDs(in.ids))
	}
	key := in.key(enc.Format())
	if conv, ok := e.cache.get(key); ok {
		e.metrics.cache.WithLabelValues("hit").Inc()
		return conv, nil
	}
	e.metrics.cache.WithLabelValues("miss").Inc()
	conv, err := e.checked(in.encode(enc))
	if err == nil {
		e.cache.put(key, conv)
	}
	return conv, err
}

// checked makes sure that the network knows all ids: a tokenizer may have more than
// the embedding.
func (e *engine) checked(c tokenizer.Encoded, err error) (tokenizer.Encoded, error) {
	if err != nil {
		return c, err
	}
	for _, id := range c.IDs {
		if int(id) >= e.model.Vocab {
			return c, fmt.Errorf("id %d is beyond the model's vocabulary of %d", id, e.model.Vocab)
		}
	}
	return c, nil
}

func (in input) encode(enc *tokenizer.Encoder) (tokenizer.Encoded, error) {
	if in.prompt != nil {
		return enc.Transcript(*in.prompt, in.answer)
	}
	text := in.text
	if text == nil {
		if in.specials == nil {
			return enc.Messages(in.messages)
		}
		rendered, err := enc.Render(in.messages)
		if err != nil {
			return tokenizer.Encoded{}, err
		}
		text = &rendered
	}
	if in.specials == nil || *in.specials {
		return enc.Text(*text)
	}
	ids, err := enc.Tokenizer().Encode(*text, false)
	if err != nil {
		return tokenizer.Encoded{}, err
	}
	return enc.IDs(ids)
}

// key covers all that encode reads.
func (in input) key(f tokenizer.Format) (k cacheKey) {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s ", f.MaxLength, f.TruncationSide)
	switch {
	case in.specials == nil:
		h.Write([]byte{0})
	case *in.specials:
		h.Write([]byte{1})
	default:
		h.Write([]byte{2})
	}
	switch {
	case in.prompt != nil:
		writeParts(h, 'p', *in.prompt, in.answer)
	case in.text != nil:
		writeParts(h, 't', *in.text)
	default:
		for _, m := range in.messages {
			writeParts(h, 'm', m.Role, m.Content)
		}
	}
	h.Sum(k[:0])
	return k
}

// writeParts writes strings so that no other strings read the same.
func writeParts(h hash.Hash, tag byte, parts ...string) {
	for _, p := range parts {
		var n [9]byte
		n[0] = tag
		binary.LittleEndian.PutUint64(n[1:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
}

// specialIDs reads from tokenizer.json which tokens are special.
func (e *engine) specialIDs() map[int32]bool {
	special := map[int32]bool{}
	var definition struct {
		Added []struct {
			ID      int32 `json:"id"`
			Special bool  `json:"special"`
		} `json:"added_tokens"`
	}
	for _, f := range e.model.Encoder.Tokenizer().Files() {
		if f.Name == "tokenizer.json" && json.Unmarshal(f.Data, &definition) == nil {
			for _, a := range definition.Added {
				special[a.ID] = a.Special
			}
		}
	}
	return special
}
