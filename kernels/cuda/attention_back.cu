#include "attention_back.cuh"

// ---- D, from dout and out

__device__ __forceinline__ float product8(const bf16* a, const bf16* b, int left) {
	float x[PACK], y[PACK], sum = 0.f;
	load8<true>(x, a, left);
	load8<true>(y, b, left);
#pragma unroll
	for (int i = 0; i < PACK; i++) sum = __fmaf_rn(x[i], y[i], sum);
	return sum;
}
__device__ __forceinline__ float product8(const float* a, const float* b, int left) {
	float sum = 0.f;
#pragma unroll
	for (int i = 0; i < PACK; i++)
		if (i < left) sum = __fmaf_rn(a[i], b[i], sum);
	return sum;
}

// A lane takes eight channels, so a warp several packed rows at a time if they are short.
template <class T>
__device__ __forceinline__ void attention_delta(RowStat* __restrict__ stats, const T* __restrict__ dout, const T* __restrict__ out,
                                                const float* __restrict__ lse, const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim,
                                                float unit) {
	__shared__ QueryTile t;
	if (threadIdx.x == 0) t = tiles[blockIdx.x];
	__syncthreads();
	const Group group = Group::of(q_heads / kv_heads);
	const int lanes = dim > 128 ? 32 : dim > 64 ? 16 : 8;  // of a row
	const int head = blockIdx.y * group.heads, lane = threadIdx.x % lanes, c = lane * PACK;
#pragma unroll 1
	for (int first = t.first; first < t.end; first += THREADS / lanes) {
		const int p = first + threadIdx.x / lanes, known = min(p, t.end - 1);
		const size_t at = (size_t)(t.row + group.row(known)) * q_heads + head + group.head(known);
		float delta = c < dim ? product8(dout + at * dim + c, out + at * dim + c, dim - c) : 0.f;
#ifdef MUTANT_LANES
		for (int d = lanes / 4; d; d /= 2) delta += __shfl_xor_sync(0xffffffffu, delta, d);
#else
		for (int d = lanes / 2; d; d /= 2) delta += __shfl_xor_sync(0xffffffffu, delta, d);
#endif
		if (lane == 0 && p < t.end) stats[at] = {lse[at] * unit, delta};
	}
}

#define DELTA(T, NAME)                                                                                                                      \
	extern "C" __global__ void __launch_bounds__(THREADS)                                                                                  \
	    attention_delta_##NAME(RowStat* __restrict__ stats, const T* __restrict__ dout, const T* __restrict__ out, const float* __restrict__ lse, \
	                           const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim, float unit) {                      \
		attention_delta<T>(stats, dout, out, lse, tiles, q_heads, kv_heads, dim, unit);                                                    \
	}
DELTA(bf16, bf16)
DELTA(float, f32)

// ---- dQ

