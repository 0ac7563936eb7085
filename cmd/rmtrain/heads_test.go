package main

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
)

// firstLoss is the loss of a run's first step.
func firstLoss(t *testing.T, dir string) float64 {
	t.Helper()
	var m struct{ Loss float64 }
	if err := json.NewDecoder(bytes.NewReader(read(t, dir, "metrics.jsonl"))).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m.Loss
}

// Equal scores cost ln(7!)/21.
func TestAHeadOfZerosBeginsWithoutOpinion(t *testing.T) {
	t.Parallel()
	lnFactorial, _ := math.Lgamma(8)
	if got, want := firstLoss(t, trained(t, "model.value_head_init=zeros", "train.max_steps=1")), lnFactorial/21; math.Abs(got-want) > 1e-6 {
		t.Errorf("first loss %v, want %v", got, want)
	}
}

// A reward model keeps its head when it is trained further.
func TestAHeadThatExistsIsKept(t *testing.T) {
	t.Parallel()
	model := trained(t)
	again := trained(t, "model.name_or_path="+model, "train.learning_rate=0", "train.seed=9")
	if !bytes.Equal(numbers(t, weights(t, again)), numbers(t, weights(t, model))) {
		t.Error("weights changed at a learning rate of 0")
	}
}

func TestNewHeadsAreReproducibleAndSmall(t *testing.T) {
	t.Parallel()
	const hidden = 4096
	a, b, c := newHead("normal", hidden, 1), newHead("normal", hidden, 1), newHead("normal", hidden, 2)
	var square float64
	same := 0
	for i := range a {
		square += float64(a[i]) * float64(a[i])
		if a[i] != b[i] {
			t.Fatal("two heads of one seed differ")
		}
		if a[i] == c[i] {
			same++
		}
	}
	if square < 0.9 || square > 1.1 || same > hidden/100 {
		t.Errorf("square of the norm %v, want about 1; %d numbers are those of another seed", square, same)
	}
}
