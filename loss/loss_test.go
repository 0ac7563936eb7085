package loss

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// implementations are the two ways to evaluate a loss.
var implementations = map[string]func(Config) (Loss, error){
	"closed": func(c Config) (Loss, error) { return NewClosed(c) },
	"graph":  func(c Config) (Loss, error) { return NewGraph(c) },
}

// configs is every option with every other.
func configs() []Config {
	var all []Config
	for _, kind := range []string{PlackettLuce, TopMPlackettLuce, BradleyTerry} {
		for _, ties := range []string{Efron, Breslow, Drop} {
			for _, norm := range []string{Pairs, Terms, Sum} {
				for _, x := range [][3]float64{{}, {0.3, 0, 0}, {0, 0.02, 0}, {0, 0, 0.1}, {0.5, 0.01, 0.2}} {
					all = append(all, Config{kind, 2, ties, norm, x[0], x[1], x[2]})
				}
			}
		}
	}
	return all
}

// randomGroup has k answers; about half of such groups have ties.
func randomGroup(r *rand.Rand, k int) Group {
	g := Group{Scores: make([]float64, k), Ranks: make([]float64, k)}
	perm := r.Perm(k)
	for i := range k {
		g.Scores[i] = 3 * r.NormFloat64()
		g.Ranks[i] = float64(perm[i]) + 0.5
	}
	if r.IntN(2) == 0 {
		for i := range k {
			g.Ranks[i] = float64(r.IntN(k))
		}
	}
	if r.IntN(3) == 0 {
		g.Margin = r.Float64()
	}
	return g
}

