package infer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"rmtrain/checkpoints"
	"rmtrain/data"
	"rmtrain/data/tokenizer"
	"rmtrain/kernels"
	"rmtrain/kernels/cpu"
	"rmtrain/kernels/llama"
)

// conversations returns groups that share a beginning, wholly, partly and not at all.
func conversations() [][]tokenizer.Encoded {
	random := rand.New(rand.NewPCG(1, 2))
	ids := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = random.Int32N(290)
		}
		return out
	}
	var groups [][]tokenizer.Encoded
	for _, prefix := range []int{0, 1, 5, 17, 40} {
		p := ids(prefix)
		var g []tokenizer.Encoded
		for _, n := range []int{1, 7, 2, 7, 1} {
			g = append(g, tokenizer.Encoded{IDs: slices.Concat(p, ids(n))})
		}
		g = append(g, tokenizer.Encoded{IDs: ids(48)}) // as if truncated
		g = append(g, tokenizer.Encoded{IDs: slices.Concat(p, ids(3))})
		groups = append(groups, g)
	}
	return append(groups, nil, []tokenizer.Encoded{{IDs: ids(48)}, {IDs: ids(1)}})
}

func alone(groups [][]tokenizer.Encoded) [][]tokenizer.Encoded {
	var out [][]tokenizer.Encoded
	for _, g := range groups {
		for _, e := range g {
			out = append(out, []tokenizer.Encoded{e})
		}
	}
	return out
}

func TestScoresDoNotDependOnBatchesSharingOrderOrThreads(t *testing.T) {
	groups := conversations()
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
		t.Run(dt.String(), func(t *testing.T) {
			first := openScorer(t, "testdata/huggingface", dt, Options{BatchTokens: 1})
			var want []float64
			for _, e := range alone(groups) {
				want = append(want, score(t, first, [][]tokenizer.Encoded{e})[0][0])
			}
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
			for _, budget := range []int{1, 7, 100, 8192} {
				for procs := 1; procs <= 4; procs++ {
					runtime.GOMAXPROCS(procs)
					s := openScorer(t, "testdata/huggingface", dt, Options{BatchTokens: budget})
					name := fmt.Sprintf("%d batch tokens, %d threads", budget, procs)
					requireSame(t, name, slices.Concat(score(t, s, groups)...), want)
					requireSame(t, name+", alone", slices.Concat(score(t, s, alone(groups))...), want)

					turned := slices.Clone(alone(groups))
					slices.Reverse(turned)
					got := slices.Concat(score(t, s, turned)...)
					slices.Reverse(got)
					requireSame(t, name+", other order", got, want)
				}
			}
		})
	}
}

func requireSame(t *testing.T, name string, got, want []float64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: scores\n%v, want\n%v", name, got, want)
	}
}

func TestOneConversationInEveryFormHasOneScore(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	ask := `{"role": "user", "content": "How are you?"}`
	text := "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\nFine.<|im_end|>\n"
	ids, err := s.Encoder.Tokenizer().Encode(text, false)
	if err != nil {
		t.Fatal(err)
	}
	forms := []string{
		fmt.Sprintf(`{"text": %s}`, marshal(text)),
		fmt.Sprintf(`{"messages": [%s, {"role": "assistant", "content": "Fine."}]}`, ask),
		fmt.Sprintf(`{"input_ids": %s}`, marshal(ids)),
		`{"prompt": "\n\nHuman: How are you?\n\nAssistant: ", "answers": ["Fine.", "No.", "Fine."]}`,
		`{"prompt": "How are you?", "answers": ["Fine."]}`,
		fmt.Sprintf(`{"prompt": [%s], "answers": ["So", "Fine."]}`, ask),
	}
	scores := score(t, s, encodeAll(t, s, forms...))
	want := scores[0][0]
	for i, at := range []int{0, 0, 0, 0, 0, 1} {
		if scores[i][at] != want {
			t.Errorf("%s: score %v, want %v", forms[i], scores[i], want)
		}
	}
	if scores[3][2] != want || scores[3][1] == want {
		t.Errorf("scores of answers %v, want %v for the first and last only", scores[3], want)
	}
}

