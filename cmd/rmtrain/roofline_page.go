package main

import (
	"fmt"
	"strings"

	"rmtrain/configs"
	"rmtrain/kernels/cost"
	"rmtrain/kernels/llama"
	"rmtrain/train"
)

// A rooflinePage is written from what was counted.
type rooflinePage struct {
	strings.Builder
	o     rooflineOptions
	model llama.Config
	modes []rehearsal // of rooflineModes
	small rehearsal   // of a step of doctorPrompts, everything trained and kept
}

// doctorPrompts is how many prompts a step of `rmtrain doctor --bench` has.
const doctorPrompts = 4

// negligible is the share of a step below which operations are put together.
const negligible = 0.001

// page returns the Markdown of `rmtrain roofline`.
func (o rooflineOptions) page(mc llama.Config) (string, error) {
	if err := o.check(); err != nil {
		return "", err
	}
	card, ok := cost.Named(strings.ToLower(o.gpu))
	if !ok {
		return "", fmt.Errorf("--gpu %q is unknown (choose one of %s)", o.gpu, strings.Join(gpuNames(), ", "))
	}
	if mc.HeadDim > 256 {
		return "", fmt.Errorf("heads of %d channels: the CUDA kernels have up to 256", mc.HeadDim)
	}
	p := &rooflinePage{o: o, model: mc}
	c := *configs.Default()
	c.Train.SharePrefix, c.Train.MaxTokensPerBatch = true, o.pass
	for _, mode := range rooflineModes {
		r, err := rehearse(c, mc, mode.options, o.prompts)
		if err != nil {
			return "", err
		}
		p.modes = append(p.modes, r)
	}
	var err error
	if p.small, err = rehearse(c, mc, llama.Options{Train: true}, doctorPrompts); err != nil {
		return "", err
	}
	p.head()
	p.times()
	p.needs()
	p.operations(card)
	p.fusions(card)
	p.assumptions()
	p.cards()
	return p.String(), nil
}

func (p *rooflinePage) say(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *rooflinePage) head() {
	c, r := p.model, p.modes[0]
	p.say("# Roofline\n")
	p.say("**Prediction. Nothing on this page was measured, and no GPU has run rmtrain yet.** It is what a training step in")
	p.say("bfloat16 on one GPU should take, from the operations that a step issues, the cards' data sheets, and the assumptions")
	p.say("below. `rmtrain roofline MODEL` writes this page for any model, `rmtrain --dry-run --gpu NAME` predicts the step of a")
	p.say("configuration, and `rmtrain doctor --bench` measures, so that a card can contradict.\n")
	p.say("| | |\n|---|---|")
	p.say("| model | %d layers, %d channels, %d in the MLP, %d:%d heads of %d, %d ids: %sparameters |", c.Layers, c.Hidden, c.FFN, c.Heads, c.KVHeads, c.HeadDim, c.Vocab, si(float64(parameters(c))))
	p.say("| step | %d prompts of %d tokens with %d answers of %d to %d: %d tokens, of which %d are computed, as answers share their prompt |", p.o.prompts, typicalPrompt, answersPerPrompt, typicalAnswer, typicalAnswer+typicalStep*(answersPerPrompt-1), r.tokens, r.rows)
	p.say("| passes | of up to %d tokens |\n", p.o.pass)
}

// times tells what a step takes in each mode on each card.
func (p *rooflinePage) times() {
	p.say("## A step\n")
	p.say("Seconds at the bounds, below which these kernels cannot come but for what caches save, then those predicted. The times")
	p.say("of what does not fit into a card (see the next section) are those of its arithmetic and bandwidth all the same.\n")
	p.columns("mode")
	for i, mode := range rooflineModes {
		p.row(mode.name, func(c cost.Card) string {
			return fmt.Sprintf("%.3g, %.3g", c.Total(p.modes[i].entries, "", cost.AtBound), c.Total(p.modes[i].entries, "", p.o.assume))
		})
	}
	p.row(fmt.Sprintf("full, %d prompts, as `doctor --bench`", doctorPrompts), func(c cost.Card) string {
		return fmt.Sprintf("%.3g, %.3g", c.Total(p.small.entries, "", cost.AtBound), c.Total(p.small.entries, "", p.o.assume))
	})
	p.say("\nPredicted prompts a second, and seconds of the parts of `full`:\n")
	p.columns("")
	for i, mode := range rooflineModes {
		p.row(mode.name, func(c cost.Card) string {
			return fmt.Sprintf("%.3g", float64(p.o.prompts)/c.Total(p.modes[i].entries, "", p.o.assume))
		})
	}
	for _, phase := range train.Phases {
		p.row(phase, func(c cost.Card) string { return fmt.Sprintf("%.3g s", c.Total(p.modes[1].entries, phase, p.o.assume)) })
	}
	p.say("\n| mode | |\n|---|---|")
	for _, mode := range rooflineModes {
		p.say("| %s | %s |", mode.name, mode.note)
	}
	p.say("")
}

// columns begins a table with a column for each card.
func (p *rooflinePage) columns(first string) {
	p.WriteString("| " + first)
	for _, c := range cost.Cards {
		p.WriteString(" | " + c.Title)
	}
	p.say(" |\n|---%s|", strings.Repeat("|---", len(cost.Cards)))
}

func (p *rooflinePage) row(first string, cell func(cost.Card) string) {
	p.WriteString("| " + first)
	for _, c := range cost.Cards {
		p.WriteString(" | " + cell(c))
	}
	p.say(" |")
}

// needs tells how much memory modes take and which cards have it.
func (p *rooflinePage) needs() {
	p.say("## Memory\n")
	p.say("By the plan that `rmtrain --dry-run` prints, with passes of up to %d tokens; activations shrink with them.\n", p.o.pass)
	p.say("| mode | GiB | fits |\n|---|---|---|")
	for i, mode := range rooflineModes {
		need := total(p.modes[i].memory)
		var cards []string
		for _, c := range cost.Cards {
			if need <= plannable(c.MiB<<20, true) {
				cards = append(cards, c.Title)
			}
		}
		if cards == nil {
			cards = []string{"none of these cards"}
		}
		p.say("| %s | %.1f | %s |", mode.name, float64(need)/(1<<30), strings.Join(cards, ", "))
	}
	p.say("")
}

// operations lists those of a step on one card.
func (p *rooflinePage) operations(card cost.Card) {
	whole := card.Total(p.small.entries, "", p.o.assume)
	p.say("## Operations on an %s\n", card.Title)
	p.say("A step of %d prompts in one pass of %d rows, `full`. Products are rows x columns of the result x the length of the", doctorPrompts, p.small.rows)
	p.say("sums. Operations, bytes and times are of one; %% is the share of all of them in the predicted step. Norms and SwiGLU are")
	p.say("computed again in the backward pass, as their results are not kept; `recomputed` adds a layer's whole forward pass but")
	p.say("SwiGLU, the product after it and the last addition.\n")
	p.say("| phase | operation | on | times | GFLOP | MB | at the bound | predicted | %% |\n|---|---|---|---|---|---|---|---|---|")
	others, folded := 0.0, 0
	for _, e := range p.small.entries {
		seconds := card.Seconds(e.Op, p.o.assume)
		share := float64(e.Times) * seconds / whole
		if share < negligible {
			others, folded = others+share, folded+e.Times
			continue
		}
		flop := ""
		if e.FLOP > 0 {
			flop = fmt.Sprintf("%.4g", e.FLOP/1e9)
		}
		p.say("| %s | %s | %s | %d | %s | %.4g | %s | %s | %.1f |", e.Phase, e.Name, e.Shape, e.Times, flop, e.Bytes/1e6, duration(card.Seconds(e.Op, cost.AtBound)), duration(seconds), 100*share)
	}
	p.say("| all | others | | %d | | | | | %.1f |\n", folded, 100*others)
	launches := 0
	for _, e := range p.small.entries {
		launches += e.Times * e.Kernels
	}
	p.say("%d kernels are launched: %s of the %s predicted are the gaps between them.\n", launches, duration(float64(launches)*p.o.assume.Launch), duration(whole))
}

func (p *rooflinePage) assumptions() {
	a := p.o.assume
	p.say("## Assumptions\n")
	p.say("| | | where it comes from |\n|---|---|---|")
	p.say("| matrix products | %.3g of the peak (`--product`) | cuBLAS on an H100 SXM: 716 TFLOP/s at 4096 x 4096 x 4096, 795 at 8192, of 989; measured by the author of github.com/pranjalssh/fast.cu. The lower one, as one algorithm serves all sizes here |", a.Product)
	p.say("| other operations | %.3g of the memory's bandwidth (`--memory`) | RMSNorm of cuDNN on an H200: 3.7 of 4.8 TB/s; measurements in github.com/NVIDIA/cudnn-frontend |", a.Memory)
	p.say("| attention | %.3g of its static bound (`--attention`) | FlashAttention-2, of the same instructions, on an H100: 298 TFLOP/s forward at 2,048 tokens (arXiv 2407.08608), which is 0.48 of the bound below |", a.Attention)
	p.say("| launches | %.3g µs between two kernels (`--launch`) | a guess |\n", 1e6*a.Launch)
	p.say("An operation takes its arithmetic or its bytes, whichever takes longer, and its launches. Arithmetic is counted for")
	p.say("tensor cores: what the model's own count has, and for attention backward the 7 products that the kernels execute. Bytes")
	p.say("are those that kernels move on the emulator, without what they read again soon; of products and attention, every operand")
	p.say("once a kernel. Not counted are: what tiles compute beyond the edge of a matrix or a mask, the last wave of blocks, what the")
	p.say("L2 cache holds from one kernel to the next, clocks below the data sheet's, copies to and from the host, reading data, and")
	p.say("several cards.\n")
}

func (p *rooflinePage) cards() {
	p.say("## Cards\n")
	p.say("| card | `--gpu` | TFLOP/s | GB/s | attention: forward, dQ, dK and dV | from |\n|---|---|---|---|---|---|")
	for _, c := range cost.Cards {
		b, _ := c.Bound(p.model.HeadDim)
		p.say("| %s | %s | %.4g | %.4g | %.0f, %.0f, %.0f%% | %s |", c.Title, c.Name, c.Peak/1e12, c.Bandwidth/1e9, 100*b.Forward, 100*b.Queries, 100*b.Keys, c.Source)
	}
	p.say("\nTFLOP/s are dense, of bfloat16 with sums in float32; where a data sheet gives the number with sparsity alone, half of it.")
	p.say("Attention cannot exceed these shares of the peak, by the instructions of its loops with heads of %d channels", p.model.HeadDim)
	p.say("(`kernels/cuda/testdata/static.txt`, [cuda.md](cuda.md)). Tensor cores of Ada are half as fast as an A100's beside the same")
	p.say("shared memory, so nothing else binds there.")
}
