// The gradients of attention in bfloat16, by two kernels which share no sums and need no atomic
// additions: one block adds up dQ of a tile of query rows over all keys, another dK and dV of a
// tile of key rows over all queries that see them, of every answer to a prompt and every head
// of the group, in float32 registers. With S the scores and D = rowsum(dout*out):
//
//	P = exp(S*scale - lse)   dV = Pt dout   dS = P*(dout Vt - D)   dQ = scale dS K   dK = scale dSt Q
//
// Four warps hold 16 rows each. What comes in a loop is double-buffered: the next tile arrives
// while this one is multiplied.
#include "attention.cuh"

template <int D> struct Back {
	static constexpr int ROWS = 64;                                // of a block: queries or keys
	static constexpr int STEP = D == 64 ? 64 : D == 256 ? 16 : 32;  // rows of the other kind that arrive together
	static constexpr int ROW = Layout<D>::ROW;
	static constexpr int STAGE = 2 * STEP * ROW;  // bytes of two tiles
	static constexpr bool RESIDENT = D <= 128;    // registers have room for both operands of the block's rows
};

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
		for (int d = lanes / 2; d; d /= 2) delta += __shfl_xor_sync(0xffffffffu, delta, d);
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

// ---- common to both kernels

// Loads the operand-A fragments of a warp's 16 rows.
template <int D> __device__ __forceinline__ void load_fragments(unsigned (&to)[D / 16][4], unsigned rows) {
#pragma unroll
	for (int i = 0; i < D / 16; i++) ldmatrix_x4(to[i], rows + i * 32);
}

// s += a b over D channels, for 16 columns which are rows of the tile at b.
template <int D> __device__ __forceinline__ void scores(float (&s)[2][4], const unsigned (&a)[D / 16][4], unsigned b) {
#pragma unroll
	for (int i = 0; i < D / 16; i++) {
		unsigned x[4];
		ldmatrix_x4(x, b + i * 32);
		mma_m16n8k16(s[0], a[i], x[0], x[1]);
		mma_m16n8k16(s[1], a[i], x[2], x[3]);
	}
}
// The same with a in shared memory.
template <int D> __device__ __forceinline__ void scores(float (&s)[2][4], unsigned a, unsigned b) {
#pragma unroll
	for (int i = 0; i < D / 16; i++) {
		unsigned x[4], y[4];
		ldmatrix_x4(y, a + i * 32);
		ldmatrix_x4(x, b + i * 32);
		mma_m16n8k16(s[0], y, x[0], x[1]);
		mma_m16n8k16(s[1], y, x[2], x[3]);
	}
}

// sum += w x, where w are 16 columns of weights and x is 16 rows of a tile.
template <int D> __device__ __forceinline__ void accumulate(float (&sum)[D / 8][4], const float (&w)[2][4], unsigned x) {
	const unsigned a[4] = {pack_bf16(w[0][0], w[0][1]), pack_bf16(w[0][2], w[0][3]), pack_bf16(w[1][0], w[1][1]), pack_bf16(w[1][2], w[1][3])};
#pragma unroll
	for (int j = 0; j < D / 16; j++) {
		unsigned b[4];
		ldmatrix_x4_trans(b, x + j * 32);
		mma_m16n8k16(sum[2 * j], a, b[0], b[1]);
		mma_m16n8k16(sum[2 * j + 1], a, b[2], b[3]);
	}
}

// Writes a warp's 16 rows of sums, times scale, to where row(i) begins, through its part of
// shared memory. A null row is left out.
template <int D, class F>
__device__ __forceinline__ void store_rows(unsigned char* memory, const float (&sum)[D / 8][4], float scale, int dim, F row) {
	constexpr int ROW = Layout<D>::ROW;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	unsigned char* own = memory + warp * 16 * ROW;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		unsigned* dst = reinterpret_cast<unsigned*>(own + (h * 8 + lane / 4) * ROW) + lane % 4;
#pragma unroll
		for (int j = 0; j < D / 8; j++) dst[j * 4] = pack_bf16(sum[j][h * 2] * scale, sum[j][h * 2 + 1] * scale);
	}
	__syncwarp();
	for (int n = lane; n < 16 * (D / 8); n += 32) {
		const int r = n / (D / 8), c = n % (D / 8);
		bf16* dst = row(warp * 16 + r);
		if (dst && c * 8 < dim) *reinterpret_cast<uint4*>(dst + c * 8) = *reinterpret_cast<const uint4*>(own + r * ROW + c * 16);
	}
	__syncwarp();
}

