// What a warp does with tiles in shared memory: products with 32 rows of its own, and how two
// warps share those rows where a head has too many channels for one.
//
// A warp has 32 rows, as two tiles of 16, so that each fragment of keys, values or queries which
// it reads from shared memory serves four products: shared memory delivers less than the tensor
// cores could take. The sums of 32 rows of 256 channels do not fit into a warp's registers. So
// two warps share the rows, and each has half of the channels:
//
//	            channels 0-127              128-255
//	rows  0-15  warp 0, which completes  |  warp 1
//	rows 16-31  warp 0                   |  warp 1, which completes
//
// A score is a sum over all channels. Each warp has the part of its own, for 32 rows; gives its
// partner that of 16 rows, and completes the other 16: both get an even share, and all keys of a
// row meet in one warp, as softmax wants it. Then each gives its partner the finished weights in
// bfloat16, and adds up 32 rows again. All of a sum is either warp's part plus the other's, so its
// bits are the same whichever completes it.
#pragma once
#include "attention.cuh"

template <int D> struct Team {
	static constexpr int SPLIT = D > 128 ? 2 : 1;  // warps that share 32 rows
	static constexpr int CHANNELS = D / SPLIT;     // of each
	static constexpr int OWN = 2 / SPLIT;          // tiles of 16 rows that a warp completes, which are its first
	const int warp;                                // of those with the same operands

	__device__ __forceinline__ int partner() const { return warp ^ 1; }
	__device__ __forceinline__ int row() const { return warp * OWN * 16; }                             // of the first tile
	__device__ __forceinline__ int step() const { return SPLIT > 1 && warp % 2 ? -16 : 16; }           // rows from there to the second
	__device__ __forceinline__ int channel() const { return SPLIT > 1 ? warp % 2 * CHANNELS : 0; }     // the first of its own
	// Waits for the partner.
	__device__ __forceinline__ void sync() const {
#ifndef MUTANT_PAIR
		if (SPLIT > 1) return sync_some(1 + threadIdx.x / 64, 64);
#endif
		__syncwarp();
	}
};

// Loads the operand-A fragments of a warp's rows over C channels; step is from the first tile to
// the second, in bytes.
template <int C> __device__ __forceinline__ void load_fragments(unsigned (&to)[2][C / 16][4], unsigned rows, int step) {
#pragma unroll
	for (int m = 0; m < 2; m++)
#pragma unroll
		for (int i = 0; i < C / 16; i++) ldmatrix_x4(to[m][i], rows + m * step + i * 32);
}

// s += a b over C channels, for 16 columns which are rows of the tile at b.
template <int C> __device__ __forceinline__ void scores(float (&s)[2][2][4], const unsigned (&a)[2][C / 16][4], unsigned b) {
#pragma unroll
	for (int i = 0; i < C / 16; i++) {
		unsigned x[4];
		ldmatrix_x4(x, b + i * 32);
#pragma unroll
		for (int m = 0; m < 2; m++) {
			mma_m16n8k16(s[m][0], a[m][i], x[0], x[1]);
			mma_m16n8k16(s[m][1], a[m][i], x[2], x[3]);
		}
	}
}
// The same with a in shared memory, for 16*N columns: what is read of a serves all of them. row is
// the bytes of a row.
template <int C, int N> __device__ __forceinline__ void scores(float (&s)[2][2 * N][4], unsigned a, int step, unsigned b, int row) {
#pragma unroll
	for (int i = 0; i < C / 16; i++) {
		unsigned x[N][4], y[4];
#pragma unroll
		for (int j = 0; j < N; j++) ldmatrix_x4(x[j], b + j * 16 * row + i * 32);
#pragma unroll
		for (int m = 0; m < 2; m++) {
			ldmatrix_x4(y, a + m * step + i * 32);
#pragma unroll
			for (int j = 0; j < N; j++) {
				mma_m16n8k16(s[m][2 * j], y, x[j][0], x[j][1]);
				mma_m16n8k16(s[m][2 * j + 1], y, x[j][2], x[j][3]);
			}
		}
	}
}

