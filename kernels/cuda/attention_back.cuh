// The gradients of attention in bfloat16, by two kernels which share no sums and need no atomic
// additions: one block adds up dQ of a tile of query rows over all keys (attention_back.cu),
// another dK and dV of a tile of key rows over all queries that see them, of every answer to a
// prompt and every head of the group (attention_back_kv.cu), in float32 registers. With S the
// scores and D = rowsum(dout*out):
//
//	P = exp(S*scale - lse)   dV = Pt dout   dS = P*(dout Vt - D)   dQ = scale dS K   dK = scale dSt Q
//
// What comes in a loop is read by every warp for its own rows, and shared memory delivers less
// than the tensor cores could take. So a warp has 32 rows where their sums fit into registers:
// for each product it reads half of what one with 16 would.
#pragma once
#include "attention.cuh"

template <int D> struct Back {
	static constexpr int M = D <= 128 ? 2 : 1;   // tiles of 16 rows to a warp
	static constexpr int ROWS = WARPS * 16 * M;  // of a block: queries or keys
	static constexpr int ROW = Layout<D>::ROW;
	static constexpr int KEYS = D == 64 ? 64 : D == 256 ? 16 : 32;  // that arrive together for dQ
	static constexpr int QUERIES = D == 256 ? 16 : 32;              // for dK and dV
	static constexpr bool RESIDENT = D == 64;                       // dQ: registers have room for dout of the block's rows
	static constexpr bool PAIRED = D > 64;                          // dK and dV: two warps share keys
	static constexpr int BLOCK = PAIRED ? 2 * THREADS : THREADS;    // threads for dK and dV
};

// Loads the operand-A fragments of a warp's 16*M rows.
template <int D, int M> __device__ __forceinline__ void load_fragments(unsigned (&to)[M][D / 16][4], unsigned rows) {
#pragma unroll
	for (int m = 0; m < M; m++)
#pragma unroll
		for (int i = 0; i < D / 16; i++) ldmatrix_x4(to[m][i], rows + m * 16 * Layout<D>::ROW + i * 32);
}

// s += a b over D channels, for 16 columns which are rows of the tile at b.
template <int D, int M> __device__ __forceinline__ void scores(float (&s)[M][2][4], const unsigned (&a)[M][D / 16][4], unsigned b) {
#pragma unroll
	for (int i = 0; i < D / 16; i++) {
		unsigned x[4];
		ldmatrix_x4(x, b + i * 32);
#pragma unroll
		for (int m = 0; m < M; m++) {
			mma_m16n8k16(s[m][0], a[m][i], x[0], x[1]);
			mma_m16n8k16(s[m][1], a[m][i], x[2], x[3]);
		}
	}
}
// The same with a in shared memory.
template <int D, int M> __device__ __forceinline__ void scores(float (&s)[M][2][4], unsigned a, unsigned b) {
#pragma unroll
	for (int i = 0; i < D / 16; i++) {
		unsigned x[4], y[4];
		ldmatrix_x4(x, b + i * 32);
#pragma unroll
		for (int m = 0; m < M; m++) {
			ldmatrix_x4(y, a + m * 16 * Layout<D>::ROW + i * 32);
			mma_m16n8k16(s[m][0], y, x[0], x[1]);
			mma_m16n8k16(s[m][1], y, x[2], x[3]);
		}
	}
}

// sum += w x, where w are 16 columns of weights and x is 16 rows of a tile.
template <int D, int M> __device__ __forceinline__ void accumulate(float (&sum)[M][D / 8][4], const float (&w)[M][2][4], unsigned x) {
	unsigned a[M][4];
#pragma unroll
	for (int m = 0; m < M; m++)
#pragma unroll
		for (int i = 0; i < 4; i++) a[m][i] = pack_bf16(w[m][i / 2][i % 2 * 2], w[m][i / 2][i % 2 * 2 + 1]);
#pragma unroll
	for (int j = 0; j < D / 16; j++) {
		unsigned b[4];
		ldmatrix_x4_trans(b, x + j * 32);
#pragma unroll
		for (int m = 0; m < M; m++) {
			mma_m16n8k16(sum[m][2 * j], a[m], b[0], b[1]);
			mma_m16n8k16(sum[m][2 * j + 1], a[m], b[2], b[3]);
		}
	}
}

// Writes a warp's 16*M rows of sums, times scale, to where row(i) begins, through its part of
// shared memory. A null row is left out.
template <int D, int M, class F>
__device__ __forceinline__ void store_rows(unsigned char* memory, const float (&sum)[M][D / 8][4], float scale, int dim, F row) {
	constexpr int ROW = Layout<D>::ROW;
	const int warp = threadIdx.x / 32 % WARPS, lane = threadIdx.x % 32;
	unsigned char* own = memory + warp * 16 * M * ROW;
#pragma unroll
	for (int h = 0; h < 2 * M; h++) {
		unsigned* dst = reinterpret_cast<unsigned*>(own + (h * 8 + lane / 4) * ROW) + lane % 4;
#pragma unroll
		for (int j = 0; j < D / 8; j++) dst[j * 4] = pack_bf16(sum[h / 2][j][h % 2 * 2] * scale, sum[h / 2][j][h % 2 * 2 + 1] * scale);
	}
	__syncwarp();
	for (int n = lane; n < 16 * M * (D / 8); n += 32) {
		const int r = n / (D / 8), c = n % (D / 8);
		bf16* dst = row(warp * 16 * M + r);
		if (dst && c * 8 < dim) *reinterpret_cast<uint4*>(dst + c * 8) = *reinterpret_cast<const uint4*>(own + r * ROW + c * 16);
	}
}
