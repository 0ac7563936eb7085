// Attention over groups with a shared prefix, forward: FlashAttention-2 (Dao, arXiv 2307.08691)
// on mma.sync. A block takes one tile of packed query rows and one key head, and goes over the
// key tiles once, keeping the running maximum and sum of each row.
#include "attention.cuh"

// bfloat16. Four warps hold ROWS/4 query rows each; the accumulator stays in registers, queries
// in shared memory. Keys and values have a buffer each: values arrive while scores are computed,
// the next keys while values are multiplied.
template <int D> struct Forward {
	static constexpr int TILES = D <= 128 ? 2 : 1;  // of 16 rows, by warp
	static constexpr int ROWS = 64 * TILES;
	static constexpr int KEYS = D >= 128 ? 48 : 64;  // as many as registers allow
};

template <int D>
__device__ __forceinline__ void attention_forward(bf16* __restrict__ out, float* __restrict__ lse, const bf16* __restrict__ qkv,
                                                  const QueryTile* __restrict__ tiles, int q_heads, int kv_heads, int dim, int window, float scale_log2) {
	constexpr int TILES = Forward<D>::TILES, ROWS = Forward<D>::ROWS, KEYS = Forward<D>::KEYS, ROW = Layout<D>::ROW;
	extern __shared__ __align__(128) unsigned char shared[];
	__shared__ QueryTile t;  // not in registers, which are short: read again where they are used
	__shared__ Group group;
	if (threadIdx.x == 0) t = tiles[blockIdx.x], group = Group::of(q_heads / kv_heads);
	__syncthreads();
	const int kv = blockIdx.y;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const unsigned stride = (q_heads + 2 * kv_heads) * dim;
	const bf16 *q = qkv + (size_t)kv * (q_heads / kv_heads) * dim, *k = qkv + (size_t)(q_heads + kv) * dim, *v = k + (size_t)kv_heads * dim;
	const unsigned sq = shared_address(shared), sk = sq + ROWS * ROW, sv = sk + KEYS * ROW;

	auto load = [&](unsigned dst, const bf16* base, int i) {
		const Keys keys = t.keys;
		load_tile<D, KEYS>(dst, dim, [&](int r) { return base + (size_t)(unsigned)key_row(keys, i * KEYS + r) * stride; });
		cp_async_commit();
	};
	load_tile<D, ROWS>(sq, dim, [&](int r) {
		const int p = min(t.first + r, t.end - 1);
		return q + (size_t)(unsigned)(t.row + group.row(p)) * stride + group.head(p) * dim;
	});
	load(sk, k, t.begin);

	const unsigned aq = sq + warp * (16 * TILES * ROW) + lane_a<D>(), bk = sk + lane_b<D>(), bv = sv + lane_b_trans<D>();
	// a lane holds rows lane/4 and lane/4+8 of each tile of 16, and of those columns lane%4*2, +1 of each 8
	auto number = [&](int m, int h) {  // key number of a row's own key, less the lane's first column
		return t.number + group.row(t.first + (warp * TILES + m) * 16 + h * 8 + lane / 4) - lane % 4 * 2;
	};
	float o[TILES][D / 8][4] = {}, top[TILES][2], sum[TILES][2] = {};  // top: maximum of the scores in units of log 2
#pragma unroll
	for (int m = 0; m < TILES; m++) top[m][0] = top[m][1] = -INFINITY;

	auto step = [&](auto masked, int i) {
#ifdef MUTANT_WAIT
		cp_async_wait<1>();
#else
		cp_async_wait<0>();
#endif
		__syncthreads();  // the keys are here, and nobody reads the last values any more
		load(sv, v, i);
		float s[TILES][KEYS / 8][4] = {};
#pragma unroll
		for (int kk = 0; kk < D / 16; kk++) {
			unsigned a[TILES][4];
#pragma unroll
			for (int m = 0; m < TILES; m++) ldmatrix_x4(a[m], aq + m * 16 * ROW + kk * 32);
#pragma unroll
			for (int j = 0; j < KEYS / 16; j++) {
				unsigned b[4];
				ldmatrix_x4(b, bk + j * 16 * ROW + kk * 32);
#pragma unroll
				for (int m = 0; m < TILES; m++) {
					mma_m16n8k16(s[m][2 * j], a[m], b[0], b[1]);
					mma_m16n8k16(s[m][2 * j + 1], a[m], b[2], b[3]);
				}
			}
		}
#pragma unroll
		for (int m = 0; m < TILES; m++)
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
				float most = -INFINITY;
#pragma unroll
				for (int j = 0; j < KEYS / 8; j++) most = fmaxf(most, fmaxf(s[m][j][h * 2], s[m][j][h * 2 + 1]));
				most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
				most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
				const float now = fmaxf(top[m][h], most * scale_log2);
				const float base = now == -INFINITY ? 0.f : now;  // a row that saw no key yet
				const float scale = exp2_approx(top[m][h] - base);
				top[m][h] = now;
				float part = 0.f;
#pragma unroll
				for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
					for (int e = 0; e < 2; e++) part += s[m][j][h * 2 + e] = exp2_approx(__fmaf_rn(s[m][j][h * 2 + e], scale_log2, -base));
				sum[m][h] = __fmaf_rn(sum[m][h], scale, part);
#pragma unroll
				for (int j = 0; j < D / 8; j++) o[m][j][h * 2] *= scale, o[m][j][h * 2 + 1] *= scale;
			}
		unsigned p[TILES][KEYS / 16][4];  // packed before the next load, which needs registers too
#pragma unroll
		for (int m = 0; m < TILES; m++)
#pragma unroll
			for (int kk = 0; kk < KEYS / 16; kk++)
#pragma unroll
				for (int x = 0; x < 4; x++) p[m][kk][x] = pack_bf16(s[m][2 * kk + x / 2][x % 2 * 2], s[m][2 * kk + x / 2][x % 2 * 2 + 1]);
		cp_async_wait<0>();
#ifndef MUTANT_BARRIER
		__syncthreads();  // the values are here, and nobody reads the keys any more
#endif
		if (i + 1 < t.limit) load(sk, k, i + 1);
#pragma unroll
		for (int kk = 0; kk < KEYS / 16; kk++)
#pragma unroll
			for (int j = 0; j < D / 16; j++) {
				unsigned b[4];
				ldmatrix_x4_trans(b, bv + kk * 16 * ROW + j * 32);
#pragma unroll
				for (int m = 0; m < TILES; m++) {
					mma_m16n8k16(o[m][2 * j], p[m][kk], b[0], b[1]);
					mma_m16n8k16(o[m][2 * j + 1], p[m][kk], b[2], b[3]);
				}
			}
	};
	int i = t.begin;
	for (const int full = t.full; i < full; i++) step(Flag<false>{}, i);
	for (const int limit = t.limit; i < limit; i++) step(Flag<true>{}, i);

	// each warp turns its own rows of the query tile into rows of out, 16 bytes to a store
