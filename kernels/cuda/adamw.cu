#include "device.cuh"

// The numbers of an update; see kernels.Dither.
struct Dither {
	unsigned low, high;
};

__device__ __forceinline__ unsigned mix(unsigned x) {
	x = (x ^ x >> 16) * 0x7feb352du;
	x = (x ^ x >> 15) * 0x846ca68bu;
	return x ^ x >> 16;
}

// x, which is element i, rounded to bfloat16 by its number.
__device__ __forceinline__ unsigned rounded(float x, long long i, Dither d) {
#ifdef MUTANT_NUMBER_OF_QUAD
	i -= i % QUAD;
#endif
	const unsigned number = mix(mix((unsigned)i ^ d.low) ^ (unsigned)(i >> 32) ^ d.high) >> 16;
	const unsigned bits = __float_as_uint(x);
	return x == x ? bits + number >> 16 : bits >> 16 | 0x40;  // quiet, so that cutting the payload leaves a NaN
}

// Stores the first min(4, left) elements of v, from element i.
template <bool V> __device__ __forceinline__ void store4(bf16* p, const float (&v)[QUAD], int left, long long i, Dither d) {
	unsigned r[QUAD];
#pragma unroll
	for (int k = 0; k < QUAD; k++) r[k] = rounded(v[k], i + k, d);
	if constexpr (V) {
		*reinterpret_cast<uint2*>(p) = make_uint2(r[0] | r[1] << 16, r[2] | r[3] << 16);
	} else {
#pragma unroll
		for (int k = 0; k < QUAD; k++)
			if (k < left) p[k] = (bf16)r[k];
	}
}

// One step of AdamW on weights p. They are float32, and param, unless it is p itself, becomes p
// rounded to nearest; or they are bfloat16, param itself, and rounded by d. lr is divided by
// 1-beta1^t, correct is 1/sqrt(1-beta2^t), keep is 1 - lr*weight_decay.
template <bool V, typename T, typename W>
__device__ __forceinline__ void adamw(T* param, W* p, float* m, float* v, const float* grad, long long n, Dither d, float lr, float beta1,
                                      float rest1, float beta2, float rest2, float correct, float eps, float keep, float scale) {
	const long long at = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * QUAD;
	if (at >= n) return;
	const int left = (int)min(n - at, (long long)QUAD);
	float w[QUAD], a[QUAD], b[QUAD], g[QUAD];
	load4<V>(w, p + at, left);
	load4<V>(a, m + at, left);
	load4<V>(b, v + at, left);
	load4<V>(g, grad + at, left);
#pragma unroll
	for (int i = 0; i < QUAD; i++) {
		const float e = g[i] * scale;
		a[i] = beta1 * a[i] + rest1 * e;
		b[i] = beta2 * b[i] + rest2 * e * e;
#ifdef MUTANT_EPS_INSIDE
		w[i] = w[i] * keep - lr * a[i] / (sqrtf(b[i] + eps) * correct);
#else
		w[i] = w[i] * keep - lr * a[i] / (sqrtf(b[i]) * correct + eps);
#endif
	}
	store4<V>(m + at, a, left);
	store4<V>(v + at, b, left);
	if constexpr (sizeof(W) == sizeof(bf16)) {
		store4<V>(p + at, w, left, at, d);
	} else {
		store4<V>(p + at, w, left);
		if ((void*)param != (void*)p) store4<V>(param + at, w, left);
	}
}

#define DEFINE(T, TYPE)                                                                                                                     \
	extern "C" __global__ void __launch_bounds__(256)                                                                                       \
	adamw_##TYPE(T* param, float* p, float* m, float* v, const float* grad, long long n, float lr, float beta1, float rest1, float beta2,      \
	             float rest2, float correct, float eps, float keep, float scale, int vec) {                                                  \
		vec ? adamw<true>(param, p, m, v, grad, n, {}, lr, beta1, rest1, beta2, rest2, correct, eps, keep, scale)                            \
		    : adamw<false>(param, p, m, v, grad, n, {}, lr, beta1, rest1, beta2, rest2, correct, eps, keep, scale);                          \
	}
DEFINE(bf16, bf16)
DEFINE(float, f32)

extern "C" __global__ void __launch_bounds__(256)
adamw_stochastic_bf16(bf16* p, float* m, float* v, const float* grad, long long n, unsigned low, unsigned high, float lr, float beta1,
                      float rest1, float beta2, float rest2, float correct, float eps, float keep, float scale, int vec) {
	vec ? adamw<true>(p, p, m, v, grad, n, {low, high}, lr, beta1, rest1, beta2, rest2, correct, eps, keep, scale)
	    : adamw<false>(p, p, m, v, grad, n, {low, high}, lr, beta1, rest1, beta2, rest2, correct, eps, keep, scale);
}
