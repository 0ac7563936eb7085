package bench

import (
	"fmt"
	"strings"
)

var humanColumns = []string{"question_id", "model_a", "model_b", "winner", "conversation_a", "conversation_b", "turn", "language"}

// parseHuman reads a vote of lmsys/chatbot_arena_conversations. The winner's
// conversation is better; ties are left out. Of several turns the whole conversations
// are compared, which differ from the second turn on.
func parseHuman(r row, s Settings) (*Item, error) {
	if err := r.need("winner", "conversation_a", "conversation_b"); err != nil {
		return nil, err
	}
	winner, err := r.text("winner")
	if err != nil {
		return nil, err
	}
	better := map[string]int{"model_a": 0, "model_b": 1}
	if _, ok := better[winner]; !ok {
		if strings.HasPrefix(winner, "tie") {
			return nil, leftOut("tie")
		}
		return nil, fmt.Errorf("winner is %q, not model_a, model_b or a tie", winner)
	}
	it := &Item{Source: r.label("language")}
	for i, side := range []string{"a", "b"} {
		ms, err := r.messages("conversation_" + side)
		if err != nil {
			return nil, err
		}
		last := ms[len(ms)-1]
		if last.Role != "assistant" || len(ms) < 2 {
			return nil, fmt.Errorf("conversation_%s has no answer of the assistant's at its end", side)
		}
		if s.SingleTurn && len(ms) > 2 {
			return nil, leftOut("more than one turn")
		}
		rank := 2.0
		if better[winner] == i {
			rank = 1
		}
		it.Prompt = ms[0].Content
		it.Completions = append(it.Completions, answered(ms[:len(ms)-1], last.Content, "model_"+side, rank))
	}
	it.Pairs = rankPairs(it.Completions)
	return it, nil
}
