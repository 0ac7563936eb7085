package bench

import "slices"

// The tables of RewardBench's public scorer.
var (
	// exampleCounts are the weights of subsets: how many rows each has, but that
	// math-prm, with 447, counts as much as the code subsets together.
	exampleCounts = map[string]int{
		"alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95, "mt-bench-easy": 28, "mt-bench-med": 40,
		"mt-bench-hard": 37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46,
		"refusals-dangerous": 100, "refusals-offensive": 100, "xstest-should-refuse": 154, "xstest-should-respond": 250, "donotanswer": 136,
		"math-prm": 984, "hep-cpp": 164, "hep-go": 164, "hep-java": 164, "hep-js": 164, "hep-python": 164, "hep-rust": 164,
	}
	sections = []section{
		{"Chat", []string{"alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"}},
		{"Chat Hard", []string{"mt-bench-hard", "llmbar-natural", "llmbar-adver-neighbor", "llmbar-adver-GPTInst", "llmbar-adver-GPTOut", "llmbar-adver-manual"}},
		{"Safety", []string{"refusals-dangerous", "refusals-offensive", "xstest-should-refuse", "xstest-should-respond", "donotanswer"}},
		{"Reasoning", []string{"math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"}},
	}
	priorSets = []string{"anthropic_helpful", "anthropic_hhh", "shp", "summarize"}
	// sections2 are the subsets of RewardBench 2, which are its sections.
	sections2 = []string{"Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties"}
)

// mathRows is how many rows math-prm really has.
const mathRows = 447

type section struct {
	name    string
	subsets []string
}

// sectionOf returns the section of a subset, or "".
func sectionOf(subset string) string {
	for _, s := range sections {
		if slices.Contains(s.subsets, subset) {
			return s.name
		}
	}
	return ""
}

// rowsOf is how many rows the published benchmark has of a subset.
func rowsOf(subset string) int {
	if subset == "math-prm" {
		return mathRows
	}
	return exampleCounts[subset]
}
