package nectar

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rmtrain/data/tokenizer"
)

// parsePair reads chosen and rejected, by the conventions of TRL's preference data:
//
//   - strings after a prompt are answers to it;
//   - strings alone are whole transcripts ("\n\nHuman: ...\n\nAssistant: ...", as in
//     hh-rlhf), divided before the last answer, or else finished texts;
//   - lists of messages alone are whole conversations;
//   - lists of messages after a prompt go on from it, or, if they begin with a
//     message that is not the assistant's, repeat it.
func (r *Ranking) parsePair(f fields) error {
	var given *prompt
	if present(f.Prompt) {
		p, err := parsePrompt(f.Prompt)
		if err != nil {
			return err
		}
		given = &p
	}
	for i, side := range []struct {
		name string
		raw  json.RawMessage
	}{{"chosen", f.Chosen}, {"rejected", f.Rejected}} {
		c, p, err := parseSide(side.name, side.raw, given)
		if err != nil {
			return err
		}
		c.Rank = float64(i + 1)
		r.Completions = append(r.Completions, c)
		if i == 0 {
			r.Prompt = p.key()
		}
	}
	if r.Completions[0].Form == Text {
		r.Prompt = textsKey(r.Completions)
	}
	if !present(f.Margin) {
		return nil
	}
	var err error
	r.Margin, err = number("margin", f.Margin)
	return err
}

// parseSide reads chosen or rejected, and what comes before the answer: given, if
// the row has a prompt, or a part of the side itself.
func parseSide(name string, raw json.RawMessage, given *prompt) (Completion, prompt, error) {
	if kind(raw) == "a list" {
		return parseConversation(name, raw, given)
	}
	var s string
	if err := decode(name, raw, '"', &s); err != nil {
		return Completion{}, prompt{}, err
	}
	if given != nil {
		return given.complete(s, 0), *given, nil
	}
	if !strings.HasPrefix(strings.TrimLeft(s, " \n"), "Human:") {
		return Completion{Form: Text, Answer: s}, prompt{}, nil
	}
	before, answer, err := divideTranscript(s)
	if err != nil {
		return Completion{}, prompt{}, fmt.Errorf("%s: %w", name, err)
	}
	p := newPrompt(before)
	return p.complete(answer, 0), p, nil
}

// divideTranscript divides a whole transcript before its last answer.
func divideTranscript(s string) (before, answer string, err error) {
	const turn = "\n\nAssistant:"
	i := strings.LastIndex(s, turn)
	if i < 0 {
		return "", "", errors.New("a transcript without an answer of the assistant's")
	}
	i += len(turn)
	return s[:i] + " ", strings.TrimPrefix(s[i:], " "), nil
}

// parseConversation reads a side that is a list of messages.
func parseConversation(name string, raw json.RawMessage, given *prompt) (Completion, prompt, error) {
	ms, err := parseMessages(name, raw)
	if err == nil && given != nil {
		ms, err = given.join(name, ms)
	}
	if err != nil {
		return Completion{}, prompt{}, err
	}
	last := ms[len(ms)-1]
	if last.Role != "assistant" {
		return Completion{}, prompt{}, fmt.Errorf("%s ends with a message of %q, not of the assistant's", name, last.Role)
	}
	if len(ms) == 1 {
		return Completion{}, prompt{}, fmt.Errorf("%s has no message before the answer", name)
	}
	before := prompt{messages: ms[:len(ms)-1]}
	return Completion{Form: Messages, Messages: ms, Answer: last.Content}, before, nil
}

// join returns the conversation of a prompt and the messages beside it. Those that
// begin with the assistant's follow it. Otherwise they must repeat it; a string is
// not compared, because others write the same prompt with other white space.
func (p prompt) join(name string, ms []tokenizer.Message) ([]tokenizer.Message, error) {
	if ms[0].Role == "assistant" {
		if len(p.messages) == 0 {
			return nil, fmt.Errorf("prompt is no transcript that %s, a list of messages, can follow", name)
		}
		return append(slices.Clone(p.messages), ms...), nil
	}
	n := len(p.messages)
	if p.text == "" && (len(ms) <= n || !slices.Equal(ms[:n], p.messages)) {
		return nil, fmt.Errorf("%s neither begins with the prompt nor with an answer to it", name)
	}
	return ms, nil
}
