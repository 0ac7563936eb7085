#include "device.cuh"

// The product of operands that cublasLt takes only slowly or not at all, because a row does not
// begin at a multiple of 16 bytes: out[i*oi + j] (+)= sum over l of x[i*xi + l*xl] * y[j*yj + l*yl]. A block
// makes a tile of 32x32, a thread 4x4 of it. Every sum runs in the order of l.
constexpr int TILE = 32, STEP = 16, THREADS = 64;

// Loads x[lo+i, at+l] of a tile into to[l][i], zeros outside; neighbouring threads take elements
// that are neighbours in memory.
template <typename T>
__device__ __forceinline__ void load_tile(float (&to)[STEP][TILE + 4], const T* x, long long xi, long long xl, int lo, int rows, int at, int k) {
	for (int e = threadIdx.x; e < TILE * STEP; e += THREADS) {
		const int i = xl == 1 ? e / STEP : e % TILE, l = xl == 1 ? e % STEP : e / TILE;
		to[l][i] = lo + i < rows && at + l < k ? to_float(x[(lo + i) * xi + (at + l) * xl]) : 0.f;
	}
}

template <typename T, typename O>
__device__ __forceinline__ void matmul(O* out, const T* __restrict__ x, const T* __restrict__ y, int m, int n, int k, long long xi, long long xl,
                                       long long yj, long long yl, long long oi, int accumulate) {
	__shared__ __align__(16) float a[STEP][TILE + 4], b[STEP][TILE + 4];
	const int i0 = blockIdx.x * TILE, j0 = blockIdx.y * TILE;  // rows may be many
	const int i = threadIdx.x / 8 * 4, j = threadIdx.x % 8 * 4;
	float sum[4][4] = {};
	for (int at = 0; at < k; at += STEP) {
		load_tile(a, x, xi, xl, i0, m, at, k);
		load_tile(b, y, yj, yl, j0, n, at, k);
		__syncthreads();
#pragma unroll
		for (int l = 0; l < STEP; l++) {
			const float4 p = *reinterpret_cast<const float4*>(&a[l][i]), q = *reinterpret_cast<const float4*>(&b[l][j]);
			const float u[4] = {p.x, p.y, p.z, p.w}, v[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
			for (int r = 0; r < 4; r++)
#pragma unroll
				for (int c = 0; c < 4; c++) sum[r][c] = __fmaf_rn(u[r], v[c], sum[r][c]);
		}
#ifndef MUTANT_NO_SYNC
		__syncthreads();  // the next step overwrites the tiles
#endif
	}
	for (int r = 0; r < 4 && i0 + i + r < m; r++)
		for (int c = 0; c < 4 && j0 + j + c < n; c++) {
			O* to = out + (i0 + i + r) * oi + j0 + j + c;
			set(*to, accumulate ? to_float(*to) + sum[r][c] : sum[r][c]);
		}
}

#define DEFINE(T, O, TYPE)                                                                                                                   \
	extern "C" __global__ void __launch_bounds__(THREADS) matmul_##TYPE(O* out, const T* x, const T* y, int m, int n, int k, long long xi,    \
	                                                                    long long xl, long long yj, long long yl, long long oi,               \
	                                                                    int accumulate) {                                                     \
		matmul<T, O>(out, x, y, m, n, k, xi, xl, yj, yl, oi, accumulate);                                                                     \
	}
DEFINE(bf16, bf16, bf16)
DEFINE(bf16, float, bf16_f32)
DEFINE(float, float, f32)
