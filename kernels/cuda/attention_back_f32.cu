// The gradients of attention in float32: the sums of attention_back.cu in a fixed order of plain
// multiply-adds.
#include "attention_f32.cuh"

template <int C>
__device__ __forceinline__ void back_q(float* __restrict__ dqkv, const float* __restrict__ dout, const RowStat* __restrict__ stats,
                                       const float* __restrict__ qkv, const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim, int window,
                                       float scale) {
	constexpr int WIDTH = Shape<C>::WIDTH, ODD = Shape<C>::ODD;
	extern __shared__ __align__(16) float memory[];
	float *keys = memory, *values = keys + OTHERS * ODD, *queries = values + OTHERS * ODD, *gradients = queries + ROWS * WIDTH;
	const QueryTile t = tiles[blockIdx.x];
	const Group group = Group::of(q_heads / kv_heads);
	const int kv = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const size_t stride = (size_t)(q_heads + 2 * kv_heads) * dim;

	float dq[OWN][C] = {};
	RowStat stat[OWN];
	int number[OWN];
#pragma unroll
	for (int r = 0; r < OWN; r++) {
		const int p = min(t.first + warp * OWN + r, t.end - 1), head = kv * group.heads + group.head(p);
		const size_t row = t.row + group.row(p), at = row * q_heads + head;
		copy_row<C>(queries + (warp * OWN + r) * WIDTH, qkv + row * stride + head * dim, dim);
		copy_row<C>(gradients + (warp * OWN + r) * WIDTH, dout + at * dim, dim);
		stat[r] = stats[at], number[r] = t.number + group.row(p);
	}
	for (int i = t.begin; i < t.limit; i++) {
		__syncthreads();
		for (int r = warp; r < OTHERS; r += WARPS) {
			const float* k = qkv + key_row(t.keys, i * OTHERS + r) * stride + (q_heads + kv) * dim;
			copy_row<C>(keys + r * ODD, k, dim);
			copy_row<C>(values + r * ODD, k + kv_heads * dim, dim);
		}
		__syncthreads();
		float s[OWN] = {}, d[OWN] = {};
		dots<C>(s, queries + warp * OWN * WIDTH, keys + lane * ODD, dim);
		dots<C>(d, gradients + warp * OWN * WIDTH, values + lane * ODD, dim);
#pragma unroll
		for (int r = 0; r < OWN; r++) {
			const bool seen = (unsigned)(number[r] - i * OTHERS - lane) < (unsigned)window;
			add_weighted<C>(dq[r], seen ? expf(s[r] * scale - stat[r].lse) * (d[r] - stat[r].delta) : 0.f, keys);
		}
	}
#pragma unroll
	for (int r = 0; r < OWN; r++) {
		const int p = t.first + warp * OWN + r;
		if (p < t.end) store_row<C>(dqkv + (t.row + group.row(p)) * stride + (kv * group.heads + group.head(p)) * dim, dq[r], scale, dim);
	}
}

