package nectar

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	for i, side := range []struct {
		name string
		raw  json.RawMessage
	}{{"chosen", f.Chosen}, {"rejected", f.Rejected}} {
		c, p, err := parseSide(side.name, side.raw, f.Prompt)
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

// parseSide reads chosen or rejected, and what in it comes before the answer.
func parseSide(name string, raw, rawPrompt json.RawMessage) (Completion, prompt, error) {
	if kind(raw) == "a list" {
		return parseConversation(name, raw, rawPrompt)
	}
	var s string
	if err := decode(name, raw, '"', &s); err != nil {
		return Completion{}, prompt{}, err
	}
	if present(rawPrompt) {
		p, err := parsePrompt(rawPrompt)
		return p.complete(s, 0), p, err
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

func parseConversation(name string, raw, rawPrompt json.RawMessage) (Completion, prompt, error) {
	ms, err := parseMessages(name, raw)
	if err != nil {
		return Completion{}, prompt{}, err
	}
	if present(rawPrompt) {
		p, err := parsePrompt(rawPrompt)
		if err != nil {
			return Completion{}, prompt{}, err
		}
		if len(p.messages) == 0 {
			return Completion{}, prompt{}, fmt.Errorf("prompt is no transcript that %s, a list of messages, can follow", name)
		}
		repeats := len(ms) > len(p.messages) && slices.Equal(ms[:len(p.messages)], p.messages)
		if !repeats && ms[0].Role == "assistant" {
			ms = append(slices.Clone(p.messages), ms...)
		} else if !repeats && kind(rawPrompt) == "a list" {
			return Completion{}, prompt{}, fmt.Errorf("%s neither begins with the prompt nor with an answer to it", name)
		}
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
