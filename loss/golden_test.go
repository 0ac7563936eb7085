package loss

import (
	"encoding/json"
	"os"
	"testing"
)

// TestGolden compares with PyTorch; testdata/golden.py is the recipe.
func TestGolden(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Groups []Group
		Cases  []struct {
			Config struct {
				Config
				LabelSmoothing float64 `json:"label_smoothing"`
			}
			Losses []float64
			Grads  [][]float64
		}
	}
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Groups) == 0 || len(golden.Cases) == 0 {
		t.Fatal("golden.json is empty")
	}
	for name := range implementations {
		for _, want := range golden.Cases {
			c := want.Config.Config
			c.LabelSmoothing = want.Config.LabelSmoothing
			losses, grads := eval(t, mustLoss(t, name, c), golden.Groups...)
			for i := range golden.Groups {
				if !near(losses[i], want.Losses[i], 1e-13) {
					t.Errorf("%s %+v group %d: loss %v, want %v", name, c, i, losses[i], want.Losses[i])
				}
				for j := range grads[i] {
					if !near(grads[i][j], want.Grads[i][j], 1e-13) {
						t.Errorf("%s %+v group %d: gradient %d is %v, want %v", name, c, i, j, grads[i][j], want.Grads[i][j])
					}
				}
			}
		}
	}
}
