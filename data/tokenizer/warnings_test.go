package tokenizer

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestWarnings(t *testing.T) {
	const addsBOS = `"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
		"pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}`
	withBOS := strings.Replace(tiny, `"post_processor": null`, addsBOS, 1)
	for name, c := range map[string]struct {
		files []string
		want  []string // parts of the warnings, in order
	}{
		"nothing":           {[]string{mainFile, tiny}, nil},
		"truncation":        {[]string{mainFile, strings.Replace(tiny, `"truncation": null`, `"truncation": {}`, 1)}, []string{"sets truncation"}},
		"unknown special":   {[]string{mainFile, tiny, configFile, `{"pad_token": "zz"}`}, []string{`pad_token is "zz", which is not in the vocabulary`}},
		"marks in pieces":   {[]string{mainFile, tiny, jinjaFile, "<|im_end|>"}, []string{`encodes "<|im_end|>" as ordinary text`}},
		"config disagrees":  {[]string{mainFile, tiny, configFile, `{"bos_token": "<s>", "add_bos_token": true}`}, []string{"add_bos_token to true"}},
		"config agrees":     {[]string{mainFile, withBOS, configFile, `{"bos_token": "<s>", "add_bos_token": true}`}, nil},
		"BOS twice":         {[]string{mainFile, withBOS, configFile, `{"bos_token": "<s>", "chat_template": "{{ bos_token }}"}`}, []string{"rmtrain keeps one"}},
		"BOS not by Jinja":  {[]string{mainFile, withBOS, configFile, `{"bos_token": "<s>", "chat_template": "x"}`}, []string{"start without it"}},
		"bad template":      {[]string{mainFile, tiny, jinjaFile, "{% if %}"}, []string{"compile the chat template"}},
		"dated template":    {[]string{mainFile, tiny, jinjaFile, "{{ strftime_now('%Y') }}"}, []string{"26 July 2024"}},
		"no default":        {[]string{mainFile, tiny, configFile, `{"chat_template": [{"name": "rag", "template": "r"}]}`}, []string{`named "rag"`}},
		"several at a time": {[]string{mainFile, tiny, configFile, `{"pad_token": "zz"}`, jinjaFile, "{% if %}"}, []string{"pad_token", "compile"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := open(t, folder(t, c.files...)).Warnings()
			if len(got) != len(c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got %q, want %q in it", got[i], want)
				}
			}
		})
	}
}

func TestWarnsOfNormalizedSpecialTokens(t *testing.T) {
	got := strings.Join(open(t, filepath.Join("testdata", "llama")).Warnings(), "\n")
	if !strings.Contains(got, `normalizes the special tokens "<unk>", "<s>", "</s>"`) {
		t.Errorf("got %q", got)
	}
	if got := open(t, filepath.Join("testdata", "bytelevel")).Warnings(); len(got) != 2 {
		t.Errorf("bytelevel: got %q, want one of truncation and one of padding", got)
	}
}