template <int C>
__device__ __forceinline__ void back_kv(float* __restrict__ dqkv, const float* __restrict__ dout, const RowStat* __restrict__ stats,
                                        const float* __restrict__ qkv, const KeyTile* __restrict__ tiles, const QueryRun* __restrict__ runs, int q_heads,
                                        int kv_heads, int dim, int window, float scale) {
	constexpr int WIDTH = Shape<C>::WIDTH, ODD = Shape<C>::ODD;
	extern __shared__ __align__(16) float memory[];
	float *queries = memory, *gradients = queries + OTHERS * ODD, *keys = gradients + OTHERS * ODD, *values = keys + ROWS * WIDTH;
	const KeyTile t = tiles[blockIdx.x];
	const Group group = Group::of(q_heads / kv_heads);
	const int kv = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const size_t stride = (size_t)(q_heads + 2 * kv_heads) * dim;
	const int key_column = (q_heads + kv) * dim, value_column = key_column + kv_heads * dim;

	float dk[OWN][C] = {}, dv[OWN][C] = {};
#pragma unroll
	for (int r = 0; r < OWN; r++) {
		const float* row = qkv + (t.row + min(warp * OWN + r, t.rows - 1)) * stride;
		copy_row<C>(keys + (warp * OWN + r) * WIDTH, row + key_column, dim);
		copy_row<C>(values + (warp * OWN + r) * WIDTH, row + value_column, dim);
	}
	for (int n = t.first_run; n < t.end_run; n++) {
		const QueryRun run = runs[n];
		for (int first = run.first; first < run.end; first += OTHERS) {
			__syncthreads();
			for (int r = warp; r < OTHERS; r += WARPS) {
				const int p = min(first + r, run.end - 1), head = kv * group.heads + group.head(p);
				const size_t row = run.row + group.row(p);
				copy_row<C>(queries + r * ODD, qkv + row * stride + head * dim, dim);
				copy_row<C>(gradients + r * ODD, dout + (row * q_heads + head) * dim, dim);
			}
			__syncthreads();
			float s[OWN] = {}, d[OWN] = {};
			dots<C>(s, keys + warp * OWN * WIDTH, queries + lane * ODD, dim);
			dots<C>(d, values + warp * OWN * WIDTH, gradients + lane * ODD, dim);
			const int p = min(first + lane, run.end - 1);
			const RowStat stat = stats[(size_t)(run.row + group.row(p)) * q_heads + kv * group.heads + group.head(p)];
#pragma unroll
			for (int r = 0; r < OWN; r++) {
#ifdef MUTANT_CAUSAL
				const bool seen = sees(run, group, first + lane + group.heads, warp * OWN + r, window);
#else
				const bool seen = sees(run, group, first + lane, warp * OWN + r, window);
#endif
				const float weight = seen ? expf(s[r] * scale - stat.lse) : 0.f;
				add_weighted<C>(dv[r], weight, gradients);
				add_weighted<C>(dk[r], weight == 0.f ? 0.f : weight * (d[r] - stat.delta), queries);
			}
		}
	}
#pragma unroll
	for (int r = 0; r < OWN; r++) {
		const int i = warp * OWN + r;
		if (i >= t.rows) continue;
		float* row = dqkv + (t.row + i) * stride;
		store_row<C>(row + key_column, dk[r], scale, dim);
		store_row<C>(row + value_column, dv[r], 1.f, dim);
		if (t.row + i >= t.query) continue;
		for (int c = lane; c < group.heads * dim; c += 32) row[kv * group.heads * dim + c] = 0.f;  // a row that is keys only
	}
}

#define BACK_F32(D)                                                                                                                          \
	extern "C" __global__ void __launch_bounds__(THREADS, 4)                                                                                   \
	    attention_back_q_f32_##D(float* __restrict__ dqkv, const float* __restrict__ dout, const RowStat* __restrict__ stats,                \
	                             const float* __restrict__ qkv, const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim,     \
	                             int window, float scale) {                                                                                 \
		back_q<D / 32>(dqkv, dout, stats, qkv, tiles, q_heads, kv_heads, dim, window, scale);                                                \
	}                                                                                                                                       \
	extern "C" __global__ void __launch_bounds__(THREADS, 4)                                                                                   \
	    attention_back_kv_f32_##D(float* __restrict__ dqkv, const float* __restrict__ dout, const RowStat* __restrict__ stats,               \
	                              const float* __restrict__ qkv, const KeyTile* __restrict__ tiles, const QueryRun* __restrict__ runs,       \
	                              int q_heads, int kv_heads, int dim, int window, float scale) {                                            \
		back_kv<D / 32>(dqkv, dout, stats, qkv, tiles, runs, q_heads, kv_heads, dim, window, scale);                                         \
	}
BACK_F32(32)
BACK_F32(64)
BACK_F32(128)
BACK_F32(256)
