// The gradients of attention in bfloat16, by two kernels which share no sums and need no atomic
// additions: one block adds up dQ of a tile of query rows over all keys (attention_back.cu),
// another dK and dV of a tile of key rows over all queries that see them, of every answer to a
// prompt and every head of the group (attention_back_kv.cu), in float32 registers. With S the
// scores and D = rowsum(dout*out):
//
//	P = exp(S*scale - lse)   dV = Pt dout   dS = P*(dout Vt - D)   dQ = scale dS K   dK = scale dSt Q
//
// A warp has 32 rows, or with 256 channels two have them, each half of the channels
// (attention_tile.cuh). Of those, for each 32 keys of dQ a warp reads 64 fragments, exchanges 20 and
// copies 16 times 512 bytes, which take shared memory 1,600 cycles of which 192 products are 48%. For
// 16 queries of dK or dV it reads 16, exchanges 8 and copies 4: 57%.
#pragma once
#include "attention_tile.cuh"

template <int D> struct Back {
	static constexpr int ROWS = WARPS * 32 / Team<D>::SPLIT;        // of a block: queries or keys
	static constexpr int KEYS = D == 64 ? 64 : 32;                  // that arrive together for dQ
	static constexpr int QUERIES = D == 256 ? 16 : 32;              // for dK and dV
	static constexpr bool RESIDENT = D == 64;                       // dQ: registers have room for dout of the block's rows
	static constexpr bool PAIRED = D > 64;                          // dK and dV: two warps share keys
	static constexpr int BLOCK = PAIRED ? 2 * THREADS : THREADS;    // threads for dK and dV
};

// Writes a warp's sums of 32 rows, times scale, to where row(i) begins, through memory for ROWS
// rows, which all warps have their parts of. A null row is left out.
template <int D, class F>
__device__ __forceinline__ void store_rows(unsigned char* memory, const float (&sum)[2][Team<D>::CHANNELS / 8][4], float scale, int dim, const Team<D>& team, F row) {
	constexpr int ROW = Layout<D>::ROW;
	const int lane = threadIdx.x % 32;
#pragma unroll
	for (int h = 0; h < 4; h++) {
		unsigned* dst = reinterpret_cast<unsigned*>(memory + (team.row() + h / 2 * team.step() + h % 2 * 8 + lane / 4) * ROW) + team.channel() / 2 + lane % 4;
#pragma unroll
		for (int j = 0; j < Team<D>::CHANNELS / 8; j++) dst[j * 4] = pack_bf16(sum[h / 2][j][h % 2 * 2] * scale, sum[h / 2][j][h % 2 * 2 + 1] * scale);
	}
	team.sync();
	for (int n = lane; n < Team<D>::OWN * 16 * (D / 8); n += 32) {
		const int r = team.row() + n / (D / 8), c = n % (D / 8);
		bf16* dst = row(r);
		if (dst && c * 8 < dim) *reinterpret_cast<uint4*>(dst + c * 8) = *reinterpret_cast<const uint4*>(memory + r * ROW + c * 16);
	}
}
