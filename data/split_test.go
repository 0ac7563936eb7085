package data

import (
	"slices"
	"strings"
	"testing"
)

func TestHoldOutDividesByPrompt(t *testing.T) {
	d := open(t, writeGroups(t, 100, randomGroups(30, 5))) // three rows of each prompt
	train, eval, err := HoldOut(d, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer train.Close()
	defer eval.Close()
	if train.Len() != 18 || eval.Len() != 12 {
		t.Errorf("%d groups for training and %d held out", train.Len(), eval.Len())
	}
	held := eval.Prompts()
	if len(held) != 4 {
		t.Errorf("%d prompts held out", len(held))
	}
	for k := range train.Prompts() {
		if held[k] {
			t.Errorf("prompt %s is on both sides", k)
		}
	}
	var sources []string
	for i := range eval.Len() {
		sources = append(sources, eval.Group(i).Source)
	}
	again, evalAgain, err := HoldOut(d, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	defer evalAgain.Close()
	other, evalOther, err := HoldOut(d, 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	defer evalOther.Close()
	if evalAgain.Digest() != eval.Digest() || evalOther.Digest() == eval.Digest() {
		t.Error("the choice does not follow the seed")
	}
	if !slices.IsSortedFunc(sources, func(a, b string) int { return len(a) - len(b) }) {
		t.Errorf("held out in the order %v", sources)
	}
}

func TestHoldOutLeavesSomethingToTrainOn(t *testing.T) {
	d := open(t, writeGroups(t, 100, randomGroups(6, 5)))
	for _, n := range []int{-1, 2, 100} {
		if _, _, err := HoldOut(d, n, 0); err == nil || !strings.Contains(err.Error(), "there are only 2") {
			t.Errorf("holding out %d prompts: error %v", n, err)
		}
	}
}
