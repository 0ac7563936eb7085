package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"rmtrain/loss"
)

func TestPerfectAndConstantScorers(t *testing.T) {
	truth := "Question,Best Answer,Correct Answers,Incorrect Answers\nq,good best,good other,bad;worse\nr,good x,good x,bad y\n"
	safety := strings.NewReplacer("zero", "good", "one", "bad").Replace(oneLine(safetyRow, true, false))
	rb := `{"prompt":"p","chosen":"good","rejected":"r","subset":"%s"}`
	rb2 := `{"id":"%s","prompt":"p","chosen":["good"],"rejected":["r","s","t"],"num_correct":1,"total_completions":4,"subset":"%s"}`
	var all, all2 strings.Builder
	for name := range exampleCounts {
		all.WriteString(oneLine(rb, name))
	}
	for i, name := range sections2 {
		all2.WriteString(oneLine(rb2, fmt.Sprintf("ref:%d", i), name))
	}
	tests := []struct {
		bench, file, content string
		constant             float64 // what a constant scorer has
	}{
		{Truth, "t.csv", truth, (0.2*1 + 0.8*0.5 + 0.5) / 2}, // one of five pairs need not be ordered
		{Safety, "s.jsonl", safety, 0.5},
		{PairFile, "p.jsonl", pairLines(6), 0.5},
		{RewardBench, "r.jsonl", all.String(), 0},
		{RewardBench2, "r.jsonl", all2.String(), 5.0 / 6 / 4},
	}
	for _, test := range tests {
		t.Run(test.bench, func(t *testing.T) {
			set := load(t, test.bench, quick(), write(t, test.file, test.content))
			perfect := measured(t, set, scoreSet(t, set, &fake{score: likesGood}), nil, quick()).Metrics[0]
			if test.bench == RewardBench2 { // Ties has no tied row, so it cannot reach 1
				perfect.Value += (1 - 0.3) / 6
			}
			if math.Abs(perfect.Value-1) > 1e-12 {
				t.Errorf("a perfect scorer has %v", perfect.Value)
			}
			constant := measured(t, set, scoreSet(t, set, &fake{score: func(string) float64 { return 3 }}), nil, quick()).Metrics[0]
			if math.Abs(constant.Value-test.constant) > 1e-12 {
				t.Errorf("a constant scorer has %v, want %v", constant.Value, test.constant)
			}
		})
	}
}