// ---- dQ

template <int D>
__device__ __forceinline__ void attention_back_q(bf16* __restrict__ dqkv, const bf16* __restrict__ dout, const RowStat* __restrict__ stats,
                                                 const bf16* __restrict__ qkv, const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim,
                                                 int window, float scale, float scale_log2) {
	constexpr int ROWS = Back<D>::ROWS, STEP = Back<D>::STEP, ROW = Back<D>::ROW, STAGE = Back<D>::STAGE;
	extern __shared__ __align__(128) unsigned char shared[];
	__shared__ QueryTile t;  // not in registers, which are short: read again where they are used
	__shared__ Group group;
	if (threadIdx.x == 0) t = tiles[blockIdx.x], group = Group::of(q_heads / kv_heads);
	__syncthreads();
	const int kv = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const unsigned stride = (q_heads + 2 * kv_heads) * dim, base = shared_address(shared);
	const bf16 *k = qkv + (size_t)(q_heads + kv) * dim, *v = k + (size_t)kv_heads * dim;
	const int head = kv * (q_heads / kv_heads);

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
	const unsigned own = base + warp * 16 * ROW + lane_a<D>(), own_dout = own + ROWS * ROW;
	unsigned q[D / 16][4], g[D / 16][4];
	load_fragments<D>(q, own);
	if (Back<D>::RESIDENT) load_fragments<D>(g, own_dout);
	float lse[2], delta[2];
	int number[2];  // key number of the row's own key, less the lane's first column
#pragma unroll
	for (int h = 0; h < 2; h++) {
		const int p = min(t.first + warp * 16 + h * 8 + lane / 4, t.end - 1);
		const RowStat s = stats[(size_t)(t.row + group.row(p)) * q_heads + head + group.head(p)];
		lse[h] = s.lse, delta[h] = s.delta;
		number[h] = t.number + group.row(p) - lane % 4 * 2;
#ifdef MUTANT_CAUSAL
		number[h]++;
#endif
	}
	__syncthreads();

	auto load = [&](int i) {
		const Keys rows = t.keys;
		const unsigned dst = base + (i & 1) * STAGE;
		load_tile<D, STEP>(dst, dim, [&](int r) { return k + (size_t)(unsigned)key_row(rows, i * STEP + r) * stride; });
		load_tile<D, STEP>(dst + STEP * ROW, dim, [&](int r) { return v + (size_t)(unsigned)key_row(rows, i * STEP + r) * stride; });
		cp_async_commit();
	};
	float dq[D / 8][4] = {};
	load(t.begin);
	for (int i = t.begin; i < t.limit; i++) {
#ifdef MUTANT_WAIT
		cp_async_wait<1>();
#else
		cp_async_wait<0>();
#endif
#ifndef MUTANT_BARRIER
		__syncthreads();  // this stage is here, and nobody reads the other any more
#endif
		if (i + 1 < t.limit) load(i + 1);
		const unsigned keys = base + (i & 1) * STAGE, values = keys + STEP * ROW;
#pragma unroll
		for (int c = 0; c < STEP; c += 16) {
			float s[2][4] = {}, d[2][4] = {};
			scores<D>(s, q, keys + c * ROW + lane_b<D>());
			if (Back<D>::RESIDENT) scores<D>(d, g, values + c * ROW + lane_b<D>());
			else scores<D>(d, own_dout, values + c * ROW + lane_b<D>());
#pragma unroll
			for (int j = 0; j < 2; j++)
#pragma unroll
				for (int e = 0; e < 4; e++) d[j][e] = exp2_approx(__fmaf_rn(s[j][e], scale_log2, -lse[e / 2])) * (d[j][e] - delta[e / 2]);
			if (i >= t.full)
#pragma unroll
				for (int j = 0; j < 2; j++)
#pragma unroll
					for (int e = 0; e < 4; e++) {
						if ((unsigned)(number[e / 2] - i * STEP - c - j * 8 - e % 2) >= (unsigned)window) d[j][e] = 0.f;
					}
			accumulate<D>(dq, d, keys + c * ROW + lane_b_trans<D>());
		}
	}
	__syncthreads();
	store_rows<D>(shared, dq, scale, dim, [&](int i) -> bf16* {
		const int p = t.first + i;
		return p < t.end ? dqkv + (size_t)(unsigned)(t.row + group.row(p)) * stride + (head + group.head(p)) * dim : nullptr;
	});
}

