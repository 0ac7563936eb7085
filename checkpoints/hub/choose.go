package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	configName     = "config.json"
	safeName       = "model.safetensors"
	safeIndexName  = "model.safetensors.index.json"
	torchName      = "pytorch_model.bin"
	torchIndexName = "pytorch_model.bin.index.json"
)

// smallFiles are what a model needs beside its weights, where it has them.
var smallFiles = []string{
	configName, "generation_config.json", "rmtrain.json", "value_head.safetensors",
	"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
	"chat_template.jinja", "chat_template.json", "added_tokens.json", "vocab.json", "merges.txt",
}

// tokenizers are the files of which a model needs one.
var tokenizers = []string{"tokenizer.json", "tokenizer.model", "vocab.json"}

// chooseModel picks the files of a model: what lies beside the weights, and weights
// in one format. If these are sharded, index names the file that lists the shards,
// which are not picked yet.
func chooseModel(names []string) (files []string, index string, err error) {
	if !slices.Contains(names, configName) {
		if slices.Contains(names, "adapter_config.json") {
			return nil, "", errors.New("this is a LoRA adapter, not a model (merge it into its base model first)")
		}
		return nil, "", errors.New("the repository has no config.json, so it is no model in Hugging Face's form (a dataset needs --dataset)")
	}
	for _, name := range smallFiles {
		if slices.Contains(names, name) {
			files = append(files, name)
		}
	}
	for _, name := range []string{safeIndexName, safeName, torchIndexName, torchName} {
		if !slices.Contains(names, name) {
			continue
		}
		files = append(files, name)
		if strings.HasSuffix(name, ".json") {
			index = name
		}
		return files, index, nil
	}
	loose, err := looseWeights(names)
	return append(files, loose), "", err
}

// notWeights are files that Hugging Face's Trainer writes beside a model.
var notWeights = []string{"optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin", "scaler.pt", "training_args.bin"}

// looseWeights picks the only PyTorch file of a repository without a usual name.
func looseWeights(names []string) (string, error) {
	var found []string
	for _, name := range names {
		ext := path.Ext(name)
		if (ext == ".pt" || ext == ".bin") && !strings.Contains(name, "/") && !slices.Contains(notWeights, name) {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("the repository has no weights under a name that is read (%s, %s; GGUF and other formats are not)", safeName, torchName)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("several files could be the weights: %s (download with --all, and keep one)", strings.Join(found, ", "))
}

// shards lists the weight files of an index by name. With skipHead, those that hold
// only lm_head.weight are left out, unless that is where the embeddings are.
func shards(index []byte, skipHead bool) ([]string, error) {
	var x struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(index, &x); err != nil {
		return nil, err
	}
	if len(x.WeightMap) == 0 {
		return nil, errors.New("weight_map is empty or missing")
	}
	embeds, only := false, map[string]bool{}
	for tensor, file := range x.WeightMap {
		if !isSafe(file) || strings.Contains(file, "/") {
			return nil, fmt.Errorf("%q is not the name of a file beside it", file)
		}
		embeds = embeds || strings.HasSuffix(tensor, "embed_tokens.weight")
		head := tensor == "lm_head.weight"
		before, seen := only[file]
		only[file] = head && (before || !seen)
	}
	var files []string
	for file, head := range only {
		if !(skipHead && head && embeds) {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files, nil
}

// notData are JSON files that describe a dataset.
var notData = []string{"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "package.json", "config.json"}

// dataKinds are the endings of data files; a repository that has files of one is not
// asked for those of a later one, which are most likely the same rows again.
var dataKinds = [][]string{{".parquet"}, {".jsonl", ".jsonl.gz"}, {".json", ".json.gz"}}

// DataFiles picks from the names of a dataset's files those that hold rows, of one
// kind: Parquet, else JSON lines, else JSON. It keeps their order.
func DataFiles(names []string) []string {
	for _, endings := range dataKinds {
		var found []string
		for _, name := range names {
			lower := strings.ToLower(name)
			ends := func(e string) bool { return strings.HasSuffix(lower, e) }
			if slices.ContainsFunc(endings, ends) && !slices.Contains(notData, path.Base(lower)) {
				found = append(found, name)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// numbered matches files of a set that know how many they are.
var numbered = regexp.MustCompile(`^(.*)-(\d{5,})-of-(\d{5,})(.*)$`)

// checkNumbers finds what is missing of sets such as train-00001-of-00005.parquet.
// The part behind the number may be a digest, so it does not tell sets apart.
func checkNumbers(names []string) error {
	have, want := map[string]int{}, map[string]int{}
	for _, name := range names {
		m := numbered.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[3])
		if err != nil {
			continue // no set has that many
		}
		set := fmt.Sprintf("%s-*-of-%s", m[1], m[3])
		have[set]++
		want[set] = n
	}
	for set, n := range want {
		if have[set] < n {
			return fmt.Errorf("the cache has %d of the %d files %s", have[set], n, set)
		}
	}
	return nil
}
