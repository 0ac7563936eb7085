// Attention in float32, forward: plain multiply-adds in a fixed order, for runs that want exact
// float32 rather than speed.
#include "attention_f32.cuh"

template <int C>
__device__ __forceinline__ void attention_f32(float* __restrict__ out, float* __restrict__ lse, const float* __restrict__ qkv,
                                              const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim, int window, float scale) {
	constexpr int WIDTH = Shape<C>::WIDTH, ODD = Shape<C>::ODD;
	extern __shared__ __align__(16) float memory[];
	float *keys = memory, *values = keys + OTHERS * ODD, *queries = values + OTHERS * ODD;
	const QueryTile t = tiles[blockIdx.x];
	const Group group = Group::of(q_heads / kv_heads);
	const int kv = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const size_t stride = (size_t)(q_heads + 2 * kv_heads) * dim;

	float o[OWN][C] = {}, top[OWN], sum[OWN] = {};
	int number[OWN];
#pragma unroll
	for (int r = 0; r < OWN; r++) {
		const int p = min(t.first + warp * OWN + r, t.end - 1);
		copy_row<C>(queries + (warp * OWN + r) * WIDTH, qkv + (t.row + group.row(p)) * stride + (kv * group.heads + group.head(p)) * dim, dim);
		number[r] = t.number + group.row(p);
		top[r] = -INFINITY;
	}
	for (int i = t.begin; i < t.limit; i++) {
		__syncthreads();
		for (int r = warp; r < OTHERS; r += WARPS) {
			const float* k = qkv + key_row(t.keys, i * OTHERS + r) * stride + (q_heads + kv) * dim;
			copy_row<C>(keys + r * ODD, k, dim);
			copy_row<C>(values + r * ODD, k + kv_heads * dim, dim);
		}
		__syncthreads();
		float s[OWN] = {};
		dots<C>(s, queries + warp * OWN * WIDTH, keys + lane * ODD, dim);
#pragma unroll
		for (int r = 0; r < OWN; r++) {
			const bool seen = (unsigned)(number[r] - i * OTHERS - lane) < (unsigned)window;
			const float x = seen ? s[r] * scale : -INFINITY;
			const float now = fmaxf(top[r], warp_max(x)), base = now == -INFINITY ? 0.f : now;
			const float fade = expf(top[r] - base), p = expf(x - base);
			top[r] = now;
			sum[r] = __fmaf_rn(sum[r], fade, p);
#pragma unroll
			for (int c = 0; c < C; c++) o[r][c] *= fade;
			add_weighted<C>(o[r], p, values);
		}
	}
#pragma unroll
	for (int r = 0; r < OWN; r++) {
		const float total = warp_sum(sum[r]);
		const int p = t.first + warp * OWN + r;
		if (p >= t.end) continue;
		const size_t at = (size_t)(t.row + group.row(p)) * q_heads + kv * group.heads + group.head(p);
		if (lane == 0) lse[at] = top[r] + logf(total);
#pragma unroll
		for (int c = 0; c < C; c++)
			if (c * 32 + lane < dim) out[at * dim + c * 32 + lane] = __fdividef(o[r][c], total);
	}
}

#define F32(D)                                                                                                                           \
	extern "C" __global__ void __launch_bounds__(THREADS, 4)                                                                               \
	    attention_f32_##D(float* __restrict__ out, float* __restrict__ lse, const float* __restrict__ qkv, const QueryTile* __restrict__ tiles, \
	                      int q_heads, int kv_heads, int dim, int window, float scale) {                                                \
		attention_f32<D / 32>(out, lse, qkv, tiles, q_heads, kv_heads, dim, window, scale);                                             \
	}
F32(32)
F32(64)
F32(128)
F32(256)