// ---- dK and dV

enum Part { BOTH, VALUES, KEYS_ONLY };  // what a block adds up: with 256 channels registers hold one of both

template <int D, Part PART>
__device__ __forceinline__ void attention_back_kv(bf16* __restrict__ dqkv, const bf16* __restrict__ dout, const RowStat* __restrict__ stats,
                                                  const bf16* __restrict__ qkv, const KeyTile* __restrict__ tiles, const QueryRun* __restrict__ runs,
                                                  int q_heads, int kv_heads, int dim, int window, float scale, float scale_log2) {
	constexpr int ROWS = Back<D>::ROWS, STEP = Back<D>::STEP, ROW = Back<D>::ROW, STAGE = Back<D>::STAGE;
	extern __shared__ __align__(128) unsigned char shared[];
	__shared__ __align__(16) RowStat stat[2][STEP];
	__shared__ KeyTile t;
	__shared__ Group group;
	if (threadIdx.x == 0) t = tiles[blockIdx.x], group = Group::of(q_heads / kv_heads);
	__syncthreads();
	const int kv = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const unsigned stride = (q_heads + 2 * kv_heads) * dim, base = shared_address(shared);
	const int head = kv * (q_heads / kv_heads), key_column = (q_heads + kv) * dim, value_column = key_column + kv_heads * dim;

	auto row = [&](int i) { return (size_t)(unsigned)(t.row + min(i, t.rows - 1)) * stride; };
	load_tile<D, ROWS>(base, dim, [&](int i) { return qkv + row(i) + key_column; });
	if (PART != VALUES) load_tile<D, ROWS>(base + ROWS * ROW, dim, [&](int i) { return qkv + row(i) + value_column; });
	cp_async_commit();
	cp_async_wait<0>();
	__syncthreads();
	const unsigned own = base + warp * 16 * ROW + lane_a<D>(), own_values = own + ROWS * ROW;
	unsigned k[D / 16][4], v[D / 16][4];
	load_fragments<D>(k, own);
	if (Back<D>::RESIDENT) load_fragments<D>(v, own_values);
	__syncthreads();

	auto load = [&](int stage, int run, int p) {
		const QueryRun& r = runs[run];
		const unsigned dst = base + stage * STAGE;
		const int first = r.row, last = r.end - 1;
		load_tile<D, STEP>(dst, dim, [&](int i) {
			const int x = min(p + i, last), y = group.row(x);
			return qkv + (size_t)(unsigned)(first + y) * stride + (head + x - y * group.heads) * dim;
		});
		load_tile<D, STEP>(dst + STEP * ROW, dim, [&](int i) {
			const int x = min(p + i, last), y = group.row(x);
			return dout + ((size_t)(unsigned)(first + y) * q_heads + head + x - y * group.heads) * dim;
		});
		if (threadIdx.x < STEP) {
			const int x = min(p + (int)threadIdx.x, last), y = group.row(x);
			cp_async_8(shared_address(&stat[stage][threadIdx.x]), stats + (size_t)(unsigned)(first + y) * q_heads + head + x - y * group.heads);
		}
		cp_async_commit();
	};
	float dk[D / 8][4] = {}, dv[D / 8][4] = {};
	int run = t.first_run, p = run < t.end_run ? runs[run].first : 0, stage = 0;
	if (run < t.end_run) load(0, run, p);
	while (run < t.end_run) {
		int next_run = run, next = p + STEP;
		if (next >= runs[run].end) {
			next_run++;
			if (next_run < t.end_run) next = runs[next_run].first;
		}
#ifdef MUTANT_WAIT
		cp_async_wait<1>();
#else
		cp_async_wait<0>();
#endif
#ifndef MUTANT_BARRIER
		__syncthreads();  // this stage is here, and nobody reads the other any more
#endif
		if (next_run < t.end_run) load(stage ^ 1, next_run, next);
		const unsigned queries = base + stage * STAGE, gradients = queries + STEP * ROW;
		const bool partly = p < runs[run].full_begin || p + STEP > runs[run].full_end;
#pragma unroll(D == 128 ? 1 : STEP / 16)  // registers again
		for (int c = 0; c < STEP; c += 16) {
			float s[2][4] = {}, d[2][4] = {};  // rows are keys, columns are queries
			scores<D>(s, k, queries + c * ROW + lane_b<D>());
			if (PART != VALUES) {
				if (Back<D>::RESIDENT) scores<D>(d, v, gradients + c * ROW + lane_b<D>());
				else scores<D>(d, own_values, gradients + c * ROW + lane_b<D>());
			}
#pragma unroll
			for (int j = 0; j < 2; j++) {
				const float4 x = *reinterpret_cast<const float4*>(&stat[stage][c + j * 8 + lane % 4 * 2]);
#pragma unroll
				for (int e = 0; e < 4; e++) {
					s[j][e] = exp2_approx(__fmaf_rn(s[j][e], scale_log2, e % 2 ? -x.z : -x.x));
					d[j][e] = s[j][e] * (d[j][e] - (e % 2 ? x.w : x.y));
				}
			}
			if (partly)
#pragma unroll
				for (int j = 0; j < 2; j++)
#pragma unroll
					for (int e = 0; e < 4; e++)
						if (!sees(runs[run], group, p + c + j * 8 + lane % 4 * 2 + e % 2, warp * 16 + e / 2 * 8 + lane / 4, window)) s[j][e] = d[j][e] = 0.f;
			if (PART != KEYS_ONLY) accumulate<D>(dv, s, gradients + c * ROW + lane_b_trans<D>());
			if (PART != VALUES) accumulate<D>(dk, d, queries + c * ROW + lane_b_trans<D>());
		}
		run = next_run, p = next, stage ^= 1;
	}
	__syncthreads();
	if (PART != KEYS_ONLY) store_rows<D>(shared, dv, 1.f, dim, [&](int i) { return i < t.rows ? dqkv + row(i) + value_column : nullptr; });
	if (PART == VALUES) return;
	store_rows<D>(shared, dk, scale, dim, [&](int i) { return i < t.rows ? dqkv + row(i) + key_column : nullptr; });
	const int chunks = group.heads * dim / 8;  // rows that are keys only
	for (int i = warp; i < min(t.rows, t.query - t.row); i += WARPS)
		for (int c = lane; c < chunks; c += 32) reinterpret_cast<uint4*>(dqkv + row(i) + head * dim)[c] = make_uint4(0, 0, 0, 0);
}

