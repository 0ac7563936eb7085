package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// The built-in example's world: people ask how to care for a thing, and an answer
// is the better the more of its sentences are about that thing. Only content tells:
// every answer has as many pieces of advice, and fillers of no value vary its length.

type topic struct {
	name   string
	advice []string
}

var topics = []topic{
	{"cactus", []string{"Water it once a month.", "Give it bright sun.", "Plant it in sandy soil.", "Keep it dry all winter.", "Pick a pot with holes.", "Never let the roots rot."}},
	{"bread", []string{"Knead the dough for ten minutes.", "Let the dough rise slowly.", "Bake it in a hot oven.", "Add a pinch of salt.", "Sift the flour twice.", "Score the crust with a blade."}},
	{"bicycle", []string{"Oil the chain every week.", "Pump the tires before a ride.", "Check both brakes often.", "Tighten loose spokes.", "Wash off mud after rain.", "Raise the saddle a little."}},
	{"guitar", []string{"Tune every string first.", "Practice scales slowly.", "Press close to the fret.", "Keep your thumb behind the neck.", "Strum with a soft pick.", "Loosen the strings for travel."}},
	{"puppy", []string{"Walk it twice a day.", "Praise it when it sits.", "Buy it a chew toy.", "Visit the vet in spring.", "Feed it small meals.", "Brush its coat gently."}},
	{"coffee", []string{"Grind the beans fresh.", "Rinse the paper filter.", "Pour in slow circles.", "Warm the cup beforehand.", "Weigh the beans each time.", "Drink it within the hour."}},
}

var questions = []string{
	"How do I take care of my %s?", "What should I know about my %s?", "Any advice for a better %s?",
	"My %s could be better. What can I do?", "I am new to this. Tell me about the %s.", "What do people get wrong with a %s?",
}

var greetings = [][2]string{
	{"Hello there.", "Hello. What can I do for you?"},
	{"Do you have a minute?", "Of course. Ask me anything."},
	{"Good morning!", "Good morning! How can I help?"},
}

// Who asks makes prompts differ, and means nothing.
var (
	names  = []string{"Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gwen", "Hugo", "Ida", "Jon", "Kim", "Leo", "Mia", "Ned", "Ole", "Pia", "Quin", "Ron", "Sue", "Tom"}
	places = []string{"Rome", "Oslo", "Bern", "Lima", "Cork", "Kyiv", "Nice", "York", "Doha", "Bonn", "Riga", "Cebu", "Pune", "Baku", "Graz", "Lodz", "Faro", "Suva", "Apia", "Brno"}
)

var fillers = []string{
	"That is a good question.", "Let me think about it.", "Many people ask me this.", "It depends on the day.", "I hope this helps.",
	"There is much to say here.", "Take your time.", "You will see.", "So far, so good.", "Here is what I would say to a friend who asked me the same thing.",
}

const answersPerPrompt = 7 // as in Nectar

// A sample is a prompt of Nectar's form with its answers, best first.
type sample struct {
	prompt  string
	turns   int
	answers []string
}

// A world makes samples, the same ones for the same seed.
type world struct{ rng *rand.Rand }

func newWorld(seed uint64) world { return world{rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))} }

func (w world) sample() sample {
	t := w.rng.IntN(len(topics))
	s := sample{turns: 1}
	var b strings.Builder
	if w.rng.IntN(4) == 0 {
		g := pick(w.rng, greetings)
		fmt.Fprintf(&b, "\n\nHuman: %s\n\nAssistant: %s", g[0], g[1])
		s.turns = 2
	}
	question := fmt.Sprintf(pick(w.rng, questions), topics[t].name)
	fmt.Fprintf(&b, "\n\nHuman: I am %s from %s. %s\n\nAssistant: ", pick(w.rng, names), pick(w.rng, places), question)
	s.prompt = b.String()
	for rank := range answersPerPrompt {
		s.answers = append(s.answers, w.answer(t, answersPerPrompt-1-rank))
	}
	return s
}

// answer gives answersPerPrompt-1 pieces of advice, of which good are about topic t.
func (w world) answer(t, good int) string {
	var sentences []string
	for i := range answersPerPrompt - 1 {
		about := t
		if i >= good {
			about = (t + 1 + w.rng.IntN(len(topics)-1)) % len(topics)
		}
		sentences = append(sentences, pick(w.rng, topics[about].advice))
	}
	for range w.rng.IntN(5) {
		sentences = append(sentences, pick(w.rng, fillers))
	}
	w.rng.Shuffle(len(sentences), func(i, j int) { sentences[i], sentences[j] = sentences[j], sentences[i] })
	return strings.Join(sentences, " ")
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }
