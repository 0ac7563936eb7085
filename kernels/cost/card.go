package cost

// A Card is what a GPU's data sheet says.
type Card struct {
	Name      string  // as --gpu takes it
	Title     string  // as one says it
	MiB       int64   // of memory, as nvidia-smi reports it
	Peak      float64 // FLOP/s of dense products of bfloat16 with sums in float32
	Bandwidth float64 // bytes a second, of its memory
	Static    string  // which rows of the static bounds are its
	Source    string  // of peak and bandwidth
}

// Cards are the known ones. Where a data sheet gives a peak with sparsity alone, it is halved.
var Cards = []Card{
	{"a100-40gb", "A100 SXM 40 GB", 40960, 312e12, 1555e9, "sm_80", "NVIDIA A100 data sheet"},
	{"a100-80gb", "A100 SXM 80 GB", 81920, 312e12, 2039e9, "sm_80", "NVIDIA A100 data sheet"},
	{"h100-80gb", "H100 SXM 80 GB", 81559, 989.5e12, 3350e9, "sm_90a", "NVIDIA H100 data sheet"},
	{"h100-94gb", "H100 NVL 94 GB", 95830, 835.5e12, 3900e9, "sm_90a", "NVIDIA H100 data sheet"},
	{"h200-141gb", "H200 SXM 141 GB", 143771, 989.5e12, 4800e9, "sm_90a", "NVIDIA H200 data sheet"},
	{"l40s-48gb", "L40S 48 GB", 46068, 362.05e12, 864e9, "sm_89", "NVIDIA L40S data sheet"},
	{"rtx4090-24gb", "RTX 4090 24 GB", 24564, 165.2e12, 1008e9, "sm_89", "NVIDIA Ada architecture white paper, appendix A"},
}

// Named returns the card of a name.
func Named(name string) (Card, bool) {
	for _, c := range Cards {
		if c.Name == name {
			return c, true
		}
	}
	return Card{}, false
}

// Assumptions are what a prediction takes for granted.
type Assumptions struct {
	Product   float64 // share of the peak that the library's products reach
	Memory    float64 // share of the bandwidth that other operations reach
	Attention float64 // share of its static bound that attention reaches
	Launch    float64 // seconds from the end of a kernel to the start of the next
}

var (
	// Likely has the shares that others measured on Hopper; docs/roofline.md names them.
	Likely = Assumptions{Product: 0.72, Memory: 0.77, Attention: 0.5, Launch: 3e-6}
	// AtBound is the roofline, with attention at its static bound: these kernels cannot be
	// faster.
	AtBound = Assumptions{Product: 1, Memory: 1, Attention: 1}
)

// A Bound is the share of a card's peak that attention's loops cannot exceed, from
// kernels/cuda/testdata/static.txt: the lesser of tensor% and shared%.
type Bound struct{ Forward, Queries, Keys float64 }

// bounds by architecture and channels of a head. Those of the gradients with 128 channels are of
// a whole step, where the table has its inner loop; see docs/cuda.md. Tensor cores of sm_89 are
// half as fast as those of sm_80 beside the same shared memory, so nothing but them binds there.
var bounds = map[string]map[int]Bound{
	"sm_80":  {64: {1, 1, 1}, 96: {1, 1, 1}, 128: {1, 1, 1}, 256: {1, .96, 1}},
	"sm_89":  {64: {1, 1, 1}, 96: {1, 1, 1}, 128: {1, 1, 1}, 256: {1, 1, 1}},
	"sm_90a": {64: {.67, .85, .62}, 96: {.67, .55, .64}, 128: {.63, .55, .67}, 256: {.62, .48, .53}},
}

// Bound returns that of heads of so many channels, which run as the next larger number that
// the kernels are compiled for; it is false if there is none.
func (c Card) Bound(channels int) (Bound, bool) {
	for _, n := range []int{64, 96, 128, 256} {
		if channels <= n {
			return bounds[c.Static][n], true
		}
	}
	return Bound{}, false
}

// Seconds returns what an operation on bfloat16 takes. Heads of more channels than there are
// kernels for take forever.
func (c Card) Seconds(o Op, a Assumptions) float64 {
	return max(c.arithmetic(o, a), o.Bytes/(c.Bandwidth*a.Memory)) + float64(o.Kernels)*a.Launch
}

func (c Card) arithmetic(o Op, a Assumptions) float64 {
	switch o.Kind {
	case Product:
		return o.FLOP / (c.Peak * a.Product)
	case Attention, AttentionBack:
		return o.FLOP / (c.Peak * a.Attention) * c.slowdown(o)
	}
	return 0
}

// slowdown is how much longer attention takes at its bound than at the peak.
func (c Card) slowdown(o Op) float64 {
	b, _ := c.Bound(o.Channels)
	if o.Kind == Attention {
		return 1 / b.Forward
	}
	return (productsQueries/b.Queries + productsKeys/b.Keys) / (productsQueries + productsKeys)
}

// Total returns the seconds of all entries of a phase, of every one if phase is empty.
func (c Card) Total(entries []Entry, phase string, a Assumptions) (seconds float64) {
	for _, e := range entries {
		if phase == "" || e.Phase == phase {
			seconds += float64(e.Times) * c.Seconds(e.Op, a)
		}
	}
	return seconds
}