func TestSplitKeepsWithinTheBudgetAndNeverCostsRows(t *testing.T) {
	for i, g := range append(conversations(), huge()) {
		whole := 0
		for _, e := range g {
			whole += len(e.IDs)
		}
		for _, budget := range []int{1, 7, 20, 100, 8192} {
			scores := make([]float64, len(g))
			rows, at := 0, 0
			for _, p := range split(g, scores, budget) {
				n := data.PackRows(p.group, true)
				rows += n
				if n > budget && len(p.group.Answers) > 1 {
					t.Errorf("group %d, budget %d: %d answers of %d rows", i, budget, len(p.group.Answers), n)
				}
				if len(p.scores) != len(p.group.Answers) || &p.scores[0] != &scores[at] {
					t.Fatalf("group %d, budget %d: scores go to the wrong place", i, budget)
				}
				for _, a := range p.group.Answers {
					if &a.Tokens[0] != &g[at].IDs[0] {
						t.Fatalf("group %d, budget %d: answer %d is another", i, budget, at)
					}
					at++
				}
			}
			if at != len(g) || rows > whole {
				t.Errorf("group %d, budget %d: %d of %d answers, %d rows of %d", i, budget, at, len(g), rows, whole)
			}
		}
	}
}

// huge is a group of far more answers than a batch has room for.
func huge() []tokenizer.Encoded {
	prefix := slices.Repeat([]int32{5}, 30)
	g := make([]tokenizer.Encoded, 5000)
	for i := range g {
		g[i].IDs = append(slices.Clone(prefix), int32(i%250), int32(i/250))
	}
	return g
}

func TestSplitSharesWhatIsCommon(t *testing.T) {
	g := huge()[:100]
	pieces := split(g, make([]float64, len(g)), 8192)
	if len(pieces) != 1 || data.PackRows(pieces[0].group, true) != 30+2*100 {
		t.Errorf("%d pieces, %d rows in the first", len(pieces), data.PackRows(pieces[0].group, true))
	}
	// One that shares nothing is by itself, and the others still share.
	for _, odd := range [][]int32{slices.Repeat([]int32{9}, 32), append([]int32{5}, slices.Repeat([]int32{9}, 31)...)} {
		for _, at := range []int{0, 50, 100} {
			rows := 0
			for _, p := range split(slices.Insert(slices.Clone(g), at, tokenizer.Encoded{IDs: odd}), make([]float64, len(g)+1), 8192) {
				rows += data.PackRows(p.group, true)
			}
			want := 30 + 2*100 + 32
			if at == 50 {
				want += 30
			}
			if rows != want {
				t.Errorf("odd %d at %d: %d rows, want %d", odd[:2], at, rows, want)
			}
		}
	}
}

func TestManyGoroutinesScoreAtOnce(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{BatchTokens: 64})
	groups := conversations()
	want := slices.Concat(score(t, s, groups)...)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			got, err := s.Score(context.Background(), groups)
			if err != nil || !slices.Equal(slices.Concat(got...), want) {
				t.Errorf("other scores, or %v", err)
			}
		})
	}
	wait.Wait()
}

