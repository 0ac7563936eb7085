// Attention over groups with a shared prefix, forward: FlashAttention-2 (Dao, arXiv 2307.08691)
// on mma.sync. A block takes one tile of packed query rows and one key head, and goes over the
// key tiles once, keeping the running maximum and sum of each row.
#include "attention_tile.cuh"

// bfloat16. The accumulator stays in registers, queries in shared memory. Where two warps share rows
// (attention_tile.cuh), a warp has only half of their channels, and the queries stay in registers, too:
// 128 of O, 64 of Q and 32 of scores on their way to the partner. Then for 32 keys a warp reads 32
// fragments, copies 8 and exchanges 12 times 512 bytes, which shared memory delivers to four warps in
// 832 cycles, of which 128 products take 512. With 16 rows to a warp it was 35%.
// Keys and values have a buffer each: values arrive while scores are computed, the next keys while
// values are multiplied.
template <int D> struct Forward {
	static constexpr int BLOCK = THREADS * Team<D>::SPLIT;           // threads
	static constexpr int ROWS = 128;                                 // of a block
	static constexpr int KEYS = D == 256 ? 32 : D == 128 ? 48 : 64;  // as many as registers allow
};

// Takes the scores of one row and 8*N keys, of which a lane has two in eight, into the running
// maximum and sum of the row. They become weights; returns the factor of all earlier ones.
template <int N> __device__ __forceinline__ float softmax(float (&s)[N][4], int h, float& top, float& sum, float scale_log2) {
	float most = -INFINITY;
#pragma unroll
	for (int j = 0; j < N; j++) most = fmaxf(most, fmaxf(s[j][h * 2], s[j][h * 2 + 1]));
	most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
	most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
	const float now = fmaxf(top, most * scale_log2);
	const float base = now == -INFINITY ? 0.f : now;  // a row that saw no key yet
	const float factor = exp2_approx(top - base);
	top = now;
	float part = 0.f;
#pragma unroll
	for (int j = 0; j < N; j++)
#pragma unroll
		for (int e = 0; e < 2; e++) part += s[j][h * 2 + e] = exp2_approx(__fmaf_rn(s[j][h * 2 + e], scale_log2, -base));
	sum = __fmaf_rn(sum, factor, part);
	return factor;
}

