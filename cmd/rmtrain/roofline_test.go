package main

import (
	"flag"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"rmtrain/configs"
	"rmtrain/kernels"
	"rmtrain/kernels/cost"
	"rmtrain/kernels/llama"
	"rmtrain/train"
)

var updateRoofline = flag.Bool("update-roofline", false, "write docs/roofline.md anew")

// yi34bFolder is a folder with the config.json of Yi-34B-Chat, and nothing else.
func yi34bFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(yi34b), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// docs/roofline.md is what the command prints; -update-roofline writes it anew.
func TestRooflinePageIsUpToDate(t *testing.T) {
	t.Parallel()
	const file = "../../docs/roofline.md"
	page := ok(t, "roofline", yi34bFolder(t))
	if *updateRoofline {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if page != string(want) {
		t.Error("docs/roofline.md is not what `rmtrain roofline` prints: go test ./cmd/rmtrain -run Roofline -update-roofline")
	}
}

// A rehearsal counts the memory that is planned, and the arithmetic of the shape: a forward
// pass of Yi-34B is 66.9 GFLOP a token, and a step with all gradients three of them.
func TestRehearsalOfYi34B(t *testing.T) {
	t.Parallel()
	mc, err := llama.ParseConfig([]byte(yi34b))
	if err != nil {
		t.Fatal(err)
	}
	c := *configs.Default()
	c.Train.MaxTokensPerBatch = 1 << 20
	products := func(o llama.Options) (sum float64, rows int) {
		r, err := rehearse(c, mc, o, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.entries {
			if e.Kind == cost.Product {
				sum += float64(e.Times) * e.FLOP
			}
		}
		o.DType, o.MaxRows, o.MaxAnswers = kernels.BF16, r.rows, 2*answersPerPrompt
		want := llama.Plan(mc, o)
		if o.Train {
			want = train.Memory(c.Train, mc, o)
		}
		if !maps.Equal(r.memory, want) {
			t.Errorf("%+v: counted %v, planned %v", o, r.memory, want)
		}
		return sum, r.rows
	}
	forward, rows := products(llama.Options{})
	if rows != 2*(typicalPrompt+answersPerPrompt*160) {
		t.Errorf("%d rows", rows)
	}
	// The last layer has 1.6 % of the products, and computes few of its rows.
	if perToken := forward / float64(rows); math.Abs(perToken-66.94e9) > 0.02*66.94e9 {
		t.Errorf("%.4g FLOP a token", perToken)
	}
	for name, times := range map[string]float64{"full": 3, "LoRA-ready": 2} {
		for _, mode := range rooflineModes {
			if mode.name != name {
				continue
			}
			if got, _ := products(mode.options); got != times*forward {
				t.Errorf("%s: %.6g FLOP, want %v times %.6g", name, got, times, forward)
			}
		}
	}
}

// Nobody is faster than the bound, a recomputed step takes longer than one that is not, and
// a worse share makes a step longer.
func TestRooflineOrder(t *testing.T) {
	t.Parallel()
	dir := yi34bFolder(t)
	row := func(name string, args ...string) []string {
		page := ok(t, append([]string{"roofline", dir, "--prompts", "4"}, args...)...)
		line := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(name) + ` \| (\d[^\n]*) \|$`).FindStringSubmatch(page)
		if line == nil {
			t.Fatalf("no row %q in\n%s", name, page)
		}
		return strings.Split(line[1], " | ")
	}
	full, recomputed, slow := row("full"), row("full, recomputed"), row("full", "--product", "0.3")
	if len(full) != len(cost.Cards) {
		t.Fatalf("%d columns for %d cards: %q", len(full), len(cost.Cards), full)
	}
	for i := range full {
		bound, likely := pair(t, full[i])
		againBound, again := pair(t, recomputed[i])
		slowBound, slower := pair(t, slow[i])
		if !(bound < likely && bound < againBound && likely < again && likely < slower && bound == slowBound) {
			t.Errorf("%s: full %s, recomputed %s, with a share of 0.3 %s", cost.Cards[i].Title, full[i], recomputed[i], slow[i])
		}
	}
}

func pair(t *testing.T, cell string) (a, b float64) {
	t.Helper()
	var err error
	left, right, _ := strings.Cut(cell, ", ")
	if a, err = strconv.ParseFloat(left, 64); err != nil {
		t.Fatal(err)
	}
	if b, err = strconv.ParseFloat(right, 64); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestRooflineRefuses(t *testing.T) {
	t.Parallel()
	dir := yi34bFolder(t)
	for _, c := range [][]string{
		{"--product", "0", "--product 0 is not a share"},
		{"--memory", "1.5", "--memory 1.5 is not a share"},
		{"--launch", "-1", "--launch -1 must not be negative"},
		{"--prompts", "0", "must be at least 1"},
		{"--gpu", "80GiB", `"80GiB" is unknown`},
	} {
		fails(t, []string{"roofline", dir, c[0], c[1]}, c[2])
	}
	fails(t, []string{"roofline", filepath.Join(dir, "none")}, "config.json is enough")
}
