#include "device.cuh"

// Rotates the first `heads` heads of each row of qkv in place; one block per row. Row p of table
// holds dim/2 cosines, then dim/2 sines; channel j pairs with channel j+dim/2. sign is -1 to
// rotate back.
template <typename T, bool V>
__device__ __forceinline__ void rope(T* qkv, const int* __restrict__ pos, const float* __restrict__ table, int* fault, int operation,
                                     int positions, int stride, int heads, int dim, float sign) {
	const int p = pos[blockIdx.x];
	if (!in_range(p, positions, fault, operation)) return;
	const int half = dim / 2, packs = (half + PACK - 1) / PACK;
	const float* angles = table + (size_t)p * dim;
	for (int i = threadIdx.x; i < heads * packs; i += blockDim.x) {
		const int j = i % packs * PACK, left = half - j;
		T* lo = qkv + (size_t)blockIdx.x * stride + i / packs * dim + j;
		T* hi = lo + half;
		float a[PACK], b[PACK], c[PACK], s[PACK];
		load8<V>(a, lo, left);
		load8<V>(b, hi, left);
		load8<V>(c, angles + j, left);
		load8<V>(s, angles + half + j, left);
#pragma unroll
		for (int e = 0; e < PACK; e++) {
#ifdef MUTANT_NOT_INVERTED
			const float sine = s[e], x = a[e];
#else
			const float sine = sign * s[e], x = a[e];
#endif
			a[e] = x * c[e] - b[e] * sine;
			b[e] = b[e] * c[e] + x * sine;
		}
		store8<V>(lo, a, left);
		store8<V>(hi, b, left);
	}
}

#define DEFINE(T, TYPE)                                                                                                                     \
	extern "C" __global__ void __launch_bounds__(256) rope_##TYPE(T* qkv, const int* pos, const float* table, int* fault, int operation,     \
	                                                              int positions, int stride, int heads, int dim, float sign, int vec) {     \
		vec ? rope<T, true>(qkv, pos, table, fault, operation, positions, stride, heads, dim, sign)                                          \
		    : rope<T, false>(qkv, pos, table, fault, operation, positions, stride, heads, dim, sign);                                        \
	}
DEFINE(bf16, bf16)
DEFINE(float, f32)
