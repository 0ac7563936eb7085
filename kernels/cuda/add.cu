#include "device.cuh"

// out = a + b, flat; out may be a or b.
template <typename T, bool V> __device__ __forceinline__ void add(T* out, const T* a, const T* b, long long n) {
	const long long at = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * PACK;
#ifdef MUTANT_WHOLE_PACKS
	if (at + PACK > n) return;
#else
	if (at >= n) return;
#endif
	const int left = (int)min(n - at, (long long)PACK);
	float x[PACK], y[PACK];
	load8<V>(x, a + at, left);
	load8<V>(y, b + at, left);
#pragma unroll
	for (int i = 0; i < PACK; i++) x[i] += y[i];
	store8<V>(out + at, x, left);
}

// x[row] += bias; rows in grid.x, packs of columns in grid.y.
template <typename T, bool V> __device__ __forceinline__ void add_bias(T* x, const T* bias, int cols) {
	const int at = (blockIdx.y * blockDim.x + threadIdx.x) * PACK, left = cols - at;
	if (left <= 0) return;
	T* p = x + (size_t)blockIdx.x * cols + at;
	float v[PACK], b[PACK];
	load8<V>(v, p, left);
#ifdef MUTANT_SAME_BIAS
	load8<V>(b, bias, left);
#else
	load8<V>(b, bias + at, left);
#endif
#pragma unroll
	for (int i = 0; i < PACK; i++) v[i] += b[i];
	store8<V>(p, v, left);
}

// parts[chunk] = the sum of a chunk's rows of dout; chunks in grid.y.
template <typename T, bool V>
__device__ __forceinline__ void column_parts(float* __restrict__ parts, const T* __restrict__ dout, int rows, int cols, int chunk) {
	const int at = (blockIdx.x * blockDim.x + threadIdx.x) * PACK, left = cols - at;
	if (left <= 0) return;
	const int lo = blockIdx.y * chunk;
#ifdef MUTANT_LAST_ROW
	const int hi = min(rows - 1, lo + chunk);
#else
	const int hi = min(rows, lo + chunk);
#endif
	float sum[PACK] = {};
	for (int r = lo; r < hi; r++) {
		float d[PACK];
		load8<V>(d, dout + (size_t)r * cols + at, left);
#pragma unroll
		for (int i = 0; i < PACK; i++) sum[i] += d[i];
	}
	store8<V>(parts + (size_t)blockIdx.y * cols + at, sum, left);
}

#define DEFINE(T, TYPE)                                                                                                                       \
	extern "C" __global__ void __launch_bounds__(256) add_##TYPE(T* out, const T* a, const T* b, long long n, int vec) {                       \
		vec ? add<T, true>(out, a, b, n) : add<T, false>(out, a, b, n);                                                                        \
	}                                                                                                                                         \
	extern "C" __global__ void __launch_bounds__(256) add_bias_##TYPE(T* x, const T* bias, int cols, int vec) {                                \
		vec ? add_bias<T, true>(x, bias, cols) : add_bias<T, false>(x, bias, cols);                                                            \
	}                                                                                                                                         \
	extern "C" __global__ void __launch_bounds__(128) column_parts_##TYPE(float* parts, const T* dout, int rows, int cols, int chunk, int vec) { \
		vec ? column_parts<T, true>(parts, dout, rows, cols, chunk) : column_parts<T, false>(parts, dout, rows, cols, chunk);                  \
	}
DEFINE(bf16, bf16)
DEFINE(float, f32)

// out += the sum of count parts, one after the other.
extern "C" __global__ void __launch_bounds__(128) sum_parts(float* __restrict__ out, const float* __restrict__ parts, int count, int cols) {
	const int at = blockIdx.x * blockDim.x + threadIdx.x;
	if (at >= cols) return;
	float sum = 0;
#pragma unroll 8
	for (int i = 0; i < count; i++) sum += parts[(size_t)i * cols + at];
#ifdef MUTANT_OVERWRITE
	out[at] = sum;
#else
	out[at] += sum;
#endif
}
