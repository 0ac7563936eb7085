#include "device.cuh"

// score[i] = x[rows[i]] . w; one block per score.
template <typename T, bool V>
__device__ __forceinline__ void value_head(float* __restrict__ score, const T* __restrict__ x, const int* __restrict__ rows,
                                           const T* __restrict__ w, int* fault, int operation, int limit, int cols) {
	__shared__ float partial[32];
	const int row = rows[blockIdx.x];
	if (!in_range(row, limit, fault, operation)) return;
	float sum = 0;
	for (int at = threadIdx.x * PACK; at < cols; at += blockDim.x * PACK) {
		float v[PACK], g[PACK];
#ifdef MUTANT_FIRST_ROWS
		load8<V>(v, x + (size_t)blockIdx.x * cols + at, cols - at);
#else
		load8<V>(v, x + (size_t)row * cols + at, cols - at);
#endif
		load8<V>(g, w + at, cols - at);
#pragma unroll
		for (int i = 0; i < PACK; i++) sum += v[i] * g[i];
	}
	sum = block_sum(sum, partial);
	if (threadIdx.x == 0) score[blockIdx.x] = sum;
}

// dx[rows[i]] = the sum of dscore[i] * w over the i of the same row, in order; dx is zero before.
// next and follows are those of link_rows in embed.cu.
template <typename T, bool V>
__device__ __forceinline__ void value_head_dx(T* __restrict__ dx, const float* __restrict__ dscore, const int* __restrict__ rows,
                                              const int* __restrict__ next, const int* __restrict__ follows, const T* __restrict__ w,
                                              int n, int limit, int cols) {
	const int first = blockIdx.x, row = rows[first];
	if (follows[first] || row < 0 || row >= limit) return;
	float d = 0;
#ifdef MUTANT_FIRST_SCORE
	d = dscore[first];
#else
	for (int i = first; i < n; i = next[i]) d += dscore[i];
#endif
	for (int at = threadIdx.x * PACK; at < cols; at += blockDim.x * PACK) {
		float g[PACK];
		load8<V>(g, w + at, cols - at);
#pragma unroll
		for (int i = 0; i < PACK; i++) g[i] *= d;
		store8<V>(dx + (size_t)row * cols + at, g, cols - at);
	}
}

// dw += the sum of dscore[i] * x[rows[i]], in order.
template <typename T, bool V>
__device__ __forceinline__ void value_head_dw(float* __restrict__ dw, const float* __restrict__ dscore, const T* __restrict__ x,
                                              const int* __restrict__ rows, int n, int limit, int cols) {
	const int at = (blockIdx.x * blockDim.x + threadIdx.x) * PACK, left = cols - at;
	if (left <= 0) return;
	float sum[PACK];
	load8<V>(sum, dw + at, left);
#ifdef MUTANT_OVERWRITE
	for (int i = 0; i < PACK; i++) sum[i] = 0;
#endif
	for (int i = 0; i < n; i++) {
		const int row = rows[i];
		if (row < 0 || row >= limit) continue;
		const float d = dscore[i];
		float v[PACK];
		load8<V>(v, x + (size_t)row * cols + at, left);
#pragma unroll
		for (int e = 0; e < PACK; e++) sum[e] += d * v[e];
	}
	store8<V>(dw + at, sum, left);
}

#define DEFINE(T, TYPE)                                                                                                                 \
	extern "C" __global__ void __launch_bounds__(256)                                                                                   \
	value_head_##TYPE(float* score, const T* x, const int* rows, const T* w, int* fault, int operation, int limit, int cols, int vec) {  \
		vec ? value_head<T, true>(score, x, rows, w, fault, operation, limit, cols)                                                      \
		    : value_head<T, false>(score, x, rows, w, fault, operation, limit, cols);                                                    \
	}                                                                                                                                   \
	extern "C" __global__ void __launch_bounds__(256)                                                                                   \
	value_head_dx_##TYPE(T* dx, const float* dscore, const int* rows, const int* next, const int* follows, const T* w, int n, int limit,  \
	                     int cols, int vec) {                                                                                           \
		vec ? value_head_dx<T, true>(dx, dscore, rows, next, follows, w, n, limit, cols)                                                 \
		    : value_head_dx<T, false>(dx, dscore, rows, next, follows, w, n, limit, cols);                                               \
	}                                                                                                                                   \
	extern "C" __global__ void __launch_bounds__(128)                                                                                   \
	value_head_dw_##TYPE(float* dw, const float* dscore, const T* x, const int* rows, int n, int limit, int cols, int vec) {              \
		vec ? value_head_dw<T, true>(dw, dscore, x, rows, n, limit, cols) : value_head_dw<T, false>(dw, dscore, x, rows, n, limit, cols); \
	}
DEFINE(bf16, bf16)
DEFINE(float, f32)
