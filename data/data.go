// Package data turns ranked answers into packed batches: groups, their cache on
// disk, the order in which an epoch visits them, and the layout of a batch.
package data

import "encoding/hex"

// An Answer is one conversation of a group, as the ids that the network reads.
// The score is read at the last of them.
type Answer struct {
	Tokens []int32
	// Rank orders the answers of a group: the smallest is best, equal is a tie.
	Rank float64
}

// A Group is one prompt with its ranked answers. Every answer holds the whole
// conversation, prompt included, as it was tokenized; nothing says where the
// prompt ends, because merges may cross the seam.
type Group struct {
	Source  string // file and row, for messages
	Answers []Answer
	// Margin, if not 0, is by how much the better score should exceed the worse
	// one, as a data row of pairs may demand.
	Margin float64
	// Prompt identifies the text of the prompt. Groups with the same one must not
	// be divided between training and evaluation.
	Prompt PromptKey
}

// A PromptKey is the beginning of the SHA-256 of a prompt's text.
type PromptKey [16]byte

// String returns the key in hexadecimal digits.
func (k PromptKey) String() string { return hex.EncodeToString(k[:]) }

// A Segment says what a run of rows attends to: all of its prefix and, causally,
// itself; see kernels.Segment.
type Segment struct{ PrefixLo, PrefixHi, Lo, Hi int32 }

// A Batch is the groups of one forward pass, packed along one axis without
// padding. For a group the rows are its shared prefix once, then the rest of
// each answer; answers that share nothing are whole.
type Batch struct {
	Tokens    []int32
	Positions []int32 // of each token in its own conversation
	Segments  []Segment
	Scored    []int32 // the row of each answer's score, group by group, none twice
	Answers   []int   // how many of Scored belong to each group
	Real      int     // tokens of all conversations, before sharing
}