#define BACK_Q(D)                                                                                                                          \
	extern "C" __global__ void __launch_bounds__(THREADS)                                                                                 \
	    attention_back_q_##D(bf16* __restrict__ dqkv, const bf16* __restrict__ dout, const RowStat* __restrict__ stats, const bf16* __restrict__ qkv, \
	                         const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim, int window, float scale, float scale_log2) { \
		attention_back_q<D>(dqkv, dout, stats, qkv, tiles, q_heads, kv_heads, dim, window, scale, scale_log2);                             \
	}
#define BACK_KV(D, PART, NAME)                                                                                                             \
	extern "C" __global__ void __launch_bounds__(THREADS)                                                                                 \
	    attention_back_##NAME##_##D(bf16* __restrict__ dqkv, const bf16* __restrict__ dout, const RowStat* __restrict__ stats,             \
	                                const bf16* __restrict__ qkv, const KeyTile* __restrict__ tiles, const QueryRun* __restrict__ runs,    \
	                                int q_heads, int kv_heads, int dim, int window, float scale, float scale_log2) {                      \
		attention_back_kv<D, PART>(dqkv, dout, stats, qkv, tiles, runs, q_heads, kv_heads, dim, window, scale, scale_log2);                \
	}
BACK_Q(64)
BACK_Q(96)
BACK_Q(128)
BACK_Q(256)
BACK_KV(64, BOTH, kv)
BACK_KV(96, BOTH, kv)
BACK_KV(128, BOTH, kv)
BACK_KV(256, VALUES, v)
BACK_KV(256, KEYS_ONLY, k)
