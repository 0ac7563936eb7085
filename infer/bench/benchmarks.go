package bench

import (
	"fmt"
	"slices"
	"strings"
)

// A Parser makes an item of a row, a JSON object. Of the item, Completions and Prompt
// are needed, each completion with its Rank.
type Parser func(row []byte) (*Item, error)

// leftOut is why a row is no part of a benchmark by the benchmark's own rule.
type leftOut string

func (l leftOut) Error() string { return string(l) }

// A benchmark is how one is read.
type benchmark struct {
	name, title string
	get         string   // where its files are, for who has none
	columns     []string // that are read of Parquet files; all if there are none
	limit       int      // the most prompts that it takes by itself; 0 is all
	parse       func(r row, s Settings) (*Item, error)
}

// The names of the benchmarks.
const (
	Human        = "human"
	Truth        = "truth"
	Safety       = "safety"
	RewardBench  = "rewardbench"
	RewardBench2 = "rewardbench2"
	Nectar       = "nectar"
	PairFile     = "pairs"
	// PriorSets names the files of RewardBench's prior sets, a part of RewardBench.
	PriorSets = "rewardbench-prior"
)

// cardLimit is how many prompts the model card takes of each of its benchmarks.
const cardLimit = 1000

const ownFile = "your own file of ranked answers or pairs, .jsonl, .json, .csv or .parquet"

// benchmarks lists all of them, in the order of a report.
var benchmarks = []benchmark{
	{Human, "Human preference (Chatbot Arena)", "lmsys/chatbot_arena_conversations on the Hugging Face hub, which asks you to accept its conditions: `hf download --repo-type dataset lmsys/chatbot_arena_conversations --local-dir arena`, then the .parquet file in arena/data", humanColumns, cardLimit, parseHuman},
	{Truth, "Truth (TruthfulQA)", "TruthfulQA.csv of the GitHub repository sylinrl/TruthfulQA", truthColumns, cardLimit, parseTruth},
	{Safety, "Safety (PKU-SafeRLHF)", "PKU-Alignment/PKU-SafeRLHF on the Hugging Face hub: `hf download --repo-type dataset PKU-Alignment/PKU-SafeRLHF --local-dir saferlhf`, then test.jsonl of a folder of saferlhf/data (of its revision v0, which is older than the card, round0/test.jsonl.xz, unpacked)", safetyColumns, cardLimit, parseSafety},
	{RewardBench, "RewardBench", "allenai/reward-bench on the Hugging Face hub: `hf download --repo-type dataset allenai/reward-bench --local-dir reward-bench`, then the file of the split filtered in reward-bench/data", rewardColumns, 0, parseReward},
	{PriorSets, "RewardBench, prior sets", "allenai/preference-test-sets on the Hugging Face hub: the files anthropic_helpful, anthropic_hhh, shp and summarize", priorColumns, 0, parsePrior},
	{RewardBench2, "RewardBench 2", "allenai/reward-bench-2 on the Hugging Face hub: `hf download --repo-type dataset allenai/reward-bench-2 --local-dir reward-bench-2`, then the .parquet file in reward-bench-2/data", reward2Columns, 0, parseReward2},
	{Nectar, "Ranked answers (Nectar's schema)", ownFile + ", such as what was held out of berkeley-nest/Nectar", nil, 0, nil},
	{PairFile, "Pairs and rankings", ownFile, nil, 0, nil},
}

func find(name string) (benchmark, bool) {
	i := slices.IndexFunc(benchmarks, func(b benchmark) bool { return b.name == name })
	if i < 0 {
		return benchmark{}, false
	}
	return benchmarks[i], true
}

// Names lists the benchmarks in the order of a report.
func Names() []string {
	var names []string
	for _, b := range benchmarks {
		if b.name != PriorSets {
			names = append(names, b.name)
		}
	}
	return names
}

// Known tells why name is no benchmark. Data may also be given for the prior sets.
func Known(name string, data bool) error {
	names := Names()
	if data {
		names = append(names, PriorSets)
	}
	if slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("eval: benchmark %q is unknown (choose one of %s)", name, strings.Join(names, ", "))
}

// NoData says how to get what a benchmark needs.
func NoData(name string) error {
	b, _ := find(name)
	return fmt.Errorf("eval: %s has no file (--data %s=PATH; it takes %s)", name, name, b.get)
}