template <int D>
__device__ __forceinline__ void attention_forward(bf16* __restrict__ out, float* __restrict__ lse, const bf16* __restrict__ qkv,
                                                  const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim, int window, float scale_log2) {
	constexpr int ROWS = Forward<D>::ROWS, KEYS = Forward<D>::KEYS, BLOCK = Forward<D>::BLOCK, ROW = Layout<D>::ROW;
	constexpr int C = Team<D>::CHANNELS, OWN = Team<D>::OWN;
	constexpr bool HALVED = Team<D>::SPLIT > 1;
	using Mail = Place[BLOCK / 32][KEYS / 8];  // of each warp: sums from its partner, then weights for its partner
	extern __shared__ __align__(128) unsigned char shared[];
	__shared__ QueryTile t;  // not in registers, which are short: read again where they are used
	__shared__ Group group;
	__shared__ float factor[ROWS], norm[ROWS];  // of rows, for the partner of who completes them
	if (threadIdx.x == 0) t = tiles[blockIdx.x], group = Group::of(q_heads / kv_heads);
	__syncthreads();
	const int kv = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const Team<D> team{warp};
	const unsigned stride = (q_heads + 2 * kv_heads) * dim;
	const bf16 *q = qkv + (size_t)kv * (q_heads / kv_heads) * dim, *k = qkv + (size_t)(q_heads + kv) * dim;
	const unsigned sq = shared_address(shared), sk = sq + (HALVED ? sizeof(Mail) : ROWS * ROW), sv = sk + KEYS * ROW;

	auto load = [&](unsigned dst, const bf16* base, int i) {
		const Keys keys = t.keys;
		load_tile<D, KEYS, BLOCK>(dst, dim, [&](int r) { return base + (size_t)(unsigned)key_row(keys, i * KEYS + r) * stride; });
		cp_async_commit();
	};
	load_tile<D, ROWS, BLOCK>(sq, dim, [&](int r) {
		const int p = min(t.first + r, t.end - 1);
		return q + (size_t)(unsigned)(t.row + group.row(p)) * stride + group.head(p) * dim;
	});
	const unsigned aq = sq + team.row() * ROW + team.channel() * 2 + lane_a<D>();
	unsigned a[2][C / 16][4];  // if halved
	if constexpr (HALVED) {
		cp_async_commit();
		cp_async_wait<0>();
		__syncthreads();
		load_fragments<C>(a, aq, team.step() * ROW);
		__syncthreads();
	}
	load(sk, k, t.begin);

	const unsigned bk = sk + team.channel() * 2 + lane_b<D>(), bv = sv + team.channel() * 2 + lane_b_trans<D>();
	// a lane holds rows lane/4 and lane/4+8 of each tile of 16, and of those columns lane%4*2, +1 of each 8
	auto number = [&](int m, int h) {  // key number of a row's own key, less the lane's first column
		return t.number + group.row(t.first + team.row() + m * 16 + h * 8 + lane / 4) - lane % 4 * 2;
	};
	Mail& mail = *reinterpret_cast<Mail*>(shared);
	float o[2][C / 8][4] = {}, top[OWN][2], sum[OWN][2] = {};  // top: maximum of the scores in units of log 2
#pragma unroll
	for (int m = 0; m < OWN; m++) top[m][0] = top[m][1] = -INFINITY;

	auto step = [&](auto masked, int i) {
#ifdef MUTANT_WAIT
		cp_async_wait<1>();
#else
		cp_async_wait<0>();
#endif
		__syncthreads();  // the keys are here, and nobody reads the last values any more
		load(sv, k + (size_t)kv_heads * dim, i);
		float s[OWN][KEYS / 8][4] = {};
		if constexpr (HALVED) {
#pragma unroll
			for (int j = 0; j < KEYS / 16; j++) {
				float x[2][2][4] = {};
				scores<C>(x, a, bk + j * 16 * ROW);
				give<D>(s, 2 * j, x, mail[team.partner()]);
			}
			team.sync();
			get<D>(s, mail[warp]);
		} else {
			scores<C, KEYS / 16>(s, aq, 16 * ROW, bk, ROW);
		}
		float f[2][2];
		unsigned p[KEYS / 16][2][4];  // packed before the next load, which needs registers too
#pragma unroll
		for (int m = 0; m < OWN; m++) {
#pragma unroll
			for (int h = 0; h < 2; h++) {
				if (decltype(masked)::value) {
#ifdef MUTANT_CAUSAL
					const int distance = number(m, h) - i * KEYS + 1;
#else
					const int distance = number(m, h) - i * KEYS;
#endif
#pragma unroll
					for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
						for (int e = 0; e < 2; e++)
							if ((unsigned)(distance - j * 8 - e) >= (unsigned)window) s[m][j][h * 2 + e] = -INFINITY;
				}
				f[m][h] = softmax(s[m], h, top[m][h], sum[m][h], scale_log2);
#pragma unroll
				for (int j = 0; j < C / 8; j++) o[m][j][h * 2] *= f[m][h], o[m][j][h * 2 + 1] *= f[m][h];
			}
		}
#pragma unroll
		for (int kk = 0; kk < KEYS / 16; kk++) round<D>(p[kk], s, 2 * kk, mail[warp]);
		if (HALVED && lane % 4 == 0)
#pragma unroll
			for (int h = 0; h < 2; h++) factor[team.row() + h * 8 + lane / 4] = f[0][h];
		cp_async_wait<0>();
#ifndef MUTANT_BARRIER
		__syncthreads();  // the values and the partner's weights are here, and nobody reads the keys any more
#endif
		if (i + 1 < t.limit) load(sk, k, i + 1);
		if constexpr (HALVED) {
#pragma unroll
			for (int h = 0; h < 2; h++) {
				f[1][h] = factor[team.row() + team.step() + h * 8 + lane / 4];
#pragma unroll
				for (int j = 0; j < C / 8; j++) o[1][j][h * 2] *= f[1][h], o[1][j][h * 2 + 1] *= f[1][h];
			}
		}
#pragma unroll
		for (int kk = 0; kk < KEYS / 16; kk++) {
			take_other<D>(p[kk], mail[team.partner()][kk]);
			accumulate<C>(o, p[kk], bv + kk * 16 * ROW);
		}
	};
	int i = t.begin;
	for (; i < t.full; i++) step(Flag<false>{}, i);
	for (; i < t.limit; i++) step(Flag<true>{}, i);

#pragma unroll
	for (int m = 0; m < OWN; m++)
#pragma unroll
		for (int h = 0; h < 2; h++) {
			float total = sum[m][h];
			total += __shfl_xor_sync(0xffffffffu, total, 1);
			total += __shfl_xor_sync(0xffffffffu, total, 2);
			const int r = team.row() + m * 16 + h * 8 + lane / 4, p = t.first + r;
			if (lane % 4) continue;
			norm[r] = __fdividef(1.f, total);
			if (p < t.end) lse[(size_t)(t.row + group.row(p)) * q_heads + kv * group.heads + group.head(p)] = (top[m][h] + log2f(total)) * 0.6931471805599453f;
		}
	__syncthreads();
	// each warp turns its own rows of the query tile into rows of out, 16 bytes to a store
#pragma unroll
	for (int m = 0; m < 2; m++)
#pragma unroll
		for (int h = 0; h < 2; h++) {
			const int r = team.row() + m * team.step() + h * 8 + lane / 4;
			unsigned* dst = reinterpret_cast<unsigned*>(shared + r * ROW) + team.channel() / 2 + lane % 4;
			const float n = norm[r];
#pragma unroll
			for (int j = 0; j < C / 8; j++) dst[j * 4] = pack_bf16(o[m][j][h * 2] * n, o[m][j][h * 2 + 1] * n);
		}
	team.sync();
	for (int n = lane; n < OWN * 16 * (D / 8); n += 32) {
		const int r = team.row() + n / (D / 8), c = n % (D / 8), p = t.first + r;
		if (p < t.end && c * 8 < dim)
			*reinterpret_cast<uint4*>(out + ((size_t)(t.row + group.row(p)) * q_heads + kv * group.heads + group.head(p)) * dim + c * 8) =
			    *reinterpret_cast<const uint4*>(shared + r * ROW + c * 16);
	}
}