func TestScoreRefusesWhatHasNoTokenAndStopsWithItsContext(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	if _, err := s.Score(context.Background(), [][]tokenizer.Encoded{{{IDs: []int32{1}}, {}}}); err == nil || !strings.Contains(err.Error(), "conversation 1 of group 0 has no token") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Score(ctx, conversations()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := s.Encode(Request{}); err == nil {
		t.Error("an empty request was encoded")
	}
}

func TestEncodeRefusesTokensBeyondTheVocabulary(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	s.Config.Vocab = 100 // a tokenizer may have more tokens than the embedding rows
	for _, line := range []string{`{"input_ids": [1, 100]}`, `{"text": "<pad>x<|im_end|>"}`, `{"prompt": "a", "answers": ["b"]}`} {
		r, err := ParseRequest([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Encode(r); err == nil || !strings.Contains(err.Error(), "beyond the model's vocabulary of 100") {
			t.Errorf("%s: error %v", line, err)
		}
	}
}

func TestEncodeBoundsTheTokensOfARequest(t *testing.T) {
	s := openScorer(t, "testdata/huggingface", kernels.F32, Options{})
	prompt := "Hi"
	r := Request{Prompt: &prompt, Answers: slices.Repeat([]string{"yes"}, 10)}
	g, err := s.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	s.maxTokens = 9 * len(g[0].IDs)
	if _, err := s.Encode(r); err == nil || !strings.Contains(err.Error(), "divide them") {
		t.Errorf("error %v", err)
	}
	r.Answers = r.Answers[1:]
	if _, err := s.Encode(r); err != nil {
		t.Error(err)
	}
}

func TestLoadModelTakesAHeadOnlyWhereThereIsNone(t *testing.T) {
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16} {
		b, err := cpu.New(dt)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		load := func(path string, head func(hidden int) []float32) ([]float32, error) {
			dir, err := checkpoints.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			c, err := llama.ParseConfig(dir.Config)
			if err != nil {
				t.Fatal(err)
			}
			m, err := LoadModel(dir, b, c, llama.Options{DType: dt}, head(c.Hidden))
			if err != nil {
				return nil, err
			}
			defer m.Close()
			i := slices.IndexFunc(m.Params(), func(p llama.Param) bool { return p.Name == headName })
			w := m.Params()[i].Weight
			raw := make([]byte, w.Bytes())
			b.Download(raw, w)
			return floats(raw, dt), b.Sync()
		}
		// 1+2^-8 and 1+3*2^-8 lie between two numbers of bfloat16: to even.
		given := func(hidden int) []float32 {
			return slices.Repeat([]float32{1 + 1.0/256, 1 + 3.0/256, -0.5, 3e-39}, hidden)[:hidden]
		}
		want := []float32{1 + 1.0/256, 1 + 3.0/256, -0.5}
		if dt == kernels.BF16 {
			want = []float32{1, 1 + 4.0/256, -0.5}
		}
		const base = "../checkpoints/testdata/base"
		if got, err := load(base, given); err != nil || !slices.Equal(got[:3], want) {
			t.Errorf("%v: head %v, %v; want %v", dt, got, err, want)
		}
		if _, err := load(base, func(int) []float32 { return []float32{1} }); err == nil || !strings.Contains(err.Error(), "does not fit") {
			t.Errorf("%v: a short head: error %v", dt, err)
		}
		if _, err := load(base, func(n int) []float32 { return slices.Repeat([]float32{float32(math.NaN())}, n) }); err == nil || !strings.Contains(err.Error(), "is NaN") {
			t.Errorf("%v: a head of NaN: error %v", dt, err)
		}
		if _, err := load(base, func(int) []float32 { return nil }); err == nil || !strings.Contains(err.Error(), headName) {
			t.Errorf("%v: no head: error %v", dt, err)
		}
		if got, err := load("testdata/huggingface", given); err != nil || slices.Equal(got[:3], want) {
			t.Errorf("%v: the model's own head was replaced: %v, %v", dt, got, err)
		}
	}
}

func floats(raw []byte, dt kernels.DType) []float32 {
	out := make([]float32, len(raw)/dt.Size())
	for i := range out {
		if dt == kernels.BF16 {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		} else {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	}
	return out
}

func TestOpenRefuses(t *testing.T) {
	b, err := cpu.New(kernels.F32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	noTokenizer := variant(t, "huggingface", nil)
	if err := os.Remove(filepath.Join(noTokenizer, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	badMeta := variant(t, "huggingface", nil)
	if err := os.WriteFile(filepath.Join(badMeta, "rmtrain.json"), []byte(`{"format": {"max_length": "long"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{"testdata/missing", "no such folder"},
		{"org/name-that-is-nowhere", "hub cache"},
		{"testdata/golden.py", "a file, not a folder"},
		{"../checkpoints/testdata/base", "no value head"},
		{noTokenizer, "tokenizer"},
		{badMeta, "rmtrain.json"},
		{variant(t, "huggingface", map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn"}}), "yarn"},
		{variant(t, "huggingface", map[string]any{"intermediate_size": 33}), "model.layers.0.mlp.gate_proj.weight"},
	} {
		if _, err := Open(c.path, Options{Backend: b, DType: kernels.F32}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.path, err, c.want)
		}
	}
	for _, o := range []Options{{MaxLength: -1}, {BatchTokens: -1}, {MaxLength: 49}} {
		o.Backend, o.DType = b, kernels.F32
		if _, err := Open("testdata/huggingface", o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

func TestWeightsAreKeptWhereMemoryFits(t *testing.T) {
	groups := conversations()
	want := score(t, openScorer(t, "testdata/huggingface", kernels.F32, Options{}), groups)
	for _, fits := range []bool{true, false} {
		b, err := cpu.New(kernels.F32)
		if err != nil {
			t.Fatal(err)
		}
		planned := int64(0)
		s, err := Open("testdata/huggingface", Options{Backend: b, DType: kernels.F32, Fits: func(m map[string]int64) bool {
			planned = m[kernels.KeptTag]
			return fits
		}})
		if err != nil {
			t.Fatal(err)
		}
		requireSame(t, fmt.Sprintf("kept: %v", fits), slices.Concat(score(t, s, groups)...), slices.Concat(want...))
		if kept := b.Used()[kernels.KeptTag]; planned == 0 || fits != (kept > 0) || fits && kept != planned {
			t.Errorf("%d bytes are kept and %d were planned, where memory fits: %v", kept, planned, fits)
		}
		if err := errors.Join(s.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	}
}
