#include "device.cuh"

// out[r] = table[ids[r]], copied in units of 16, 4 or 2 bytes; one block per row. Rows of the table
// begin stride units after each other.
template <typename U>
__device__ __forceinline__ void embed(U* __restrict__ out, const U* __restrict__ table, const int* __restrict__ ids, int* fault,
                                      int operation, int limit, int units, int stride) {
	const int id = ids[blockIdx.x];
	if (!in_range(id, limit, fault, operation)) return;
#ifdef MUTANT_LAST_UNIT
	units--;
#endif
	for (int i = threadIdx.x; i < units; i += blockDim.x) out[(size_t)blockIdx.x * units + i] = table[(size_t)id * stride + i];
}

#define DEFINE_EMBED(U, BYTES)                                                                                             \
	extern "C" __global__ void __launch_bounds__(256)                                                                      \
	embed_##BYTES(U* out, const U* table, const int* ids, int* fault, int operation, int limit, int units, int stride) {    \
		embed<U>(out, table, ids, fault, operation, limit, units, stride);                                                 \
	}
DEFINE_EMBED(uint4, 16)
DEFINE_EMBED(unsigned, 4)
DEFINE_EMBED(unsigned short, 2)

// Links the rows with the same id, in order, so that one block can add them up in that order:
// next[r] is the next row with the id of row r, or n, and follows[r] (zero before) says that row r
// is the next of another. A warp per row looks ahead. A row whose id is skip, or out of range,
// follows nothing, has no next and must not be summed.
extern "C" __global__ void __launch_bounds__(128)
link_rows(int* __restrict__ next, int* __restrict__ follows, const int* __restrict__ ids, int* fault, int operation, int n, int limit, int skip) {
	const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
	if (row >= n) return;
	const int id = ids[row];
	int found = n;
	if (id != skip && in_range(id, limit, fault, operation))
		for (int at = row + 1; at < n && found == n; at += 32) {
			const unsigned same = __ballot_sync(0xffffffffu, at + lane < n && ids[at + lane] == id);
#ifdef MUTANT_LAST_LANE
			if (same) found = at + 31 - __clz((int)same);
#else
			if (same) found = at + __clz((int)__brev(same));  // the first lane that has it
#endif
		}
	if (lane) return;
	next[row] = found;
	if (found < n) follows[found] = 1;
}

// dtable[ids[r]] += dout[r] for all rows in order: the block of the first row with an id takes all.
template <typename T, bool V>
__device__ __forceinline__ void embed_back(float* __restrict__ dtable, const T* __restrict__ dout, const int* __restrict__ ids,
                                           const int* __restrict__ next, const int* __restrict__ follows, int n, int limit, int skip, int cols) {
	const int first = blockIdx.x, id = ids[first];
	if (follows[first] || id == skip || id < 0 || id >= limit) return;
	for (int at = threadIdx.x * PACK; at < cols; at += blockDim.x * PACK) {
		float* to = dtable + (size_t)id * cols + at;
		float sum[PACK];
		load8<V>(sum, to, cols - at);
#ifdef MUTANT_FIRST_ONLY
		for (int r = first; r < n; r = n) {
#else
		for (int r = first; r < n; r = next[r]) {
#endif
			float d[PACK];
			load8<V>(d, dout + (size_t)r * cols + at, cols - at);
#pragma unroll
			for (int i = 0; i < PACK; i++) sum[i] += d[i];
		}
		store8<V>(to, sum, cols - at);
	}
}

// As embed_back, but overwrites and rounds once; rows of dtable, which begin stride elements after each
// other, are zero before if they have no id.
template <typename T, bool V>
__device__ __forceinline__ void scatter(T* __restrict__ dtable, const T* __restrict__ dout, const int* __restrict__ ids,
                                        const int* __restrict__ next, const int* __restrict__ follows, int n, int limit, int cols, int stride) {
	const int first = blockIdx.x, id = ids[first];
	if (follows[first] || id < 0 || id >= limit) return;
	for (int at = threadIdx.x * PACK; at < cols; at += blockDim.x * PACK) {
		float sum[PACK] = {};
#ifdef MUTANT_SCATTER_FIRST
		for (int r = first; r < n; r = n) {
#else
		for (int r = first; r < n; r = next[r]) {
#endif
			float d[PACK];
			load8<V>(d, dout + (size_t)r * cols + at, cols - at);
#pragma unroll
			for (int i = 0; i < PACK; i++) sum[i] += d[i];
		}
		store8<V>(dtable + (size_t)id * stride + at, sum, cols - at);
	}
}

#define DEFINE(T, TYPE)                                                                                                                  \
	extern "C" __global__ void __launch_bounds__(256)                                                                                    \
	embed_back_##TYPE(float* dtable, const T* dout, const int* ids, const int* next, const int* follows, int n, int limit, int skip, int cols, \
	                  int vec) {                                                                                                         \
		vec ? embed_back<T, true>(dtable, dout, ids, next, follows, n, limit, skip, cols)                                                 \
		    : embed_back<T, false>(dtable, dout, ids, next, follows, n, limit, skip, cols);                                               \
	}                                                                                                                                    \
	extern "C" __global__ void __launch_bounds__(256)                                                                                    \
	scatter_##TYPE(T* dtable, const T* dout, const int* ids, const int* next, const int* follows, int n, int limit, int cols, int stride,  \
	               int vec) {                                                                                                            \
		vec ? scatter<T, true>(dtable, dout, ids, next, follows, n, limit, cols, stride)                                                  \
		    : scatter<T, false>(dtable, dout, ids, next, follows, n, limit, cols, stride);                                                \
	}
DEFINE(bf16, bf16)
DEFINE(float, f32)
