// What the attention kernels share: the tiles of work that the host lays out (attention_plan.go
// writes these structs) and how rows come into shared memory.
//
// Query heads that share a key head are packed into the rows of a tile: packed row p of a
// segment is head p%group of its query row p/group. Keys are tiled by their number in the
// segment, prefix first, never by their row in the batch: a query meets its keys in the same
// order, in the same tiles, whether its prefix is shared or its own.
#pragma once
#include "device.cuh"

// Where the keys of a segment lie: number j is row prefix_lo+j if j < prefix, else own_lo+j.
struct __align__(16) Keys {
	int prefix_lo, prefix, own_lo;
	int count;  // the tile sees key numbers below it
};

// Packed rows [first, end) of a segment, and the key tiles that they see.
struct QueryTile {
	Keys keys;
	int row, number;         // packed row 0 belongs to this row, whose own key has this number
	int first, end;
	int begin, full, limit;  // key tiles [begin, limit); nothing is hidden in [begin, full)
	int unused;
};

constexpr int THREADS = 128, WARPS = THREADS / 32;

// The warp of a thread, from one lane for all: the compiler sees that they agree, and keeps what
// follows from it in registers of the warp.
__device__ __forceinline__ int warp_number() { return __shfl_sync(0xffffffffu, threadIdx.x / 32, 0); }

// The row of a key number. Numbers beyond the keys give the last of them: it is masked, and
// its memory exists and belongs to the segment.
__device__ __forceinline__ int key_row(const Keys& k, int number) {
	number = min(number, k.count - 1);
#ifdef MUTANT_PREFIX
	return number + k.own_lo;
#else
	return number + (number < k.prefix ? k.prefix_lo : k.own_lo);
#endif
}

// The query heads of a key head. Packed row p belongs to query p/heads; the product with the
// inverse is that quotient as long as p*heads < 2^32. The inverse of 1 overflows to 0.
struct Group {
	int heads;
	unsigned inverse, one;
	static __device__ __forceinline__ Group of(int n) { return {n, 0xffffffffu / n + 1, n == 1 ? 0xffffffffu : 0}; }
	__device__ __forceinline__ int row(int p) const { return (int)(__umulhi(p, inverse) + (p & one)); }
	__device__ __forceinline__ int head(int p) const { return p - row(p) * heads; }
};

// A tile of bfloat16 rows in shared memory has an odd number of 16-byte chunks to a row, one of
// them unused: eight rows that ldmatrix reads at once lie in different banks, and every address
// is a constant away from that of its lane.
template <int D> struct Layout {
#ifdef MUTANT_BANKS
	static constexpr int ROW = D * 2;
#else
	static constexpr int ROW = D * 2 + 16;  // bytes
#endif
	static constexpr int PER_ROW = D % 64 == 0 ? 8 : 4;  // threads that copy one row
	static constexpr int CHUNKS = D / 8 / PER_ROW;       // by each of them
};

// Copies ROWS rows into shared memory by N threads, of which this is one; zeros from channel
// dim on. source(i) is where row i begins.
template <int D, int ROWS, int N = THREADS, class F> __device__ __forceinline__ void load_tile(unsigned dst, int dim, F source, unsigned thread = threadIdx.x) {
	using L = Layout<D>;
	const int r = thread / L::PER_ROW, c = thread % L::PER_ROW;
	dst += r * L::ROW + c * 16;
#pragma unroll
	for (int i = 0; i < ROWS; i += N / L::PER_ROW) {
		const bf16* src = source(r + i);
		as_one(src);
		src += c * 8;
		as_one(src);
#pragma unroll
		for (int k = 0; k < L::CHUNKS; k++)
			cp_async_16(dst + i * L::ROW + k * L::PER_ROW * 16, src + k * L::PER_ROW * 8, (c + k * L::PER_ROW) * 8 < dim);
	}
}

// Where a lane reads the fragments of ldmatrix in a tile: operand A of mma (16 rows), operand
// B whose rows are its columns (16 of them), and operand B as it lies (16 rows, transposed).
template <int D> __device__ __forceinline__ unsigned lane_a() { return threadIdx.x % 16 * Layout<D>::ROW + threadIdx.x % 32 / 16 * 16; }
template <int D> __device__ __forceinline__ unsigned lane_b() {
	const int lane = threadIdx.x % 32;
	return (lane % 8 + lane / 16 * 8) * Layout<D>::ROW + lane / 8 % 2 * 16;
}
template <int D> __device__ __forceinline__ unsigned lane_b_trans() { return lane_a<D>(); }

template <bool B> struct Flag {
	static constexpr bool value = B;
};

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
	for (int d = 16; d; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
	return x;
}

// What the backward kernels need of a query besides its rows: log2(e) times the log-sum-exp in
// bfloat16, the log-sum-exp itself in float32; and the sum of dout*out, which every gradient
// of a score has subtracted.
struct __align__(8) RowStat {
	float lse, delta;
};

// Rows [row, row+rows) of one segment, as keys. Those before query attend to nothing.
struct KeyTile {
	int row, rows, query;
	int first_run, end_run;
};

// Packed query rows [first, end) of one segment that see keys [lo, hi) of a key tile. In
// [full_begin, full_end) they see all keys of the tile.
struct __align__(16) QueryRun {
	int row, number;  // packed row 0 belongs to this row, whose own key has this number
	int key;          // the number that the first row of the tile has in this segment
	int lo, hi;
	int first, end, full_begin, full_end;
	int unused[3];
};

// whether packed row p sees row i of the tile
__device__ __forceinline__ bool sees(const QueryRun& r, const Group& group, int p, int i, int window) {
	return ((unsigned)(r.number + group.row(p) - r.key - i) < (unsigned)window) & (p < r.end) & (i >= r.lo) & (i < r.hi);
}
