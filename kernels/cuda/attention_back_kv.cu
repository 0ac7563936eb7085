#include "attention_back.cuh"

// A warp with 32 keys of 64 channels has both sums of them. With more channels they do not fit
// into its registers, so two warps share the keys: one has P and adds up dV, its partner takes P
// from it, has dS and adds up dK. To both it is the same loop over tiles of queries, with the
// operands exchanged; the partner is a tile behind, so that P lies there when it comes. With 256
// channels four share them: two have P and two dS, each half of the channels.

// A tile of packed query rows from p on; there is none if run is the last's end.
struct QueryStep {
	int run, p, stage;
};

// The rows of a key tile that a packed row sees: [lo, lo+count).
struct __align__(8) SeenKeys {
	int lo;
	unsigned count;
};

// A run begins with the first query that sees one of its rows, so own is not less than r.lo.
__device__ __forceinline__ SeenKeys seen_keys(const QueryRun& r, const Group& group, int p, int window) {
	const int own = r.number + group.row(p) - r.key;  // the row of the query's own key, were the tile endless
	const int lo = max(r.lo, own - window + 1);
#ifdef MUTANT_CAUSAL
	const int hi = p < r.end ? min(r.hi, own) : lo;
#else
	const int hi = p < r.end ? min(r.hi, own + 1) : lo;
#endif
	return {lo, (unsigned)max(0, hi - lo)};
}

// The functions below are about a warp's scores of 16 queries, of which a lane has columns
// lane%4*2 and the next, and 8 further. stat and seen are of those queries.

// From S to P.
template <int M> __device__ __forceinline__ void weights(float (&x)[M][2][4], const RowStat* stat, float scale_log2) {
#pragma unroll
	for (int j = 0; j < 2; j++) {
		const float4 s = *reinterpret_cast<const float4*>(stat + j * 8 + threadIdx.x % 4 * 2);  // of two queries
#pragma unroll
		for (int m = 0; m < M; m++)
#pragma unroll
			for (int e = 0; e < 4; e++) x[m][j][e] = exp2_approx(__fmaf_rn(x[m][j][e], scale_log2, e % 2 ? -s.z : -s.x));
	}
}

// From dout Vt to dS, with P.
template <int M> __device__ __forceinline__ void score_gradients(float (&x)[M][2][4], const float (&p)[M][2][4], const RowStat* stat) {
#pragma unroll
	for (int j = 0; j < 2; j++) {
		const float4 s = *reinterpret_cast<const float4*>(stat + j * 8 + threadIdx.x % 4 * 2);
#pragma unroll
		for (int m = 0; m < M; m++)
#pragma unroll
			for (int e = 0; e < 4; e++) x[m][j][e] = p[m][j][e] * (x[m][j][e] - (e % 2 ? s.w : s.y));
	}
}

// Sets to 0 what a query does not see; first is the warp's first key row of the tile.
template <int M> __device__ __forceinline__ void hide(float (&x)[M][2][4], const SeenKeys* seen, int first) {
	const int lane = threadIdx.x % 32;
#pragma unroll
	for (int j = 0; j < 2; j++) {
		const int4 s = *reinterpret_cast<const int4*>(seen + j * 8 + lane % 4 * 2);  // lo, count, lo, count
#pragma unroll
		for (int h = 0; h < 2 * M; h++) {
			const int key = first + h * 8 + lane / 4;
			float(&w)[4] = x[h / 2][j];
			if ((unsigned)(key - s.x) >= (unsigned)s.y) w[h % 2 * 2] = 0.f;
			if ((unsigned)(key - s.z) >= (unsigned)s.w) w[h % 2 * 2 + 1] = 0.f;
		}
	}
}

