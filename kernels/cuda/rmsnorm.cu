#include "device.cuh"

// out = x * rstd * w with rstd = 1/sqrt(mean(x^2) + eps); one block per row.
template <typename T, bool V>
__device__ __forceinline__ void rmsnorm(T* __restrict__ out, float* __restrict__ rstd, const T* __restrict__ x, const T* __restrict__ w,
                                        int cols, float eps) {
	__shared__ float partial[32];
	const size_t row = (size_t)blockIdx.x * cols;
	float sum = 0;
	for (int at = threadIdx.x * PACK; at < cols; at += blockDim.x * PACK) {
		float v[PACK];
		load8<V>(v, x + row + at, cols - at);
#pragma unroll
		for (int i = 0; i < PACK; i++) sum += v[i] * v[i];
	}
#ifdef MUTANT_NO_EPS
	const float r = 1.f / sqrtf(block_sum(sum, partial) / cols);
#else
	const float r = 1.f / sqrtf(block_sum(sum, partial) / cols + eps);
#endif
	if (threadIdx.x == 0) rstd[blockIdx.x] = r;
	for (int at = threadIdx.x * PACK; at < cols; at += blockDim.x * PACK) {
		float v[PACK], g[PACK];
		load8<V>(v, x + row + at, cols - at);
		load8<V>(g, w + at, cols - at);
#pragma unroll
		for (int i = 0; i < PACK; i++) v[i] = v[i] * r * g[i];
		store8<V>(out + row + at, v, cols - at);
	}
}

// dx += rstd * (dout*w - x * rstd * mean(dout*w*x*rstd)); one block per row.
template <typename T, bool V>
__device__ __forceinline__ void rmsnorm_back(T* dx, const T* __restrict__ dout, const T* __restrict__ x, const T* __restrict__ w,
                                             const float* __restrict__ rstd, int cols) {
	__shared__ float partial[32];
	const size_t row = (size_t)blockIdx.x * cols;
	float sum = 0;
	for (int at = threadIdx.x * PACK; at < cols; at += blockDim.x * PACK) {
		float d[PACK], v[PACK], g[PACK];
		load8<V>(d, dout + row + at, cols - at);
		load8<V>(v, x + row + at, cols - at);
		load8<V>(g, w + at, cols - at);
#pragma unroll
		for (int i = 0; i < PACK; i++) sum += d[i] * g[i] * v[i];
	}
	const float r = rstd[blockIdx.x], mean = block_sum(sum, partial) * r * r / cols;
	for (int at = threadIdx.x * PACK; at < cols; at += blockDim.x * PACK) {
		float d[PACK], v[PACK], g[PACK], to[PACK];
		load8<V>(d, dout + row + at, cols - at);
		load8<V>(v, x + row + at, cols - at);
		load8<V>(g, w + at, cols - at);
		load8<V>(to, dx + row + at, cols - at);
#pragma unroll
#ifdef MUTANT_OVERWRITE
		for (int i = 0; i < PACK; i++) to[i] = r * (d[i] * g[i] - v[i] * mean);
#else
		for (int i = 0; i < PACK; i++) to[i] += r * (d[i] * g[i] - v[i] * mean);
#endif
		store8<V>(dx + row + at, to, cols - at);
	}
}

// parts[chunk] = the sum of dout * x * rstd over a chunk's rows; chunks in grid.y. sum_parts of
// add.cu adds them to dw.
template <typename T, bool V>
__device__ __forceinline__ void rmsnorm_parts(float* __restrict__ parts, const T* __restrict__ dout, const T* __restrict__ x,
                                              const float* __restrict__ rstd, int rows, int cols, int chunk) {
	const int at = (blockIdx.x * blockDim.x + threadIdx.x) * PACK, left = cols - at;
	if (left <= 0) return;
	const int lo = blockIdx.y * chunk, hi = min(rows, lo + chunk);
	float sum[PACK] = {};
	for (int r = lo; r < hi; r++) {
		float d[PACK], v[PACK];
		load8<V>(d, dout + (size_t)r * cols + at, left);
		load8<V>(v, x + (size_t)r * cols + at, left);
#ifdef MUTANT_FIRST_RSTD
		const float s = rstd[lo];
#else
		const float s = rstd[r];
#endif
#pragma unroll
		for (int i = 0; i < PACK; i++) sum[i] += d[i] * (v[i] * s);
	}
	store8<V>(parts + (size_t)blockIdx.y * cols + at, sum, left);
}

#define DEFINE(T, TYPE)                                                                                                                   \
	extern "C" __global__ void __launch_bounds__(256)                                                                                     \
	rmsnorm_##TYPE(T* out, float* rstd, const T* x, const T* w, int cols, float eps, int vec) {                                            \
		vec ? rmsnorm<T, true>(out, rstd, x, w, cols, eps) : rmsnorm<T, false>(out, rstd, x, w, cols, eps);                                \
	}                                                                                                                                     \
	extern "C" __global__ void __launch_bounds__(256)                                                                                     \
	rmsnorm_back_##TYPE(T* dx, const T* dout, const T* x, const T* w, const float* rstd, int cols, int vec) {                              \
		vec ? rmsnorm_back<T, true>(dx, dout, x, w, rstd, cols) : rmsnorm_back<T, false>(dx, dout, x, w, rstd, cols);                      \
	}                                                                                                                                     \
	extern "C" __global__ void __launch_bounds__(128)                                                                                     \
	rmsnorm_parts_##TYPE(float* parts, const T* dout, const T* x, const float* rstd, int rows, int cols, int chunk, int vec) {              \
		vec ? rmsnorm_parts<T, true>(parts, dout, x, rstd, rows, cols, chunk) : rmsnorm_parts<T, false>(parts, dout, x, rstd, rows, cols, chunk); \
	}
DEFINE(bf16, bf16)
DEFINE(float, f32)
