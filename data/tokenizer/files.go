package tokenizer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The files that make a tokenizer.
const (
	mainFile          = "tokenizer.json"
	sentencePieceFile = "tokenizer.model"
	configFile        = "tokenizer_config.json"
	specialsFile      = "special_tokens_map.json"
	jinjaFile         = "chat_template.jinja"
	templateFile      = "chat_template.json"
)

// fileNames are the files that Files returns, in this order. The last three are not
// read here; other tools want them beside the rest.
var fileNames = []string{
	mainFile, sentencePieceFile, configFile, specialsFile, jinjaFile, templateFile,
	"added_tokens.json", "vocab.json", "merges.txt",
}

// A File is one file of a tokenizer, by its name in the model's folder.
type File struct {
	Name string
	Data []byte
}

// readFiles reads what a folder has of fileNames.
func readFiles(dir string) ([]File, error) {
	var files []File
	for _, name := range fileNames {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("tokenizer: open %s: %w", dir, err)
		}
		files = append(files, File{Name: name, Data: data})
	}
	return files, nil
}

// fileByName returns the contents of one file, or nil if it is absent.
func fileByName(files []File, name string) []byte {
	for _, f := range files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

// errNoTokenizer says what is missing in a folder without tokenizer.json.
func errNoTokenizer(dir string, files []File) error {
	if fileByName(files, sentencePieceFile) == nil {
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("tokenizer: open %s: %w", dir, err)
		}
		return fmt.Errorf("tokenizer: open %s: %s is missing", dir, mainFile)
	}
	return fmt.Errorf("tokenizer: open %[1]s: %[2]s is missing and SentencePiece's %[3]s cannot be read "+
		"(convert it once, with transformers 4.57.6, sentencepiece and protobuf: python -c \"from transformers import LlamaTokenizerFast as T; "+
		"T.from_pretrained('%[1]s', legacy=True).save_pretrained('%[1]s')\")", dir, mainFile, sentencePieceFile)
}