template <int D>
__device__ __forceinline__ void attention_back_kv(bf16* __restrict__ dqkv, const bf16* __restrict__ dout, const RowStat* __restrict__ stats,
                                                  const bf16* __restrict__ qkv, const KeyTile* __restrict__ tiles, const QueryRun* __restrict__ runs,
                                                  int q_heads, int kv_heads, int dim, int window, float scale, float scale_log2) {
	constexpr int ROWS = Back<D>::ROWS, STEP = Back<D>::QUERIES, ROW = Layout<D>::ROW, TILE = STEP * ROW;
	constexpr int C = Team<D>::CHANNELS, OWN = Team<D>::OWN;
	constexpr bool PAIRED = Back<D>::PAIRED, HALVED = Team<D>::SPLIT > 1;
	constexpr int SUMS = PAIRED ? 1 : 2;    // of a warp: dV or dK, or both
	constexpr int STAGES = PAIRED ? 3 : 2;  // a tile that arrives, and what is multiplied
	static_assert(PAIRED || STAGES * 2 * TILE <= ROWS * ROW, "values stay in shared memory, behind the stages");
	extern __shared__ __align__(128) unsigned char shared[];
	__shared__ __align__(16) RowStat stat[STAGES][STEP];
	__shared__ __align__(16) SeenKeys seen[STAGES][STEP];
	__shared__ KeyTile t;
	__shared__ Group group;
	if (threadIdx.x == 0) t = tiles[blockIdx.x], group = Group::of(q_heads / kv_heads);
	__syncthreads();
	const bool partner = PAIRED && threadIdx.x >= THREADS;
	const int kv = blockIdx.y, thread = threadIdx.x % THREADS, warp = thread / 32, lane = thread % 32;
	const unsigned stride = (q_heads + 2 * kv_heads) * dim, base = shared_address(shared);
	const int head = kv * (q_heads / kv_heads), key_column = (q_heads + kv) * dim, value_column = key_column + kv_heads * dim;

	// Of keys and values, queries and dout, a warp multiplies and copies the second if second(o).
	auto second = [&](int o) { return partner || o == 1; };
	auto row = [&](int i) { return (size_t)(unsigned)(t.row + min(i, t.rows - 1)) * stride; };
#pragma unroll
	for (int o = 0; o < SUMS; o++)
		load_tile<D, ROWS>(base + second(o) * ROWS * ROW, dim, [&](int i) { return qkv + row(i) + (second(o) ? value_column : key_column); }, thread);
	cp_async_commit();
	cp_async_wait<0>();
	__syncthreads();
	const Team<D> team{warp};
	const unsigned rows = base + (partner * ROWS + team.row()) * ROW + team.channel() * 2 + lane_a<D>(), values = rows + ROWS * ROW;
	unsigned a[2][C / 16][4];
	load_fragments<C>(a, rows, team.step() * ROW);
	__syncthreads();

	auto load = [&](const QueryStep& s) {
		const QueryRun& r = runs[s.run];
		const int first = r.row, last = r.end - 1;
#pragma unroll
		for (int o = 0; o < SUMS; o++) {
			const bf16* from = second(o) ? dout : qkv;
			const unsigned from_stride = second(o) ? q_heads * dim : stride;
			load_tile<D, STEP>(base + (s.stage * 2 + second(o)) * TILE, dim, [&](int i) {
				const int x = min(s.p + i, last), y = group.row(x);
				return from + (size_t)(unsigned)(first + y) * from_stride + (head + x - y * group.heads) * dim;
			}, thread);
		}
		if (threadIdx.x < STEP) {
			const int x = min(s.p + (int)threadIdx.x, last), y = group.row(x);
			cp_async_8(shared_address(&stat[s.stage][threadIdx.x]), stats + (size_t)(unsigned)(first + y) * q_heads + head + x - y * group.heads);
			seen[s.stage][threadIdx.x] = seen_keys(r, group, s.p + threadIdx.x, window);
		}
		cp_async_commit();
	};
	// P of two tiles of queries, and what the halves of a row's channels exchange
	constexpr int PER_CHUNK = OWN * 2, PER_WARP = STEP / 16 * PER_CHUNK;
	Place* const kept = reinterpret_cast<Place*>(shared + STAGES * 2 * TILE) + warp * PER_WARP;
	Place(*const mail)[2] = reinterpret_cast<Place(*)[2]>(shared + STAGES * 2 * TILE) + WARPS * PER_WARP + partner * WARPS;

	float sum[SUMS][2][C / 8][4] = {};
	QueryStep now = {t.first_run, 0, 0}, before = {t.end_run, 0, 0};
	if (now.run < t.end_run) {
		now.p = runs[now.run].first;
		load(now);
	}
	for (int n = 0; now.run < t.end_run || (PAIRED && before.run < t.end_run); n++) {
		QueryStep next = {now.run, now.p + STEP, now.stage == STAGES - 1 ? 0 : now.stage + 1};
		if (next.run < t.end_run && next.p >= runs[next.run].end) {
			next.run++;
			if (next.run < t.end_run) next.p = runs[next.run].first;
		}
#ifdef MUTANT_WAIT
		cp_async_wait<1>();
#else
		cp_async_wait<0>();
#endif
#ifndef MUTANT_BARRIER
		__syncthreads();  // this stage is here, P of the last one too, and nobody reads the next stage any more
#endif
		if (next.run < t.end_run) load(next);
		const QueryStep s = partner ? before : now;
		if (s.run < t.end_run) {
			const unsigned tile = base + s.stage * 2 * TILE;
#ifdef MUTANT_EXCHANGE
			Place* const p = kept;
#else
			Place* const p = kept + ((n ^ partner) & 1) * WARPS * PER_WARP;
#endif
			const bool partly = s.p < runs[s.run].full_begin || s.p + STEP > runs[s.run].full_end;
#pragma unroll(D == 128 ? 1 : STEP / 16)  // registers are short
			for (int c = 0; c < STEP; c += 16) {
				float x[SUMS][2][2][4] = {}, own[SUMS][OWN][2][4];  // rows are keys, columns are queries
				scores<C>(x[0], a, tile + partner * TILE + c * ROW + team.channel() * 2 + lane_b<D>());
				give<D>(own[0], 0, x[0], mail[team.partner()]);
				if constexpr (!PAIRED) {
					scores<C, 1>(x[1], values, 16 * ROW, tile + TILE + c * ROW + lane_b<D>(), ROW);
					give<D>(own[1], 0, x[1], mail[team.partner()]);
				}
				if constexpr (HALVED) team.sync();
				get<D>(own[0], mail[warp]);
				const RowStat* of = &stat[s.stage][c];
				if (partner) {
					float w[OWN][2][4];
#pragma unroll
					for (int i = 0; i < PER_CHUNK; i++) take(w[i / 2][i % 2], p[c / 16 * PER_CHUNK + i]);
					score_gradients(own[0], w, of);
				} else {
					weights(own[0], of, scale_log2);
					if constexpr (PAIRED) {
#pragma unroll
						for (int i = 0; i < PER_CHUNK; i++) leave(p[c / 16 * PER_CHUNK + i], own[0][i / 2][i % 2]);
					} else {
						score_gradients(own[1], own[0], of);
					}
				}
#pragma unroll
				for (int o = 0; o < SUMS; o++) {
					if (partly) hide(own[o], &seen[s.stage][c], team.row());
					unsigned w[2][4];
					round<D>(w, own[o], 0, mail[warp]);
					if constexpr (HALVED) team.sync();
					take_other<D>(w, mail[team.partner()][0]);
					accumulate<C>(sum[o], w, tile + !second(o) * TILE + c * ROW + team.channel() * 2 + lane_b_trans<D>());
				}
			}
		}
		before = now, now = next;
	}
	__syncthreads();
#pragma unroll
	for (int o = 0; o < SUMS; o++)
		store_rows<D>(shared + second(o) * ROWS * ROW, sum[o], second(o) ? scale : 1.f, dim, team,
		              [&](int i) { return i < t.rows ? dqkv + row(i) + (second(o) ? key_column : value_column) : nullptr; });
	const int chunks = group.heads * dim / 8;  // rows that are keys only
	for (int i = threadIdx.x / 32; i < min(t.rows, t.query - t.row); i += Back<D>::BLOCK / 32)
		for (int c = lane; c < chunks; c += 32) reinterpret_cast<uint4*>(dqkv + row(i) + head * dim)[c] = make_uint4(0, 0, 0, 0);
}

#define BACK_KV(D)                                                                                                                         \
	extern "C" __global__ void __launch_bounds__(Back<D>::BLOCK)                                                                           \
	    attention_back_kv_##D(bf16* __restrict__ dqkv, const bf16* __restrict__ dout, const RowStat* __restrict__ stats,                   \
	                          const bf16* __restrict__ qkv, const KeyTile* __restrict__ tiles, const QueryRun* __restrict__ runs,          \
	                          int q_heads, int kv_heads, int dim, int window, float scale, float scale_log2) {                            \
		attention_back_kv<D>(dqkv, dout, stats, qkv, tiles, runs, q_heads, kv_heads, dim, window, scale, scale_log2);                      \
	}
BACK_KV(64)
BACK_KV(96)
BACK_KV(128)
BACK_KV(256)