template <int D>
__device__ __forceinline__ void attention_back_q(bf16* __restrict__ dqkv, const bf16* __restrict__ dout, const RowStat* __restrict__ stats,
                                                 const bf16* __restrict__ qkv, const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim,
                                                 int window, float scale, float scale_log2) {
	constexpr int ROWS = Back<D>::ROWS, STEP = Back<D>::KEYS, ROW = Layout<D>::ROW, STAGE = 2 * STEP * ROW;
	constexpr int C = Team<D>::CHANNELS, OWN = Team<D>::OWN;
	constexpr bool HALVED = Team<D>::SPLIT > 1;
	constexpr int W = HALVED ? STEP : 16;  // keys at a time
	extern __shared__ __align__(128) unsigned char shared[];
	__shared__ QueryTile t;  // not in registers, which are short: read again where they are used
	__shared__ Group group;
	__shared__ RowStat stat[ROWS];
	__shared__ int number[ROWS];  // key number of the row's own key
	if (threadIdx.x == 0) t = tiles[blockIdx.x], group = Group::of(q_heads / kv_heads);
	__syncthreads();
	const int kv = blockIdx.y, warp = HALVED ? warp_number() : threadIdx.x / 32, lane = threadIdx.x % 32;
	const unsigned stride = (q_heads + 2 * kv_heads) * dim, base = shared_address(shared);
	const int head = kv * (q_heads / kv_heads), key_column = (q_heads + kv) * dim, value_column = key_column + kv_heads * dim;

	// the rows of the block, from memory that the loop uses afterwards
	load_tile<D, ROWS>(base, dim, [&](int i) {
		const int p = min(t.first + i, t.end - 1);
		return qkv + (size_t)(unsigned)(t.row + group.row(p)) * stride + (head + group.head(p)) * dim;
	});
	load_tile<D, ROWS>(base + ROWS * ROW, dim, [&](int i) {
		const int p = min(t.first + i, t.end - 1);
		return dout + ((size_t)(t.row + group.row(p)) * q_heads + head + group.head(p)) * dim;
	});
	cp_async_commit();
	cp_async_wait<0>();
	__syncthreads();
	const Team<D> team{warp};
	const unsigned own = base + team.row() * ROW + team.channel() * 2 + lane_a<D>(), own_dout = own + ROWS * ROW;
	unsigned q[2][C / 16][4], g[2][C / 16][4];
	load_fragments<C>(q, own, team.step() * ROW);
	if (Back<D>::RESIDENT) load_fragments<C>(g, own_dout, team.step() * ROW);
	if (threadIdx.x < ROWS) {
		const int p = min(t.first + (int)threadIdx.x, t.end - 1);
		stat[threadIdx.x] = stats[(size_t)(t.row + group.row(p)) * q_heads + head + group.head(p)];
		number[threadIdx.x] = t.number + group.row(p);
#ifdef MUTANT_CAUSAL
		number[threadIdx.x]++;
#endif
	}
	__syncthreads();

	auto load = [&](unsigned dst, int column, int i) {
		const Keys rows = t.keys;
		load_tile<D, STEP>(dst, dim, [&](int r) { return qkv + (size_t)(unsigned)key_row(rows, i * STEP + r) * stride + column; });
	};
	// A warp writes where it read last, or where a barrier of the block lies between.
	Place* const mail = reinterpret_cast<Place*>(shared + 2 * ROWS * ROW);
	Place *const mine = mail + warp * (W / 8), *const other = mail + team.partner() * (W / 8);
	float dq[2][C / 8][4] = {};
	// With half of the channels to a warp, registers have room for the products of dout with all keys
	// of a tile, so what is read of dout serves them all. There is one stage then, of which values
	// arrive while scores are computed, and keys while dout is multiplied.
	auto stage = [&](int i) { return HALVED ? base : base + (i & 1) * STAGE; };
	load(stage(t.begin) + STEP * ROW, value_column, t.begin);
	if (!HALVED) load(stage(t.begin), key_column, t.begin);
	cp_async_commit();
	for (int i = t.begin; i < t.limit; i++) {
#ifdef MUTANT_WAIT
		cp_async_wait<1>();
#else
		cp_async_wait<0>();
#endif
#ifndef MUTANT_BARRIER
		__syncthreads();  // this stage, or its values, is here, and nobody reads the other, or the last keys, any more
#endif
		const unsigned keys = stage(i), values = keys + STEP * ROW;
		if constexpr (HALVED) {
			load(keys, key_column, i);
		} else if (i + 1 < t.limit) {
			load(stage(i + 1), key_column, i + 1);
			load(stage(i + 1) + STEP * ROW, value_column, i + 1);
		}
		cp_async_commit();
#pragma unroll(D == 128 ? 1 : STEP / W)  // registers are short
		for (int c = 0; c < STEP; c += W) {
			float s[OWN][W / 8][4], d[OWN][W / 8][4];
			auto scores_of_queries = [&] {
#pragma unroll
				for (int n = 0; n < W; n += 16) {
					float x[2][2][4] = {};
					scores<C>(x, q, keys + (c + n) * ROW + team.channel() * 2 + lane_b<D>());
					give<D>(s, n / 8, x, other);
				}
			};
			if (!HALVED) scores_of_queries();
			float x[2][W / 8][4] = {};
			if constexpr (Back<D>::RESIDENT) scores<C>(x, g, values + c * ROW + lane_b<D>());
			else scores<C, W / 16>(x, own_dout, team.step() * ROW, values + c * ROW + team.channel() * 2 + lane_b<D>(), ROW);
			give<D>(d, 0, x, mine);
			if constexpr (HALVED) {
				cp_async_wait<0>();
				__syncthreads();  // the keys and the partner's sums are here, and nobody reads the values any more
				if (i + 1 < t.limit) load(values, value_column, i + 1);
				cp_async_commit();
				get<D>(d, other);
				scores_of_queries();
				team.sync();
				get<D>(s, mine);
			}
#pragma unroll
			for (int h = 0; h < 2 * OWN; h++) {
				const int row = team.row() + h * 8 + lane / 4;
				const RowStat x = stat[row];
#pragma unroll
				for (int j = 0; j < W / 4; j++) {
					float& w = d[h / 2][j / 2][h % 2 * 2 + j % 2];
					w = exp2_approx(__fmaf_rn(s[h / 2][j / 2][h % 2 * 2 + j % 2], scale_log2, -x.lse)) * (w - x.delta);
				}
			}
			if (i >= t.full)
#pragma unroll
				for (int h = 0; h < 2 * OWN; h++) {
					const int last = number[team.row() + h * 8 + lane / 4] - i * STEP - c - lane % 4 * 2;
#pragma unroll
					for (int j = 0; j < W / 4; j++)
						if ((unsigned)(last - j / 2 * 8 - j % 2) >= (unsigned)window) d[h / 2][j / 2][h % 2 * 2 + j % 2] = 0.f;
				}
			unsigned w[W / 16][2][4];
#pragma unroll
			for (int n = 0; n < W / 16; n++) round<D>(w[n], d, 2 * n, mine);
			if constexpr (HALVED) team.sync();
#pragma unroll
			for (int n = 0; n < W / 16; n++) {
				take_other<D>(w[n], other[n]);
				accumulate<C>(dq, w[n], keys + (c + n * 16) * ROW + team.channel() * 2 + lane_b_trans<D>());
			}
		}
	}
	__syncthreads();
	store_rows<D>(shared, dq, scale, dim, team, [&](int i) -> bf16* {
		const int p = t.first + i;
		return p < t.end ? dqkv + (size_t)(unsigned)(t.row + group.row(p)) * stride + (head + group.head(p)) * dim : nullptr;
	});
}

#define BACK_Q(D)                                                                                                                          \
	extern "C" __global__ void __launch_bounds__(THREADS)                                                                                 \
	    attention_back_q_##D(bf16* __restrict__ dqkv, const bf16* __restrict__ dout, const RowStat* __restrict__ stats, const bf16* __restrict__ qkv, \
	                         const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim, int window, float scale, float scale_log2) { \
		attention_back_q<D>(dqkv, dout, stats, qkv, tiles, q_heads, kv_heads, dim, window, scale, scale_log2);                             \
	}
BACK_Q(64)
BACK_Q(96)
BACK_Q(128)
BACK_Q(256)