func TestScoreTiesAndAverageAreSettings(t *testing.T) {
	// Of the prompt a the only pair is right, of b one of three, and one is equal.
	rows := `{"prompt":"a","texts":["3","1"],"ranks":[1,2]}` + "\n" + `{"prompt":"b","texts":["2","2","4"],"ranks":[1,2,3]}` + "\n"
	set := load(t, PairFile, quick(), write(t, "p.jsonl", rows))
	scores := scoreSet(t, set, &fake{score: func(text string) float64 { return float64(text[0]) }})
	for _, test := range []struct {
		ties, average string
		want          float64
	}{
		{Half, Prompts, (1 + 0.5/3) / 2}, {Wrong, Prompts, 0.5}, {Right, Prompts, (1 + 1.0/3) / 2},
		{Half, Pairs, 1.5 / 4}, {Wrong, Pairs, 0.25}, {Right, Pairs, 0.5},
	} {
		s := quick()
		s.ScoreTies, s.Average = test.ties, test.average
		if got := measured(t, set, scores, nil, s).Metrics[0].Value; math.Abs(got-test.want) > 1e-12 {
			t.Errorf("%s, %s: %v, want %v", test.ties, test.average, got, test.want)
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for _, change := range []func(*Settings){
		func(s *Settings) { s.Limit = -1 }, func(s *Settings) { s.ScoreTies = "no" },
		func(s *Settings) { s.Average = "" }, func(s *Settings) { s.Resamples = 0 },
	} {
		s := Defaults()
		change(&s)
		if s.Check() == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
	if err := Defaults().Check(); err != nil {
		t.Error(err)
	}
}

func TestLengthAndSourceDivideThePairs(t *testing.T) {
	long, longer := strings.Repeat("x", 600), strings.Repeat("x", 640)
	rows := oneLine(`{"prompt":"a","texts":["good","y"],"ranks":[1,2],"source":["s","t"]}`) +
		oneLine(`{"prompt":"b","texts":["good %s","%s"],"ranks":[1,2],"subset":"u"}`, long, longer) +
		oneLine(`{"prompt":"c","texts":["%s","good %s"],"ranks":[1,2],"source":"u"}`, long, long)
	set := load(t, PairFile, quick(), write(t, "p.jsonl", rows))
	r := measured(t, set, scoreSet(t, set, &fake{score: likesGood}), nil, quick())
	for name, want := range map[string][2]float64{
		"below 250 characters": {1, 1}, "500 to 999 characters": {0.5, 2}, "length-matched": {0.5, 2},
		"better answer longer": {1, 1}, "better answer shorter": {0.5, 2}, "s, t": {1, 1}, "u": {0.5, 2},
	} {
		if m := metric(t, r, name); m.Value != want[0] || float64(m.Pairs) != want[1] {
			t.Errorf("%s is %v of %d pairs, want %v of %v", name, m.Value, m.Pairs, want[0], want[1])
		}
	}
}

func TestCalibrationErrorByHand(t *testing.T) {
	// Ten pairs of confidence 0.9 of which eight are right, and two of confidence 0.6
	// of which both are: 10/12·0.1 + 2/12·0.4.
	sure, unsure := math.Log(9), math.Log(1.5)
	var cs []comparison
	for i := range 10 {
		d := sure
		if i >= 8 {
			d = -sure
		}
		cs = append(cs, comparison{prompt: i, difference: d})
	}
	cs = append(cs, comparison{prompt: 10, difference: unsure}, comparison{prompt: 11, difference: unsure})
	got := calibrationError(cs)(once(12))
	if want := 10.0/12*0.1 + 2.0/12*0.4; math.Abs(got-want) > 1e-9 {
		t.Errorf("calibration error %v, want %v", got, want)
	}
	bins := reliability(cs)
	if len(bins) != 2 || bins[0].Pairs != 2 || math.Abs(bins[1].Accuracy-0.8) > 1e-12 || math.Abs(bins[1].Confidence-0.9) > 1e-12 {
		t.Errorf("bins %+v", bins)
	}
}

// TestTheLossIsThatOfTraining compares with the package that trains.
func TestTheLossIsThatOfTraining(t *testing.T) {
	l, err := loss.NewClosed(loss.Config{Type: loss.PlackettLuce, Ties: loss.Efron, Normalization: loss.Pairs})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 50 {
		k := 2 + random.IntN(6)
		scores, ranks := make([]float64, k), make([]float64, k)
		for j := range k {
			scores[j], ranks[j] = 10*random.NormFloat64(), float64(random.IntN(k))
		}
		ranks[0], ranks[1] = 0, 1 // not all are equal
		losses, err := l.Eval([]loss.Group{{Scores: scores, Ranks: ranks}}, [][]float64{make([]float64, k)})
		if err != nil {
			t.Fatal(err)
		}
		want := losses[0]
		if got := plackettLuce(scores, ranks); math.Abs(got-want) > 1e-9*(1+math.Abs(want)) {
			t.Errorf("%d: loss of %v by %v is %v, in training %v", i, scores, ranks, got, want)
		}
	}
	if got := plackettLuce([]float64{1e4, -1e4, 0}, []float64{1, 3, 2}); got != 0 {
		t.Errorf("loss of a perfect order is %v", got)
	}
}

func TestRankingsOfAPerfectAndAReversedOrder(t *testing.T) {
	ranks := []float64{1, 2, 3, 4}
	for _, test := range []struct {
		scores    []float64
		tau, ndcg float64
	}{
		{[]float64{4, 3, 2, 1}, 1, 1},
		{[]float64{1, 2, 3, 4}, -1, (1/math.Log2(3) + 2/math.Log2(4) + 3/math.Log2(5)) / (3 + 2/math.Log2(3) + 1/math.Log2(4))},
	} {
		if got := kendall(test.scores, ranks); got != test.tau {
			t.Errorf("tau %v, want %v", got, test.tau)
		}
		if got := ndcg(test.scores, ranks); math.Abs(got-test.ndcg) > 1e-12 {
			t.Errorf("NDCG %v, want %v", got, test.ndcg)
		}
	}
}

func TestIntervalsCoverTheTruth(t *testing.T) {
	const truth, prompts, trials = 0.7, 200, 200
	random := rand.New(rand.NewPCG(3, 4))
	covered := 0
	for trial := range trials {
		var shares []share
		for p := range prompts {
			hit := 0.0
			if random.Float64() < truth {
				hit = 1
			}
			shares = append(shares, share{p, hit, 1})
		}
		low, high := interval(bootstrap([]statistic{ratio(shares)}, make([]int, prompts), 200, uint64(trial))[0])
		if low <= truth && truth <= high {
			covered++
		}
	}
	if covered < 180 || covered > 199 { // of 190 that are expected
		t.Errorf("%d of %d intervals cover the truth", covered, trials)
	}
}

func TestResamplesKeepTheirStrata(t *testing.T) {
	strata := []int{0, 0, 0, 1, 1, 2}
	count := func(s int) statistic {
		return func(w []float64) float64 {
			n := 0.0
			for p, x := range w {
				if strata[p] == s {
					n += x
				}
			}
			return n
		}
	}
	for s, samples := range bootstrap([]statistic{count(0), count(1), count(2)}, strata, 20, 1) {
		for _, n := range samples {
			if n != []float64{3, 2, 1}[s] {
				t.Fatalf("stratum %d has %v prompts", s, n)
			}
		}
	}
}

func TestTheSameSeedGivesTheSameNumbers(t *testing.T) {
	set := load(t, PairFile, quick(), write(t, "p.jsonl", pairLines(30)))
	rows := scoreSet(t, set, &fake{score: func(text string) float64 { return float64(seeded(1, text) % 97) }})
	first, again := measured(t, set, rows, nil, quick()), measured(t, set, rows, nil, quick())
	other := quick()
	other.Seed++
	changed := measured(t, set, rows, nil, other)
	for i := range first.Metrics {
		if first.Metrics[i] != again.Metrics[i] {
			t.Errorf("%+v, then %+v", first.Metrics[i], again.Metrics[i])
		}
	}
	if first.Metrics[0] == changed.Metrics[0] {
		t.Error("another seed changes nothing")
	}
}
