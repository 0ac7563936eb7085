// Package bench measures a reward model on benchmarks of preferences: the three of
// Starling-RM's model card, RewardBench 1 and 2, and any file of ranked answers or
// pairs.
//
// A benchmark is a list of items read from local files. Every item is a prompt with
// completions, which one Scorer scores together, and says which of them should have the
// higher score. Everything that is reported is a function of those scores.
package bench

import (
	"context"
	"unicode/utf8"

	"rmtrain/data/tokenizer"
	"rmtrain/infer"
)

// A Scorer gives rewards. *infer.Scorer is the one that programs use.
type Scorer interface {
	Encode(r infer.Request) ([]tokenizer.Encoded, error)
	Score(ctx context.Context, groups [][]tokenizer.Encoded) ([][]float64, error)
}

// An Item is one prompt and its completions.
type Item struct {
	ID          string // file and row, unique within a benchmark
	Prompt      string // items with the same one are resampled and sampled together
	Source      string // where the row says that it comes from; accuracy is also given by it
	Subset      string // RewardBench's
	Completions []Completion
	Pairs       []Pair
	Ranked      bool // completions have ranks of their own, so rank correlations mean something
	Correct     int  // RewardBench 2: so many completions, the first ones, are correct
}

// A Completion is one conversation.
type Completion struct {
	Request    infer.Request // of exactly one conversation
	Label      string        // what it is in its row: chosen, model_a, best, ...
	Rank       float64       // the smallest is best
	Characters int           // of the answer
}

// A Pair is an expectation: completion Better has the higher score, or, if Weak, a
// score that is not lower.
type Pair struct {
	Better, Worse int
	Weak          bool
}

// answered is the completion in which answer follows messages.
func answered(messages []tokenizer.Message, answer, label string, rank float64) Completion {
	ms := append(append([]tokenizer.Message(nil), messages...), tokenizer.Message{Role: "assistant", Content: answer})
	return Completion{Request: infer.Request{Messages: ms}, Label: label, Rank: rank, Characters: utf8.RuneCountInString(answer)}
}

// asked is the conversation that consists of one message of the user.
func asked(prompt string) []tokenizer.Message {
	return []tokenizer.Message{{Role: "user", Content: prompt}}
}

// rankPairs returns a pair for any two completions of different rank.
func rankPairs(cs []Completion) []Pair {
	var pairs []Pair
	for i := range cs {
		for j := range cs {
			if cs[i].Rank < cs[j].Rank {
				pairs = append(pairs, Pair{Better: i, Worse: j})
			}
		}
	}
	return pairs
}