// sum += w x over C channels, where w are 16 columns of weights and x is 16 rows of a tile.
template <int C> __device__ __forceinline__ void accumulate(float (&sum)[2][C / 8][4], const unsigned (&w)[2][4], unsigned x) {
#pragma unroll
	for (int j = 0; j < C / 16; j++) {
		unsigned b[4];
		ldmatrix_x4_trans(b, x + j * 32);
#pragma unroll
		for (int m = 0; m < 2; m++) {
			mma_m16n8k16(sum[m][2 * j], w[m], b[0], b[1]);
			mma_m16n8k16(sum[m][2 * j + 1], w[m], b[2], b[3]);
		}
	}
}

// A place for what one warp leaves and another takes, lane by lane.
using Place = uint4[32];

__device__ __forceinline__ void leave(Place& to, const unsigned (&x)[4]) { to[threadIdx.x % 32] = make_uint4(x[0], x[1], x[2], x[3]); }
__device__ __forceinline__ void take(unsigned (&x)[4], const Place& from) {
	const uint4 y = from[threadIdx.x % 32];
	x[0] = y.x, x[1] = y.y, x[2] = y.z, x[3] = y.w;
}
// The same with sums.
__device__ __forceinline__ void leave(Place& to, const float (&x)[4]) {
	reinterpret_cast<float4*>(to)[threadIdx.x % 32] = make_float4(x[0], x[1], x[2], x[3]);
}
__device__ __forceinline__ void take(float (&x)[4], const Place& from) {
	const float4 y = reinterpret_cast<const float4*>(from)[threadIdx.x % 32];
	x[0] = y.x, x[1] = y.y, x[2] = y.z, x[3] = y.w;
}

// Keeps of x, sums of some columns, those of the warp's own rows, as columns from at on of all, and
// leaves the others to its partner.
template <int D, int W, int X>
__device__ __forceinline__ void give(float (&all)[Team<D>::OWN][W][4], int at, const float (&x)[2][X][4], Place* to) {
#pragma unroll
	for (int m = 0; m < Team<D>::OWN; m++)
#pragma unroll
		for (int i = 0; i < X * 4; i++) all[m][at + i / 4][i % 4] = x[m][i / 4][i % 4];
	if constexpr (Team<D>::SPLIT > 1)
#pragma unroll
		for (int i = 0; i < X; i++) leave(to[at + i], x[1][i]);
}
// Adds to all what the partner gave.
template <int D, int W> __device__ __forceinline__ void get(float (&all)[Team<D>::OWN][W][4], const Place* from) {
	if constexpr (Team<D>::SPLIT > 1)
#pragma unroll
		for (int i = 0; i < W; i++) {
			float x[4];
			take(x, from[i]);
#pragma unroll
			for (int e = 0; e < 4; e++) all[0][i][e] += x[e];
		}
}

// Rounds the weights of 16 columns in a warp's own rows, those from at on, to operand A, and leaves
// them to its partner.
template <int D, int W> __device__ __forceinline__ void round(unsigned (&w)[2][4], const float (&all)[Team<D>::OWN][W][4], int at, Place* to) {
#pragma unroll
	for (int m = 0; m < Team<D>::OWN; m++)
#pragma unroll
		for (int i = 0; i < 4; i++) w[m][i] = pack_bf16(all[m][at + i / 2][i % 2 * 2], all[m][at + i / 2][i % 2 * 2 + 1]);
	if constexpr (Team<D>::SPLIT > 1) leave(to[at / 2], w[0]);
}
// Takes those of the partner's rows.
template <int D> __device__ __forceinline__ void take_other(unsigned (&w)[2][4], const Place& from) {
	if constexpr (Team<D>::SPLIT > 1) take(w[1], from);
}
