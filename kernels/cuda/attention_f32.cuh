// What the float32 kernels of attention share. A block has 16 rows of its own, queries or, for
// dK and dV, keys; a warp has four of them. The other rows come 32 at a time: a lane has one of
// them while products over channels are computed, and channels lane, lane+32, ... while
// weighted rows are added up. C is the number of those channels.
#pragma once
#include "attention.cuh"

constexpr int ROWS = 16, OTHERS = 32, OWN = ROWS / WARPS;

template <int C> struct Shape {
	static constexpr int WIDTH = 32 * C;
	static constexpr int ODD = WIDTH + 1;  // of a row that lanes read one channel of: 32 rows lie in 32 banks
};

// Copies channels of one row into shared memory by the lanes of a warp, zeros from dim on.
template <int C> __device__ __forceinline__ void copy_row(float* dst, const float* src, int dim) {
	const int lane = threadIdx.x % 32;
#pragma unroll
	for (int c = 0; c < C; c++) dst[c * 32 + lane] = c * 32 + lane < dim ? src[c * 32 + lane] : 0.f;
}

// s[r] = own row r times the lane's other row.
template <int C> __device__ __forceinline__ void dots(float (&s)[OWN], const float* own, const float* other, int dim) {
#pragma unroll 4
	for (int d = 0; d < dim; d++)
#pragma unroll
		for (int r = 0; r < OWN; r++) s[r] = __fmaf_rn(own[r * Shape<C>::WIDTH + d], other[d], s[r]);
}

// sum += the other rows, each times the weight that its lane has.
template <int C> __device__ __forceinline__ void add_weighted(float (&sum)[C], float weight, const float* others) {
#pragma unroll 4
	for (int k = 0; k < OTHERS; k++) {
		const float w = __shfl_sync(0xffffffffu, weight, k);
#pragma unroll
		for (int c = 0; c < C; c++) sum[c] = __fmaf_rn(w, others[k * Shape<C>::ODD + c * 32 + threadIdx.x % 32], sum[c]);
	}
}

// Writes the lane's channels of one row.
template <int C> __device__ __forceinline__ void store_row(float* dst, const float (&sum)[C], float scale, int dim) {
#pragma unroll
	for (int c = 0; c < C; c++)
		if (c * 32 + (int)threadIdx.x % 32 < dim) dst[c * 32 + threadIdx.x % 32] = sum[c] * scale;
}
