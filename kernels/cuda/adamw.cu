#include "device.cuh"

// One step of AdamW on float32 weights p; param, unless it is p itself, becomes p rounded. lr is
// divided by 1-beta1^t, correct is 1/sqrt(1-beta2^t), keep is 1 - lr*weight_decay.
template <typename T, bool V>
__device__ __forceinline__ void adamw(T* param, float* p, float* m, float* v, const float* grad, long long n, float lr, float beta1,
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
	store4<V>(p + at, w, left);
	if ((void*)param != (void*)p) store4<V>(param + at, w, left);
}

#define DEFINE(T, TYPE)                                                                                                                     \
	extern "C" __global__ void __launch_bounds__(256)                                                                                       \
	adamw_##TYPE(T* param, float* p, float* m, float* v, const float* grad, long long n, float lr, float beta1, float rest1, float beta2,      \
	             float rest2, float correct, float eps, float keep, float scale, int vec) {                                                  \
		vec ? adamw<T, true>(param, p, m, v, grad, n, lr, beta1, rest1, beta2, rest2, correct, eps, keep, scale)                             \
		    : adamw<T, false>(param, p, m, v, grad, n, lr, beta1, rest1, beta2, rest2, correct, eps, keep, scale);                           \
	}
DEFINE(bf16, bf16)
DEFINE(float, f32)
