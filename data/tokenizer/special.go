package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A Special is a special token by its role; ID is -1 if there is none.
type Special struct {
	Text string
	ID   int32
}

// specialRoles are the special tokens that transformers knows by name.
var specialRoles = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// specialTokens are the special tokens of a model's configuration.
type specialTokens struct {
	text       map[string]string // by role; a role without a token is absent
	additional []string
}

// classDefaults are the special tokens of transformers' tokenizer classes, for
// folders that do not name theirs.
var classDefaults = map[string]map[string]string{
	"LlamaTokenizer": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
	"GPT2Tokenizer":  {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
	"Qwen2Tokenizer": {"eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
}

// A config is what tokenizer_config.json, special_tokens_map.json and the files of
// chat templates say together.
type config struct {
	specials specialTokens
	addBOS   *bool // add_bos_token, if it is given
	template string
	// templates names the chat templates of a folder that has several, none of them
	// "default".
	templates []string
}

// parseConfig reads the files of a folder that stand beside tokenizer.json. A file
// that is absent says nothing.
func parseConfig(file func(name string) []byte) (config, error) {
	c := config{specials: specialTokens{text: map[string]string{}}}
	main, err := object(file, configFile)
	if err != nil {
		return c, err
	}
	var class string
	if raw := main["tokenizer_class"]; isSet(raw) {
		if err := json.Unmarshal(raw, &class); err != nil {
			return c, fmt.Errorf("%s: tokenizer_class: %w", configFile, err)
		}
	}
	for role, text := range classDefaults[strings.TrimSuffix(class, "Fast")] {
		c.specials.text[role] = text
	}
	if err := c.specials.read(main, configFile); err != nil {
		return c, err
	}
	// transformers reads the map only for folders older than added_tokens_decoder.
	if _, ok := main["added_tokens_decoder"]; !ok {
		m, err := object(file, specialsFile)
		if err != nil {
			return c, err
		}
		if err := c.specials.read(m, specialsFile); err != nil {
			return c, err
		}
	}
	if raw := main["add_bos_token"]; isSet(raw) {
		if err := json.Unmarshal(raw, &c.addBOS); err != nil {
			return c, fmt.Errorf("%s: add_bos_token: %w", configFile, err)
		}
	}
	return c, c.readTemplate(file, main["chat_template"])
}

// read takes the special tokens of one file over those known so far.
func (s *specialTokens) read(members map[string]json.RawMessage, name string) error {
	for _, role := range specialRoles {
		raw, ok := members[role]
		if !ok {
			continue
		}
		text, err := tokenText(raw)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, role, err)
		}
		delete(s.text, role)
		if text != "" {
			s.text[role] = text
		}
	}
	raw := members["additional_special_tokens"]
	if !isSet(raw) {
		return nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("%s: additional_special_tokens: %w", name, err)
	}
	s.additional = nil
	for _, item := range list {
		text, err := tokenText(item)
		if err != nil {
			return fmt.Errorf("%s: additional_special_tokens: %w", name, err)
		}
		s.additional = append(s.additional, text)
	}
	return nil
}

// tokenText reads a token: null, a string, or an object with its content.
func tokenText(raw json.RawMessage) (string, error) {
	if !isSet(raw) {
		return "", nil
	}
	if raw[0] == '"' {
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	}
	var token struct {
		Content *string `json:"content"`
	}
	if err := json.Unmarshal(raw, &token); err != nil {
		return "", err
	}
	if token.Content == nil {
		return "", fmt.Errorf("%s is neither a string nor an object with content", raw)
	}
	return *token.Content, nil
}

// readTemplate finds the chat template: chat_template.jinja, else the configuration's,
// else chat_template.json.
func (c *config) readTemplate(file func(string) []byte, inConfig json.RawMessage) error {
	if source := file(jinjaFile); source != nil {
		c.template = string(source)
		return nil
	}
	if isSet(inConfig) {
		if err := c.pickTemplate(inConfig); err != nil {
			return fmt.Errorf("%s: chat_template: %w", configFile, err)
		}
		return nil
	}
	m, err := object(file, templateFile)
	if err != nil || !isSet(m["chat_template"]) {
		return err
	}
	if err := c.pickTemplate(m["chat_template"]); err != nil {
		return fmt.Errorf("%s: chat_template: %w", templateFile, err)
	}
	return nil
}

// pickTemplate reads a template: a string, or several by name of which "default" is
// taken.
func (c *config) pickTemplate(raw json.RawMessage) error {
	switch raw[0] {
	case '"':
		return json.Unmarshal(raw, &c.template)
	case '[':
		var list []struct {
			Name     string `json:"name"`
			Template string `json:"template"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
		for _, t := range list {
			if t.Name == "default" {
				c.template, c.templates = t.Template, nil
				return nil
			}
			c.templates = append(c.templates, t.Name)
		}
		return nil
	default:
		return fmt.Errorf("it is neither a string nor a list of {name, template}")
	}
}

// object reads a file that holds a JSON object; an absent file holds none.
func object(file func(string) []byte, name string) (map[string]json.RawMessage, error) {
	data := file(name)
	if data == nil {
		return nil, nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}
