package tokenizer

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tiny is a tokenizer.json with the tokens <s>, a and b.
const tiny = `{"version": "1.0", "truncation": null, "padding": null,
	"added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
	"normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
	"model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
		"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": {"<s>": 0, "a": 1, "b": 2}, "merges": []}}`

// folder writes files, name and contents in turn, into a new folder.
func folder(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpenRefusesWhatItCannotRead(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  string
	}{
		"empty folder":       {nil, "tokenizer.json is missing"},
		"SentencePiece only": {[]string{"tokenizer.model", "x"}, "LlamaTokenizerFast"},
		"not JSON":           {[]string{mainFile, "{"}, "tokenizer.json: unexpected end"},
		"null":               {[]string{mainFile, "null"}, "holds null"},
		"a list":             {[]string{mainFile, "[]"}, "tokenizer.json"},
		"no model":           {[]string{mainFile, "{}"}, "model.vocab is missing"},
		"bad vocabulary":     {[]string{mainFile, `{"model": {"vocab": {"a": "b"}}}`}, "model.vocab"},
		"bad Unigram":        {[]string{mainFile, `{"model": {"vocab": [[1, 2]]}}`}, "entry 0"},
		"empty Unigram":      {[]string{mainFile, `{"model": {"vocab": [[]]}}`}, "entry 0 is empty"},
		"negative id":        {[]string{mainFile, `{"model": {"vocab": {"a": -1}}}`}, `token "a" has id -1`},
		"bad added tokens":   {[]string{mainFile, `{"model": {"vocab": {"a": 0}}, "added_tokens": 1}`}, "added_tokens"},
		"unknown version":    {[]string{mainFile, strings.Replace(tiny, "1.0", "9", 1)}, "version"},
		"bad config":         {[]string{mainFile, tiny, configFile, "["}, configFile},
		"bad token":          {[]string{mainFile, tiny, configFile, `{"bos_token": 7}`}, "bos_token"},
		"token, no content":  {[]string{mainFile, tiny, configFile, `{"bos_token": {}}`}, "neither a string"},
		"bad class":          {[]string{mainFile, tiny, configFile, `{"tokenizer_class": 1}`}, "tokenizer_class"},
		"bad add_bos_token":  {[]string{mainFile, tiny, configFile, `{"add_bos_token": "yes"}`}, "add_bos_token"},
		"bad additional":     {[]string{mainFile, tiny, configFile, `{"additional_special_tokens": [1]}`}, "additional_special_tokens"},
		"bad template":       {[]string{mainFile, tiny, configFile, `{"chat_template": 1}`}, "chat_template"},
		"bad template list":  {[]string{mainFile, tiny, configFile, `{"chat_template": [1]}`}, "chat_template"},
		"bad template file":  {[]string{mainFile, tiny, templateFile, "{"}, templateFile},
		"bad specials map":   {[]string{mainFile, tiny, specialsFile, "1"}, specialsFile},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(folder(t, c.files...))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "absent")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("absent folder: %v", err)
	}
}

func TestSpecialTokensComeFromTheRightFile(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  Special
	}{
		"nowhere":               {nil, Special{"", -1}},
		"class default":         {[]string{configFile, `{"tokenizer_class": "LlamaTokenizerFast"}`}, Special{"<s>", 0}},
		"config over class":     {[]string{configFile, `{"tokenizer_class": "LlamaTokenizer", "bos_token": "a"}`}, Special{"a", 1}},
		"null in config":        {[]string{configFile, `{"tokenizer_class": "LlamaTokenizer", "bos_token": null}`}, Special{"", -1}},
		"object":                {[]string{configFile, `{"bos_token": {"content": "b", "lstrip": true}}`}, Special{"b", 2}},
		"map":                   {[]string{specialsFile, `{"bos_token": "b"}`}, Special{"b", 2}},
		"map over old config":   {[]string{configFile, `{"bos_token": "a"}`, specialsFile, `{"bos_token": "b"}`}, Special{"b", 2}},
		"new config over map":   {[]string{configFile, `{"bos_token": "a", "added_tokens_decoder": {}}`, specialsFile, `{"bos_token": "b"}`}, Special{"a", 1}},
		"not in the vocabulary": {[]string{configFile, `{"bos_token": "zz"}`}, Special{"zz", -1}},
	} {
		t.Run(name, func(t *testing.T) {
			tok := open(t, folder(t, append(c.files, mainFile, tiny)...))
			if tok.BOS() != c.want {
				t.Errorf("BOS is %+v, want %+v", tok.BOS(), c.want)
			}
		})
	}
}