#define FORWARD(D)                                                                                                                     \
	extern "C" __global__ void __launch_bounds__(Forward<D>::BLOCK)                                                                    \
	    attention_##D(bf16* __restrict__ out, float* __restrict__ lse, const bf16* __restrict__ qkv, const QueryTile* __restrict__ tiles, \
	                  int q_heads, int kv_heads, int dim, int window, float scale_log2) {                                             \
		attention_forward<D>(out, lse, qkv, tiles, q_heads, kv_heads, dim, window, scale_log2);                                        \
	}
FORWARD(64)
FORWARD(96)
FORWARD(128)
FORWARD(256)

// Copies count heads of from channels to heads of to channels, zeros beyond. Operands that do
// not begin at multiples of 16 bytes, or whose heads do not, pass through copies that do.
extern "C" __global__ void __launch_bounds__(256)
attention_repack(bf16* __restrict__ dst, const bf16* __restrict__ src, int count, int to, int from) {
#ifdef MUTANT_LAST_HEAD
	const size_t n = (size_t)(count - 1) * to;
#else
	const size_t n = (size_t)count * to;
#endif
	for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
		const size_t head = i / (unsigned)to;
		const int c = (int)(i - head * to);
		dst[i] = c < from ? src[head * from + c] : (bf16)0;
	}
}
