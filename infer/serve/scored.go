package serve

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"

	"rmtrain/data/tokenizer"
)

// scored is a request's conversations with their rewards.
type scored struct {
	scores []float64
	convs  []tokenizer.Encoded
}

// score encodes and scores a request's inputs. All dialects end here.
func (s *Server) score(x *exchange, ins []input, o encodeOptions) (scored, error) {
	convs, err := s.encodeAll(x.Context(), x.engine, ins, o)
	if err != nil {
		return scored{}, err
	}
	out := scored{convs: convs}
	x.inputs = len(convs)
	x.tokens = out.tokens()
	out.scores, err = x.engine.score(x.Context(), x.client, convs)
	return out, err
}

// tokens is how many the model read.
func (r scored) tokens() int {
	n := 0
	for _, c := range r.convs {
		n += len(c.IDs)
	}
	return n
}

// ranked returns the indices of scores, the best first; equal ones stay in order.
func ranked(scores []float64) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	return order
}

// named refuses a request for another model. Clients may leave the name out.
func (s *Server) named(model *string) error {
	if model == nil || *model == "" || slices.Contains(s.options.Names, *model) {
		return nil
	}
	return &failure{kind: kindNotFound, param: "model", text: "The model `" + *model + "` does not exist."}
}

// newID is the name of an answer.
func newID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return prefix + hex.EncodeToString(b[:])
}

func unixNow() int64 { return time.Now().Unix() }