#pragma unroll
	for (int m = 0; m < TILES; m++)
#pragma unroll
		for (int h = 0; h < 2; h++) {
			float total = sum[m][h];
			total += __shfl_xor_sync(0xffffffffu, total, 1);
			total += __shfl_xor_sync(0xffffffffu, total, 2);
			const int r = (warp * TILES + m) * 16 + h * 8 + lane / 4, p = t.first + r;
			if (p < t.end && lane % 4 == 0)
				lse[(size_t)(t.row + group.row(p)) * q_heads + kv * group.heads + group.head(p)] = (top[m][h] + log2f(total)) * 0.6931471805599453f;
			const float norm = __fdividef(1.f, total);
			unsigned* dst = reinterpret_cast<unsigned*>(shared + r * ROW) + lane % 4;
#pragma unroll
			for (int j = 0; j < D / 8; j++) dst[j * 4] = pack_bf16(o[m][j][h * 2] * norm, o[m][j][h * 2 + 1] * norm);
		}
	__syncwarp();
	for (int n = lane; n < 16 * TILES * (D / 8); n += 32) {
		const int r = warp * 16 * TILES + n / (D / 8), c = n % (D / 8), p = t.first + r;
		if (p < t.end && c * 8 < dim)
			*reinterpret_cast<uint4*>(out + ((size_t)(t.row + group.row(p)) * q_heads + kv * group.heads + group.head(p)) * dim + c * 8) =
			    *reinterpret_cast<const uint4*>(shared + r * ROW + c * 16);
	}
}

#define FORWARD(D)                                                                                                                     \
	extern "C" __global__ void __launch_bounds__(THREADS)                                                                             \
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
