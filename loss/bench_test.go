package loss

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkEval is the measurement behind New.
func BenchmarkEval(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	groups, grads := make([]Group, 64), make([][]float64, 64)
	for i := range groups {
		groups[i], grads[i] = randomGroup(r, 7), make([]float64, 7)
	}
	for name := range implementations {
		for _, kind := range []string{PlackettLuce, BradleyTerry} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				l := mustLoss(b, name, Config{Type: kind})
				for b.Loop() {
					if _, err := l.Eval(groups, grads); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
