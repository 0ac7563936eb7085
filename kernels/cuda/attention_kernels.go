//go:build nvidia

package cuda

import (
	"fmt"
	"math"
	"slices"

	"rmtrain/kernels"
)

// An attentionKernel is one of those compiled for several numbers of channels, and the sizes
// of its tiles: packed query rows of a block, and keys that arrive together.
type attentionKernel struct {
	name       string
	act        kernels.DType
	rows, keys int32
	threads    int // of a block
	shared     int // bytes of dynamic shared memory
}

// A backKernel is the kernel of dQ with that of dK and dV, which has as many key rows to a
// block.
type backKernel struct {
	attentionKernel
	byKeys        string
	byKeysThreads int // of a block
	byKeysShared  int
}

// unit is what scores are multiplied by besides 1/sqrt(channels): with bfloat16 they are in
// units of log 2.
func (k attentionKernel) unit() float32 {
	if k.act == kernels.BF16 {
		return math.Log2E
	}
	return 1
}

// scale is the factor of scores with so many channels.
func (k attentionKernel) scale(channels int) float32 {
	return float32(float64(k.unit()) / math.Sqrt(float64(channels)))
}

// The channels that kernels are compiled for. Fewer run as the next larger number.
var (
	tensorChannels = []int{64, 96, 128, 256}
	floatChannels  = []int{32, 64, 128, 256}
)

// compiledFor returns the least of the numbers that is at least channels.
func compiledFor(channels int, numbers []int) (int, error) {
	i := slices.IndexFunc(numbers, func(n int) bool { return channels <= n })
	if i < 0 {
		return 0, fmt.Errorf("heads of %d channels: the kernels have up to %d (use device cpu)", channels, numbers[len(numbers)-1])
	}
	return numbers[i], nil
}

// halved reports whether two warps share rows, each with half of the channels; Team in
// attention_tile.cuh.
func halved(channels int) bool { return channels > 128 }

// Bytes of a row of channels in shared memory: bfloat16 with an unused chunk of 16 bytes,
// float32 with an unused element.
func tensorRow(channels int) int { return 2*channels + 16 }
func floatRow(channels int) int  { return 4 * (channels + 1) }

// The float32 kernels have 16 rows to a block and take 32 others at a time.
const floatRows, floatOthers = 16, 32

func forwardKernel(act kernels.DType, channels int) (attentionKernel, error) {
	if act == kernels.F32 {
		n, err := compiledFor(channels, floatChannels)
		return attentionKernel{fmt.Sprintf("attention_f32_%d", n), act, floatRows, floatOthers, attentionThreads, 2*floatOthers*floatRow(n) + floatRows*4*n}, err
	}
	n, err := compiledFor(channels, tensorChannels)
	const rows = 128
	keys := map[int]int{64: 64, 96: 64, 128: 48, 256: 32}[n] // Forward in attention.cu
	k := attentionKernel{fmt.Sprintf("attention_%d", n), act, rows, int32(keys), attentionThreads, (rows + 2*keys) * tensorRow(n)}
	if halved(n) {
		k.threads, k.shared = 2*attentionThreads, rows*tensorRow(n) // the loop has less
	}
	return k, err
}

func backKernels(act kernels.DType, channels int) (backKernel, error) {
	if act == kernels.F32 {
		n, err := compiledFor(channels, floatChannels)
		q := attentionKernel{fmt.Sprintf("attention_back_q_f32_%d", n), act, floatRows, floatOthers, attentionThreads, 2*floatOthers*floatRow(n) + 2*floatRows*4*n}
		return backKernel{q, fmt.Sprintf("attention_back_kv_f32_%d", n), attentionThreads, q.shared}, err
	}
	n, err := compiledFor(channels, tensorChannels)
	tile := map[int][3]int{64: {128, 64, 32}, 96: {128, 32, 32}, 128: {128, 32, 32}, 256: {64, 32, 16}}[n] // Back in attention_back.cuh
	rows, keys, queries := tile[0], tile[1], tile[2]
	q := attentionKernel{fmt.Sprintf("attention_back_q_%d", n), act, int32(rows), int32(keys), attentionThreads, max(2*rows, 4*keys) * tensorRow(n)}
	byKeys := fmt.Sprintf("attention_back_kv_%d", n)
	if n == 64 {
		return backKernel{q, byKeys, attentionThreads, 2 * rows * tensorRow(n)}, err
	}
	weights := 2 * 4 * rows * queries // of two tiles, in float32
	if halved(n) {
		q.shared += 4 * rows * keys       // sums of dout products, then of scores, then weights
		weights += 2 * 4 * rows * queries // the same of P and of dS
	}
	return backKernel{q, byKeys, 2 * attentionThreads, max(2*rows*tensorRow(n), 6*queries*tensorRow(n)+weights)}, err
}
