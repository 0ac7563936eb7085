package nectar

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"rmtrain/data"
	"rmtrain/data/tokenizer"
)

// A Form says how a completion becomes ids.
type Form int

const (
	Transcript Form = iota // Prompt, in Nectar's form or a message of the user, and Answer
	Messages               // Messages, the last of which is the answer
	Text                   // Answer alone, finished text that no template touches
)

// A Completion is one conversation of a row and its rank.
type Completion struct {
	Form     Form
	Prompt   string
	Messages []tokenizer.Message
	Answer   string // what was answered, whatever the form; finished text as a whole
	Rank     float64
}

// A Ranking is one row: ranked completions, in the order of the file.
type Ranking struct {
	Completions []Completion
	Margin      float64
	Prompt      data.PromptKey
}

// fields are the columns of a row that mean something here; all others are left alone.
type fields struct {
	Prompt   json.RawMessage `json:"prompt"`
	Answers  json.RawMessage `json:"answers"`
	Ranks    json.RawMessage `json:"ranks"`
	Texts    json.RawMessage `json:"texts"`
	Chosen   json.RawMessage `json:"chosen"`
	Rejected json.RawMessage `json:"rejected"`
	Margin   json.RawMessage `json:"margin"`
}

// columns are the names in fields.
var columns = []string{"prompt", "answers", "ranks", "texts", "chosen", "rejected", "margin"}

