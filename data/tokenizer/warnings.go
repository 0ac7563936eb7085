package tokenizer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// marker matches what chat templates use as marks of turns: <|im_start|> and the like.
var marker = regexp.MustCompile(`<\|[A-Za-z0-9_]+\|>`)

// inspect looks for what makes a tokenizer surprise its user.
func (t *Tokenizer) inspect() []string {
	var w []string
	for _, key := range t.definition.ignored {
		w = append(w, fmt.Sprintf("%s sets %s; it is ignored, as rmtrain does this by itself", mainFile, key))
	}
	w = append(w, t.inspectSpecials()...)
	w = append(w, t.inspectMarkers()...)
	w = append(w, t.inspectBOS()...)
	return append(w, t.inspectTemplate()...)
}

// inspectSpecials checks the special tokens by role against the vocabulary.
func (t *Tokenizer) inspectSpecials() []string {
	var w []string
	for _, role := range specialRoles {
		if s := t.special(role); s.Text != "" && s.ID < 0 {
			w = append(w, fmt.Sprintf("%s is %q, which is not in the vocabulary", role, s.Text))
		}
	}
	return w
}

// inspectMarkers checks that the texts of special tokens, and the marks of the chat
// template, encode as their one id.
func (t *Tokenizer) inspectMarkers() []string {
	var normalized, broken []string
	texts := marker.FindAllString(t.config.template, -1)
	for _, a := range t.definition.added {
		if !a.Special {
			continue
		}
		texts = append(texts, a.Content)
		if a.Normalized && isSet(t.definition.top["normalizer"]) {
			normalized = append(normalized, a.Content)
		}
	}
	slices.Sort(texts)
	for _, text := range slices.Compact(texts) {
		if text == "" || strings.Contains(text, "\x00") {
			continue
		}
		ids := toInt32(t.plain.EncodeWithOptions(text, false).IDs)
		if len(ids) != 1 || ids[0] != t.definition.id(text) {
			broken = append(broken, text)
		}
	}
	var w []string
	if len(normalized) > 0 {
		w = append(w, fmt.Sprintf("%s normalizes the special tokens %s: inside a text they are split into pieces, "+
			"as with Hugging Face's own tokenizers", mainFile, quoteSome(normalized)))
	}
	if len(broken) > 0 {
		w = append(w, fmt.Sprintf("%s encodes %s as ordinary text, not as one token", mainFile, quoteSome(broken)))
	}
	return w
}

// inspectBOS compares what adds a BOS: the post-processor, the configuration, and the
// chat template.
func (t *Tokenizer) inspectBOS() []string {
	bos := t.BOS()
	if bos.ID < 0 {
		return nil
	}
	var w []string
	adds := slices.Contains(t.prefix, bos.ID)
	if t.config.addBOS != nil && *t.config.addBOS != adds {
		w = append(w, fmt.Sprintf("%s sets add_bos_token to %t, but %s decides, which does the opposite",
			configFile, *t.config.addBOS, mainFile))
	}
	if t.config.template == "" || !adds {
		return w
	}
	if strings.Contains(t.config.template, "bos_token") || strings.Contains(t.config.template, bos.Text) {
		return append(w, fmt.Sprintf("the chat template prints %q and %s adds it too; rmtrain keeps one, "+
			"other programs may double it when they encode rendered text", bos.Text, mainFile))
	}
	return append(w, fmt.Sprintf("the chat template does not print %q, so that conversations start without it, "+
		"as they do in transformers", bos.Text))
}

// inspectTemplate compiles the chat template.
func (t *Tokenizer) inspectTemplate() []string {
	if len(t.config.templates) > 0 {
		return []string{fmt.Sprintf("there are chat templates named %s, but none named default (choose one in a file)",
			quoteSome(t.config.templates))}
	}
	if t.config.template == "" {
		return nil
	}
	if _, err := compileTemplate(t.config.template, t.config.specials); err != nil {
		return []string{err.Error()}
	}
	if strings.Contains(t.config.template, "strftime_now") {
		return []string{fmt.Sprintf("the chat template prints the date; rmtrain always prints %s, so that scores do not change by the day",
			templateDate.Format("2 January 2006"))}
	}
	return nil
}

// quoteSome lists the first few texts.
func quoteSome(texts []string) string {
	const most = 5
	quoted := make([]string, 0, most+1)
	for i, text := range texts {
		if i == most {
			quoted = append(quoted, fmt.Sprintf("and %d more", len(texts)-most))
			break
		}
		quoted = append(quoted, fmt.Sprintf("%q", text))
	}
	return strings.Join(quoted, ", ")
}
