#include "device.cuh"

constexpr int CHUNK = 8192;  // elements of a block, whatever the size of the tensor

template <bool V> __device__ __forceinline__ void load(float (&v)[PACK], const bf16* p, int left) { load8<V>(v, p, left); }
template <bool V> __device__ __forceinline__ void load(float (&v)[QUAD], const float* p, int left) { load4<V>(v, p, left); }

// partial[block] = the sum of the squares of the block's elements.
template <typename T, bool V> __device__ __forceinline__ void sum_squares(double* __restrict__ partial, const T* __restrict__ x, long long n) {
	__shared__ double warps[32];
	double sum = 0;
	constexpr int N = 16 / sizeof(T);  // elements of a thread at a time
	for (int i = threadIdx.x * N; i < CHUNK; i += blockDim.x * N) {
		const long long at = (long long)blockIdx.x * CHUNK + i;
		if (at >= n) break;
		float v[N];
		load<V>(v, x + at, (int)min(n - at, (long long)N));
#pragma unroll
#ifdef MUTANT_FLOAT
		for (int j = 0; j < N; j++) sum += v[j] * v[j];
#else
		for (int j = 0; j < N; j++) sum += (double)v[j] * (double)v[j];
#endif
	}
	sum = block_sum(sum, warps);
	if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

#define DEFINE(T, TYPE)                                                                                                 \
	extern "C" __global__ void __launch_bounds__(256) sum_squares_##TYPE(double* partial, const T* x, long long n, int vec) { \
		vec ? sum_squares<T, true>(partial, x, n) : sum_squares<T, false>(partial, x, n);                                \
	}
DEFINE(bf16, bf16)
DEFINE(float, f32)

// *out += the sum of count partial sums; one block.
extern "C" __global__ void __launch_bounds__(256) sum_partial(double* __restrict__ out, const double* __restrict__ partial, int count) {
	__shared__ double warps[32];
	double sum = 0;
	for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
	sum = block_sum(sum, warps);
#ifdef MUTANT_OVERWRITE
	if (threadIdx.x == 0) *out = sum;
#else
	if (threadIdx.x == 0) *out += sum;
#endif
}
