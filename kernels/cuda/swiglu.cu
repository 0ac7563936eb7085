#include "device.cuh"

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.f, 1.f + expf(-x)); }

// out = silu(gate) * up, where gate_up is gate | up by columns; rows in grid.x.
template <typename T, bool V> __device__ __forceinline__ void swiglu(T* __restrict__ out, const T* __restrict__ gate_up, int cols) {
	const int at = (blockIdx.y * blockDim.x + threadIdx.x) * PACK, left = cols - at;
	if (left <= 0) return;
	const T* gate = gate_up + (size_t)blockIdx.x * 2 * cols + at;
	float g[PACK], u[PACK];
	load8<V>(g, gate, left);
	load8<V>(u, gate + cols, left);
#pragma unroll
#ifdef MUTANT_SWAPPED
	for (int i = 0; i < PACK; i++) g[i] = u[i] * sigmoid(u[i]) * g[i];
#else
	for (int i = 0; i < PACK; i++) g[i] = g[i] * sigmoid(g[i]) * u[i];
#endif
	store8<V>(out + (size_t)blockIdx.x * cols + at, g, left);
}

template <typename T, bool V>
__device__ __forceinline__ void swiglu_back(T* __restrict__ dgate_up, const T* __restrict__ dout, const T* __restrict__ gate_up, int cols) {
	const int at = (blockIdx.y * blockDim.x + threadIdx.x) * PACK, left = cols - at;
	if (left <= 0) return;
	const size_t gate = (size_t)blockIdx.x * 2 * cols + at, up = gate + cols;
	float g[PACK], u[PACK], d[PACK], dg[PACK], du[PACK];
	load8<V>(g, gate_up + gate, left);
	load8<V>(u, gate_up + up, left);
	load8<V>(d, dout + (size_t)blockIdx.x * cols + at, left);
#pragma unroll
	for (int i = 0; i < PACK; i++) {
		// 1-s as a product: the difference would cancel, and the gate multiplies what is lost
		const float e = expf(-fabsf(g[i])), larger = __fdividef(1.f, 1.f + e), smaller = e * larger;
		const float s = g[i] < 0.f ? smaller : larger, rest = g[i] < 0.f ? larger : smaller;
#ifdef MUTANT_SLOPE
		dg[i] = d[i] * u[i] * s;
#else
		dg[i] = d[i] * u[i] * s * (1.f + g[i] * rest);
#endif
		du[i] = d[i] * g[i] * s;
	}
	store8<V>(dgate_up + gate, dg, left);
	store8<V>(dgate_up + up, du, left);
}

#define DEFINE(T, TYPE)                                                                                                         \
	extern "C" __global__ void __launch_bounds__(256) swiglu_##TYPE(T* out, const T* gate_up, int cols, int vec) {               \
		vec ? swiglu<T, true>(out, gate_up, cols) : swiglu<T, false>(out, gate_up, cols);                                        \
	}                                                                                                                           \
	extern "C" __global__ void __launch_bounds__(256)                                                                           \
	swiglu_back_##TYPE(T* dgate_up, const T* dout, const T* gate_up, int cols, int vec) {                                        \
		vec ? swiglu_back<T, true>(dgate_up, dout, gate_up, cols) : swiglu_back<T, false>(dgate_up, dout, gate_up, cols);        \
	}
DEFINE(bf16, bf16)
DEFINE(float, f32)