func TestChatTemplateComesFromTheRightFile(t *testing.T) {
	const list = `{"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}`
	for name, c := range map[string]struct {
		files []string
		want  string
	}{
		"nowhere":           {nil, ""},
		"null":              {[]string{configFile, `{"chat_template": null}`}, ""},
		"config":            {[]string{configFile, `{"chat_template": "c"}`}, "c"},
		"list":              {[]string{configFile, list}, "d"},
		"list, no default":  {[]string{configFile, strings.Replace(list, "default", "tool_use", 1)}, ""},
		"json":              {[]string{templateFile, `{"chat_template": "j"}`}, "j"},
		"config over json":  {[]string{configFile, list, templateFile, `{"chat_template": "j"}`}, "d"},
		"jinja over config": {[]string{jinjaFile, "{{ 1 }}\n", configFile, list}, "{{ 1 }}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			tok := open(t, folder(t, append(c.files, mainFile, tiny)...))
			if tok.ChatTemplate() != c.want {
				t.Errorf("got %q, want %q", tok.ChatTemplate(), c.want)
			}
		})
	}
}

func TestFilesAreKeptByteForByte(t *testing.T) {
	want := map[string]string{
		mainFile: tiny, configFile: "{ }\n", specialsFile: "{}", jinjaFile: "x\r\n", templateFile: "{}",
		sentencePieceFile: "\x00\xff", "added_tokens.json": "{}", "vocab.json": "{\"a\": 1}", "merges.txt": "#version\n",
	}
	var files []string
	for name, data := range want {
		files = append(files, name, data)
	}
	tok := open(t, folder(t, append(files, "model.safetensors", "weights")...))
	if len(tok.Files()) != len(want) {
		t.Errorf("%d files, want %d", len(tok.Files()), len(want))
	}
	for _, f := range tok.Files() {
		if !bytes.Equal(f.Data, []byte(want[f.Name])) {
			t.Errorf("%s is %q, want %q", f.Name, f.Data, want[f.Name])
		}
	}
}

func TestVocabSizeIsOneMoreThanTheLargestID(t *testing.T) {
	gap := strings.Replace(tiny, `"b": 2`, `"b": 9`, 1)
	if size := open(t, folder(t, mainFile, gap)).VocabSize(); size != 10 {
		t.Errorf("got %d, want 10", size)
	}
}

func TestDigestChangesWithWhatEncodeComputes(t *testing.T) {
	base := open(t, folder(t, mainFile, tiny)).Digest()
	for name, c := range map[string]struct {
		files []string
		same  bool
	}{
		"again":           {[]string{mainFile, tiny}, true},
		"a template":      {[]string{mainFile, tiny, jinjaFile, "x"}, true},
		"other layout":    {[]string{mainFile, strings.Join(strings.Fields(tiny), " ")}, true},
		"no padding":      {[]string{mainFile, strings.Replace(tiny, `"padding": null,`, "", 1)}, true},
		"other token":     {[]string{mainFile, strings.Replace(tiny, `"b": 2`, `"c": 2`, 1)}, false},
		"a special token": {[]string{mainFile, tiny, configFile, `{"bos_token": "<s>"}`}, false},
	} {
		got := open(t, folder(t, c.files...)).Digest()
		if (got == base) != c.same {
			t.Errorf("%s: the digest is the same: %t, want %t", name, got == base, c.same)
		}
	}
}

func TestTextWithoutTokensIsAnError(t *testing.T) {
	tok := open(t, folder(t, mainFile, tiny))
	if ids, err := tok.Encode("xyz", false); err == nil || !strings.Contains(err.Error(), `"xyz"`) {
		t.Errorf("got %v, %v; want an error that quotes the text", ids, err)
	}
	if ids, err := tok.Encode("", false); err != nil || len(ids) != 0 {
		t.Errorf("empty text: %v, %v", ids, err)
	}
}

func TestEncodeRefusesAPlaceholderBesideNUL(t *testing.T) {
	tok := open(t, filepath.Join("testdata", "bytelevel"))
	_, err := tok.Encode("ab\x00"+nulPlaceholder, true)
	if err == nil || !strings.Contains(err.Error(), "NUL at byte 2") {
		t.Errorf("got %v, want an error that names the byte", err)
	}
	if _, err := tok.Encode(nulPlaceholder, true); err != nil {
		t.Errorf("without NUL: %v", err)
	}
}

func TestDecodeRefusesIDsOutOfRange(t *testing.T) {
	tok := open(t, folder(t, mainFile, tiny))
	for _, id := range []int32{-1, 3} {
		if _, err := tok.Decode([]int32{1, id}); err == nil || !strings.Contains(err.Error(), "position 1") {
			t.Errorf("id %d: %v", id, err)
		}
	}
	if text, err := tok.Decode(nil); text != "" || err != nil {
		t.Errorf("no ids: %q, %v", text, err)
	}
}

func TestReplaceInvalidKeepsValidText(t *testing.T) {
	for _, s := range []string{"", "a", "é你😀", "\uFFFD", "\x00"} {
		if got := replaceInvalid(s); got != s {
			t.Errorf("replaceInvalid(%q) = %q", s, got)
		}
	}
}