func mustLoss(t testing.TB, implementation string, c Config) Loss {
	t.Helper()
	l, err := implementations[implementation](c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func eval(t testing.TB, l Loss, groups ...Group) (losses []float64, grads [][]float64) {
	t.Helper()
	grads = room(groups)
	losses, err := l.Eval(groups, grads)
	if err != nil {
		t.Fatal(err)
	}
	return losses, grads
}

// room is where the gradients of groups go.
func room(groups []Group) [][]float64 {
	grads := make([][]float64, len(groups))
	for i, g := range groups {
		grads[i] = make([]float64, len(g.Scores))
	}
	return grads
}

// near compares to a tolerance relative to numbers above 1.
func near(a, b, tol float64) bool { return math.Abs(a-b) <= tol*max(1, math.Abs(a), math.Abs(b)) }

func TestGraphEqualsClosedForm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range configs() {
		var groups []Group
		for k := 2; k <= 9; k++ {
			groups = append(groups, randomGroup(r, k), randomGroup(r, k))
		}
		a, da := eval(t, mustLoss(t, "closed", c), groups...)
		b, db := eval(t, mustLoss(t, "graph", c), groups...)
		for i := range groups {
			if !near(a[i], b[i], 1e-12) {
				t.Errorf("%+v: loss of %+v is %v by formula, %v by graph", c, groups[i], a[i], b[i])
			}
			for j := range da[i] {
				if !near(da[i][j], db[i][j], 1e-12) {
					t.Errorf("%+v: gradient %d of %+v is %v by formula, %v by graph", c, j, groups[i], da[i][j], db[i][j])
				}
			}
		}
	}
}

func TestGradientIsTheDerivative(t *testing.T) {
	const h = 1e-5
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range configs() {
		l := mustLoss(t, "closed", c)
		for k := 2; k <= 7; k++ {
			g := randomGroup(r, k)
			_, d := eval(t, l, g)
			for i := range g.Scores {
				s := g.Scores[i]
				g.Scores[i] = s + h
				up, _ := eval(t, l, g)
				g.Scores[i] = s - h
				down, _ := eval(t, l, g)
				g.Scores[i] = s
				if want := (up[0] - down[0]) / (2 * h); !near(d[0][i], want, 1e-8) {
					t.Errorf("%+v: gradient %d of %+v is %v, difference quotient %v", c, i, g, d[0][i], want)
				}
			}
		}
	}
}

func TestEqualScoresOfSeven(t *testing.T) {
	g := Group{Scores: make([]float64, 7), Ranks: []float64{1, 2, 3, 4, 5, 6, 7}}
	want := math.Log(5040)
	for name := range implementations {
		for norm, divisor := range map[string]float64{Pairs: 21, Terms: 6, Sum: 1} {
			got, _ := eval(t, mustLoss(t, name, Config{Normalization: norm}), g)
			if !near(got[0], want/divisor, 1e-14) {
				t.Errorf("%s %s: loss is %v, want ln(7!)/%v = %v", name, norm, got[0], divisor, want/divisor)
			}
		}
	}
}

func TestTwoAnswersCoincide(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for name := range implementations {
		for range 20 {
			g := Group{Scores: []float64{r.NormFloat64(), r.NormFloat64()}, Ranks: []float64{1, 5}, Margin: r.Float64()}
			c := Config{Type: BradleyTerry, Margin: 0.25, LabelSmoothing: 0.1}
			bt, dbt := eval(t, mustLoss(t, name, c), g)
			c.Type = PlackettLuce
			pl, dpl := eval(t, mustLoss(t, name, c), g)
			x, m := g.Scores[0]-g.Scores[1], 0.25+g.Margin
			want := 0.9*math.Log(1+math.Exp(m-x)) + 0.1*math.Log(1+math.Exp(m+x))
			if !near(bt[0], want, 1e-14) || !near(pl[0], want, 1e-14) {
				t.Errorf("%s: %v and %v, want %v", name, bt[0], pl[0], want)
			}
			for i := range 2 {
				if !near(dbt[0][i], dpl[0][i], 1e-14) {
					t.Errorf("%s: gradients %v and %v", name, dbt[0], dpl[0])
				}
			}
		}
	}
}

func TestTopMOfAllPlacesIsPlackettLuce(t *testing.T) {
	g := randomGroup(rand.New(rand.NewPCG(7, 8)), 6)
	for name := range implementations {
		full, dfull := eval(t, mustLoss(t, name, Config{}), g)
		top, dtop := eval(t, mustLoss(t, name, Config{Type: TopMPlackettLuce, M: 100}), g)
		if full[0] != top[0] || fmt.Sprint(dfull) != fmt.Sprint(dtop) {
			t.Errorf("%s: %v %v and %v %v", name, full, dfull, top, dtop)
		}
	}
}

func TestTopMRanksAStraddlingTieWhole(t *testing.T) {
	g := Group{Scores: []float64{0.1, -0.4, 1.2, 0.7}, Ranks: []float64{1, 2, 2, 3}}
	for name := range implementations {
		two, _ := eval(t, mustLoss(t, name, Config{Type: TopMPlackettLuce, M: 2}), g)
		three, _ := eval(t, mustLoss(t, name, Config{Type: TopMPlackettLuce, M: 3}), g)
		one, _ := eval(t, mustLoss(t, name, Config{Type: TopMPlackettLuce, M: 1}), g)
		if two[0] != three[0] || one[0] == two[0] {
			t.Errorf("%s: losses of 1, 2 and 3 places are %v, %v and %v", name, one[0], two[0], three[0])
		}
	}
}

func TestAllTied(t *testing.T) {
	g := Group{Scores: []float64{1, 2, 4}, Ranks: []float64{3, 3, 3}, Margin: 1}
	for name := range implementations {
		for _, c := range []Config{{Type: BradleyTerry, Margin: 1}, {Ties: Drop, Margin: 1}} {
			loss, d := eval(t, mustLoss(t, name, c), g)
			if loss[0] != 0 || d[0][0] != 0 || d[0][1] != 0 || d[0][2] != 0 {
				t.Errorf("%s %+v: loss %v, gradient %v; want zeros", name, c, loss[0], d[0])
			}
		}
	}
}

func TestOrderOfInputDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for name := range implementations {
		for _, c := range configs() {
			if name == "graph" && (c.Normalization != Pairs || c.Margin == 0) {
				continue // the graph is slow to build, and sorts by the same code
			}
			g := randomGroup(r, 6)
			p := Group{Scores: make([]float64, 6), Ranks: make([]float64, 6), Margin: g.Margin}
			perm := r.Perm(6)
			for i, j := range perm {
				p.Scores[i], p.Ranks[i] = g.Scores[j], g.Ranks[j]
			}
			l := mustLoss(t, name, c)
			a, da := eval(t, l, g)
			b, db := eval(t, l, p)
			tol := 0.0 // the closed form sums in sorted order
			if name == "graph" {
				tol = 1e-14
			}
			if !near(a[0], b[0], tol) {
				t.Errorf("%s %+v: %v became %v", name, c, a[0], b[0])
			}
			for i, j := range perm {
				if !near(db[0][i], da[0][j], tol) {
					t.Errorf("%s %+v: gradient %v became %v", name, c, da[0][j], db[0][i])
				}
			}
		}
	}
}

func TestConstantOnAllScoresDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for name := range implementations {
		for _, kind := range []string{PlackettLuce, BradleyTerry} {
			l := mustLoss(t, name, Config{Type: kind, Margin: 0.5, LabelSmoothing: 0.1})
			g := randomGroup(r, 5)
			for i := range g.Scores {
				g.Scores[i] = float64(r.IntN(64)) / 8 // exact when 1024 is added
			}
			a, da := eval(t, l, g)
			for i := range g.Scores {
				g.Scores[i] += 1024
			}
			b, db := eval(t, l, g)
			if a[0] != b[0] || fmt.Sprint(da) != fmt.Sprint(db) {
				t.Errorf("%s %s: %v %v became %v %v", name, kind, a, da, b, db)
			}
		}
	}
}

func TestScaleOfRanksDoesNotMatter(t *testing.T) {
	a := Group{Scores: []float64{1, 2, 0, -1}, Ranks: []float64{1, 2, 2, 3}}
	b := Group{Scores: a.Scores, Ranks: []float64{-1e300, 0.1, 0.1, 1e300}}
	for name := range implementations {
		l := mustLoss(t, name, Config{Margin: 0.5})
		losses, d := eval(t, l, a, b)
		if losses[0] != losses[1] || fmt.Sprint(d[0]) != fmt.Sprint(d[1]) {
			t.Errorf("%s: %v %v", name, losses, d)
		}
	}
}

func TestLargeScoresStayFinite(t *testing.T) {
	for name := range implementations {
		for _, c := range configs() {
			if name == "graph" && c.Normalization != Sum {
				continue
			}
			g := Group{Scores: []float64{-1e4, 1e4, 0, 1e4, -1e4}, Ranks: []float64{1, 2, 2, 4, 5}}
			losses, d := eval(t, mustLoss(t, name, c), g)
			if !finite(losses[0]) || losses[0] < 0 || !allFinite(d[0]) {
				t.Errorf("%s %+v: loss %v, gradient %v", name, c, losses[0], d[0])
			}
		}
	}
}

func TestNonFiniteScoresPoisonTheirGroupOnly(t *testing.T) {
	good := Group{Scores: []float64{1, 2, 3}, Ranks: []float64{1, 2, 3}}
	for name := range implementations {
		l := mustLoss(t, name, Config{Center: 0.1})
		alone, dalone := eval(t, l, good)
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			losses, d := eval(t, l, Group{Scores: []float64{bad, 0}, Ranks: []float64{1, 2}}, good)
			if !math.IsNaN(losses[0]) || !math.IsNaN(d[0][0]) || !math.IsNaN(d[0][1]) {
				t.Errorf("%s: a score of %v gives loss %v, gradient %v; want NaN", name, bad, losses[0], d[0])
			}
			if losses[1] != alone[0] || fmt.Sprint(d[1]) != fmt.Sprint(dalone[0]) {
				t.Errorf("%s: a score of %v in group 0 changes group 1", name, bad)
			}
		}
	}
}

func TestNoGroups(t *testing.T) {
	for name := range implementations {
		if losses, _ := eval(t, mustLoss(t, name, Config{})); len(losses) != 0 {
			t.Errorf("%s: %v", name, losses)
		}
	}
}

func TestNeighboursDoNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for name := range implementations {
		for _, kind := range []string{PlackettLuce, BradleyTerry} {
			l := mustLoss(t, name, Config{Type: kind, Margin: 0.5, Center: 0.1, LabelSmoothing: 0.1})
			var groups []Group
			for k := 2; k <= 12; k++ {
				groups = append(groups, randomGroup(r, k))
			}
			together, dtogether := eval(t, l, groups...)
			for i, g := range groups {
				alone, dalone := eval(t, l, g)
				if together[i] != alone[0] || fmt.Sprint(dtogether[i]) != fmt.Sprint(dalone[0]) {
					t.Errorf("%s %s: group %d has loss %v and gradient %v alone, %v and %v with neighbours",
						name, kind, i, alone[0], dalone[0], together[i], dtogether[i])
				}
			}
		}
	}
}

func TestManyAnswersAreSplitOverGraphs(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	groups := make([]Group, 9)
	for i := range groups {
		groups[i] = randomGroup(r, 60+i)
	}
	c := Config{Type: BradleyTerry}
	a, _ := eval(t, mustLoss(t, "closed", c), groups...)
	b, _ := eval(t, mustLoss(t, "graph", c), groups...)
	for i := range a {
		if !near(a[i], b[i], 1e-12) {
			t.Errorf("group %d: %v by formula, %v by graph", i, a[i], b[i])
		}
	}
}