// ParseRow reads one row, a JSON object in one of these forms:
//
//	{"prompt": P, "answers": [{"answer": "...", "rank": 1}, ...]}       Nectar
//	{"prompt": P, "answers": ["...", ...], "ranks": [1, ...]}           the same
//	{"prompt": P, "chosen": C, "rejected": C, "margin": 0.5}            a pair; prompt and margin are optional
//	{"texts": ["...", ...], "ranks": [1, ...]}                          finished texts
//
// P is a transcript ("\n\nHuman: ...\n\nAssistant: "), another string, which is one
// message of the user, or a list of messages. C is a string or a list of
// messages; see parsePair. The smallest rank is best.
func ParseRow(line []byte) (*Ranking, error) {
	var f fields
	if err := json.Unmarshal(line, &f); err != nil {
		return nil, jsonError(err)
	}
	r := &Ranking{}
	var err error
	switch {
	case present(f.Texts) && (present(f.Answers) || present(f.Chosen)), present(f.Answers) && present(f.Chosen):
		return nil, errors.New("more than one of answers, chosen and texts")
	case present(f.Texts):
		err = r.parseTexts(f)
	case present(f.Chosen) || present(f.Rejected):
		err = r.parsePair(f)
	case present(f.Answers):
		err = r.parseAnswers(f)
	case f.Answers != nil:
		err = errors.New("answers is null")
	default:
		err = errors.New("neither answers, nor chosen and rejected, nor texts")
	}
	if err == nil && len(r.Completions) < 2 {
		err = fmt.Errorf("%d of at least 2 answers", len(r.Completions))
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func jsonError(err error) error {
	if kind := (*json.UnmarshalTypeError)(nil); errors.As(err, &kind) {
		return fmt.Errorf("a JSON %s instead of an object", kind.Value)
	}
	return fmt.Errorf("not JSON: %w", err)
}

// parseAnswers reads Nectar's form.
func (r *Ranking) parseAnswers(f fields) error {
	p, err := parsePrompt(f.Prompt)
	if err != nil {
		return err
	}
	var list []json.RawMessage
	if err := decode("answers", f.Answers, '[', &list); err != nil {
		return err
	}
	ranks, err := parseRanks(f.Ranks, len(list), "answers")
	if err != nil {
		return err
	}
	for i, raw := range list {
		name := fmt.Sprintf("answers[%d]", i)
		var answer string
		var rank float64
		if ranks != nil {
			rank = ranks[i]
			err = decode(name, raw, '"', &answer)
		} else {
			answer, rank, err = parseAnswer(name, raw)
		}
		if err != nil {
			return err
		}
		r.Completions = append(r.Completions, p.complete(answer, rank))
	}
	r.Prompt = p.key()
	return nil
}

// parseAnswer reads an element of Nectar's answers.
func parseAnswer(name string, raw json.RawMessage) (answer string, rank float64, err error) {
	var a struct {
		Answer json.RawMessage `json:"answer"`
		Rank   json.RawMessage `json:"rank"`
	}
	if kind(raw) == "a string" {
		return "", 0, fmt.Errorf("%s is a string, and the row has no ranks", name)
	}
	if err := decode(name, raw, '{', &a); err != nil {
		return "", 0, err
	}
	if err := decode(name+".answer", a.Answer, '"', &answer); err != nil {
		return "", 0, err
	}
	rank, err = number(name+".rank", a.Rank)
	return answer, rank, err
}

// parseTexts reads finished texts. A prompt, if there is one, only says which rows
// belong together; otherwise their common beginning does.
func (r *Ranking) parseTexts(f fields) error {
	var list []json.RawMessage
	if err := decode("texts", f.Texts, '[', &list); err != nil {
		return err
	}
	ranks, err := parseRanks(f.Ranks, len(list), "texts")
	if err != nil {
		return err
	}
	if ranks == nil {
		return errors.New("texts without ranks")
	}
	for i, raw := range list {
		c := Completion{Form: Text, Rank: ranks[i]}
		if err := decode(fmt.Sprintf("texts[%d]", i), raw, '"', &c.Answer); err != nil {
			return err
		}
		r.Completions = append(r.Completions, c)
	}
	r.Prompt = textsKey(r.Completions)
	if present(f.Prompt) {
		p, err := parsePrompt(f.Prompt)
		r.Prompt = p.key()
		return err
	}
	return nil
}

// parseRanks reads a list of n ranks, nil if there is none.
func parseRanks(raw json.RawMessage, n int, of string) ([]float64, error) {
	if !present(raw) {
		return nil, nil
	}
	var list []json.RawMessage
	if err := decode("ranks", raw, '[', &list); err != nil {
		return nil, err
	}
	if len(list) != n {
		return nil, fmt.Errorf("%d ranks for %d %s", len(list), n, of)
	}
	ranks := make([]float64, n)
	for i, r := range list {
		var err error
		if ranks[i], err = number(fmt.Sprintf("ranks[%d]", i), r); err != nil {
			return nil, err
		}
	}
	return ranks, nil
}

// A prompt is what comes before the answer.
type prompt struct {
	text     string              // as it was given, if it was a string
	messages []tokenizer.Message // what it says; none if text is no whole transcript
}

func parsePrompt(raw json.RawMessage) (prompt, error) {
	if kind(raw) == "a list" {
		ms, err := parseMessages("prompt", raw)
		return prompt{messages: ms}, err
	}
	var s string
	if err := decode("prompt", raw, '"', &s); err != nil {
		return prompt{}, err
	}
	if strings.TrimSpace(s) == "" {
		return prompt{}, errors.New("prompt is empty")
	}
	return newPrompt(s), nil
}

// newPrompt leaves it to the encoder to refuse s: it also takes a prompt in which
// the answer has begun, which ParseTranscript does not.
func newPrompt(s string) prompt {
	ms, err := tokenizer.ParseTranscript(s)
	if err != nil {
		ms = nil
	}
	return prompt{s, ms}
}

// complete returns the conversation in which answer follows p.
func (p prompt) complete(answer string, rank float64) Completion {
	c := Completion{Form: Transcript, Prompt: p.text, Answer: answer, Rank: rank}
	if p.text == "" {
		c.Form = Messages
		c.Messages = append(slices.Clone(p.messages), tokenizer.Message{Role: "assistant", Content: answer})
	}
	return c
}

// key is the same for the same messages, in whatever form they were given.
func (p prompt) key() data.PromptKey {
	h := sha256.New()
	for _, m := range p.messages {
		fmt.Fprintf(h, "%s\x00%s\x00", m.Role, strings.TrimSpace(m.Content))
	}
	if len(p.messages) == 0 {
		fmt.Fprintf(h, "text\x00%s", p.text)
	}
	return data.PromptKey(h.Sum(nil)[:16])
}

// textsKey identifies finished texts by what all of them begin with.
func textsKey(cs []Completion) data.PromptKey {
	common := ""
	if len(cs) > 0 {
		common = cs[0].Answer
	}
	for _, c := range cs {
		n := 0
		for n < min(len(common), len(c.Answer)) && common[n] == c.Answer[n] {
			n++
		}
		common = common[:n]
	}
	sum := sha256.Sum256([]byte("text\x00" + common))
	return data.PromptKey(sum[:16])
}

func parseMessages(name string, raw json.RawMessage) ([]tokenizer.Message, error) {
	var list []json.RawMessage
	if err := decode(name, raw, '[', &list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s is an empty list", name)
	}
	ms := make([]tokenizer.Message, len(list))
	for i, item := range list {
		name := fmt.Sprintf("%s[%d]", name, i)
		var m struct {
			Role    json.RawMessage `json:"role"`
			Content json.RawMessage `json:"content"`
		}
		if err := decode(name, item, '{', &m); err != nil {
			return nil, err
		}
		if err := decode(name+".role", m.Role, '"', &ms[i].Role); err != nil {
			return nil, err
		}
		if err := decode(name+".content", m.Content, '"', &ms[i].Content); err != nil {
			return nil, err
		}
	}
	return ms, nil
}

// present tells whether a field is there and not null.
func present(raw json.RawMessage) bool { return raw != nil && string(raw) != "null" }

// kinds names JSON values by their first byte; all others are numbers.
var kinds = map[byte]string{'"': "a string", '[': "a list", '{': "an object", 't': "a truth value", 'f': "a truth value", 'n': "null"}

func kind(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "missing"
	}
	if k, ok := kinds[raw[0]]; ok {
		return k
	}
	return "a number"
}

// decode reads a value that must begin with the given byte.
func decode(name string, raw json.RawMessage, first byte, to any) error {
	if len(raw) == 0 || raw[0] != first {
		if k := kind(raw); k == "missing" || k == "null" {
			return fmt.Errorf("%s is %s", name, k)
		}
		return fmt.Errorf("%s is %s, not %s", name, kind(raw), kinds[first])
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// number reads a finite number.
func number(name string, raw json.RawMessage) (float64, error) {
	switch k := kind(raw); {
	case k == "missing" || k == "null":
		return 0, fmt.Errorf("%s is %s", name, k)
	case k == "a string" && len(raw) < 20:
		return 0, fmt.Errorf("%s is %s, not a finite number", name, raw)
	case k != "a number":
		return 0, fmt.Errorf("%s is %s, not a number", name, k)
	}
	var x float64
	if err := json.Unmarshal(raw, &x); err != nil || math.IsInf(x, 0) {
		return 0, fmt.Errorf("%s is %s, not a finite number", name, raw)
	}
	return x, nil
}
