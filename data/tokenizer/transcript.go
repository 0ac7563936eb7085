package tokenizer

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// The roles of Nectar's transcripts, as chat templates call them.
const (
	roleSystem    = "system"
	roleUser      = "user"
	roleAssistant = "assistant"
)

// turnMark begins a turn: a name at the start of the text, or after an empty line, its
// colon, and one blank if there is one. A name elsewhere is part of what was said.
var turnMark = regexp.MustCompile(`(?:\A\n{0,2}|\n\n)(Human|Assistant): ?`)

// ParseTranscript splits a prompt of Nectar's form into messages; the last one
// is the user's. Text before the first turn is the system's. A prompt without any turn
// is one message of the user.
func ParseTranscript(prompt string) ([]Message, error) {
	ms, begun, err := splitTranscript(prompt)
	if err != nil {
		return nil, err
	}
	if begun != "" {
		return nil, fmt.Errorf("tokenizer: parse transcript: the assistant has already begun to answer: %s", shorten(begun))
	}
	return ms, nil
}

// splitTranscript splits a prompt into messages, the last one the user's, and the words
// with which the assistant's answer begins, usually none.
func splitTranscript(prompt string) (ms []Message, begun string, err error) {
	if strings.TrimSpace(prompt) == "" {
		return nil, "", errors.New("tokenizer: parse transcript: the prompt is empty")
	}
	marks := turnMark.FindAllStringSubmatchIndex(prompt, -1)
	if len(marks) == 0 {
		return []Message{{roleUser, prompt}}, "", nil
	}
	if before := prompt[:marks[0][0]]; strings.TrimSpace(before) != "" {
		ms = append(ms, Message{roleSystem, before})
	}
	users := 0
	for i, mark := range marks {
		end := len(prompt)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		role := roleAssistant
		if prompt[mark[2]:mark[3]] == "Human" {
			role = roleUser
			users++
		}
		ms = append(ms, Message{role, prompt[mark[1]:end]})
	}
	if users == 0 {
		return nil, "", errors.New("tokenizer: parse transcript: no turn of the Human")
	}
	last := ms[len(ms)-1]
	if last.Role != roleAssistant {
		return ms, "", nil
	}
	ms = ms[:len(ms)-1]
	if ms[len(ms)-1].Role != roleUser {
		return nil, "", errors.New("tokenizer: parse transcript: two turns of the Assistant at the end")
	}
	if strings.TrimSpace(last.Content) == "" {
		return ms, "", nil
	}
	return ms, last.Content, nil
}

// formatTranscript writes messages as Nectar does: "\n\nHuman: ...\n\nAssistant: ...".
// What the system says stands before the first turn as it is.
func formatTranscript(ms []Message) (string, error) {
	var b strings.Builder
	for i, m := range ms {
		switch m.Role {
		case roleUser:
			b.WriteString("\n\nHuman: ")
		case roleAssistant:
			b.WriteString("\n\nAssistant: ")
		case roleSystem:
			if i > 0 {
				return "", fmt.Errorf("tokenizer: write transcript: message %d is the system's, which only the first may be", i+1)
			}
		default:
			return "", fmt.Errorf("tokenizer: write transcript: message %d has role %q (allowed are system, user and assistant)", i+1, m.Role)
		}
		b.WriteString(m.Content)
	}
	return b.String(), nil
}
