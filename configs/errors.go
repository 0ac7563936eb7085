package configs

import (
	"fmt"
	"strings"
)

// A Problem is one mistake in a configuration.
type Problem struct {
	Key     string // or the name of a variable that no key has
	Value   string // as it was written; "" where there is none
	Source  string // such as run.yaml:12, RMTRAIN_TRAIN_SEED, --set, default
	Message string // what is wrong, what is allowed, what was probably meant
}

func (p Problem) String() string {
	text := p.Key
	if p.Value != "" {
		text += " = " + p.Value
	}
	if p.Source != "" {
		text += " (" + p.Source + ")"
	}
	return text + ": " + p.Message
}

// An Error lists every mistake of a configuration, in the order of file,
// environment, --set, and combinations of settings.
type Error struct{ Problems []Problem }

func (e *Error) Error() string {
	var b strings.Builder
	mistakes := "mistakes"
	if len(e.Problems) == 1 {
		mistakes = "mistake"
	}
	fmt.Fprintf(&b, "configs: %d %s in the configuration, nothing was started", len(e.Problems), mistakes)
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %s", p)
	}
	return b.String()
}

// quote shows a text on one line.
func quote(text string) string { return fmt.Sprintf("%q", shorten(text)) }

func shorten(text string) string {
	const most = 80
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return text
}
