// The C side of the CPU backend. A kernel computes one task of an operation on
// the calling thread; Go decides how an operation is cut into tasks and which
// goroutine runs them. Nothing in C allocates, locks, keeps state or fails, so
// kernels may run on any number of threads.
#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>

// A matrix operand: element (i, j) is at p[i*rs + j*cs]. A transposed operand
// is the same memory with the strides exchanged.
typedef struct { const void *p; long rs, cs; } mat;

// c[m,n] = a[m,k] * b[k,n], or += if accumulate, or the product is rounded and residual[m,n]
// added. Rows of c are contiguous.
typedef struct {
	void *c;
	long ldc;
	mat a, b;
	long m, n, k;
	int accumulate;
	const void *residual; // or NULL
	int packed;  // a is the output of pack_rows
	const float *kept; // all of b as pack_cols writes it, or NULL
	int c_float; // c is float32 even where elements are bfloat16
} gemm_args;

// kernels.Segment
typedef struct { int32_t prefix_lo, prefix_hi, lo, hi; } segment;

// A piece of attention is query rows [lo, hi) of a segment, which see its keys
// [first, last). Its part, [last-first][2*kv_heads*dim] floats, holds what they add to
// the gradients of these keys and values; it begins at parts + at.
typedef struct {
	segment s;
	int32_t lo, hi, first, last;
	int64_t at;
} piece;

// What a row of the batch is to attention.
enum { NO_ROW, KEY_ONLY, QUERY };

// qkv and dqkv are [rows][(q_heads + 2*kv_heads) * dim]; out and dout are
// [rows][q_heads * dim]; lse is [rows][q_heads].
typedef struct {
	void *out;
	float *lse;
	const void *qkv;
	const void *dout;
	void *dqkv;
	int32_t q_heads, kv_heads, dim, window;
} attention_args;

// The random numbers of stochastic rounding, kernels.Dither; first is the index of the
// first element in its tensor, a multiple of 16.
typedef struct { uint64_t first; uint32_t low, high; } dither;

// The kernels: X(name, arguments, parameters...). "void *" is an array of the
// element type for which the set was compiled, float32 or bfloat16; "float *" is
// float32 in both. [lo, hi) is a range of rows, [jlo, jhi) of columns.
#define KERNELS(X) \
	/* pack_rows writes strips [lo, hi) of a as [m/tile_rows][k][tile_rows] */ \
	X(pack_rows, (dst, a, m, k, lo, hi), float *dst, mat a, long m, long k, long lo, long hi) \
	/* pack_cols writes strips [lo, hi) of tile_cols columns of b, which has n and k rows */ \
	X(pack_cols, (dst, b, n, k, lo, hi), float *dst, mat b, long n, long k, long lo, long hi) \
	X(gemm, (g, ilo, ihi, jlo, jhi, scratch), const gemm_args *g, long ilo, long ihi, long jlo, long jhi, float *scratch) \
	/* attention computes a piece for the query heads of one kv head */ \
	X(attention, (a, p, kv, scratch), const attention_args *a, const piece *p, long kv, float *scratch) \
	/* attention_back overwrites the queries' part of dqkv for one kv head, and the */ \
	/* piece's part for it */ \
	X(attention_back, (a, p, kv, parts, scratch), const attention_args *a, const piece *p, long kv, float *parts, float *scratch) \
	/* kv_sum adds up the parts of n pieces on rows [lo, hi), and clears the queries of */ \
	/* rows that are keys only; sums is scratch memory, [hi-lo][2*kv_heads*dim] */ \
	X(kv_sum, (a, pieces, n, parts, role, lo, hi, sums), const attention_args *a, const piece *pieces, long n, const float *parts, const uint8_t *role, long lo, long hi, float *sums) \
	X(rmsnorm, (out, rstd, x, w, rows, n, eps), void *out, float *rstd, const void *x, const void *w, long rows, long n, float eps) \
	X(rmsnorm_back, (dx, dw, dout, x, w, rstd, rows, n), void *dx, float *dw, const void *dout, const void *x, const void *w, const float *rstd, long rows, long n) \
	X(sum_parts, (dw, parts, count, n, jlo, jhi), float *dw, const float *parts, long count, long n, long jlo, long jhi) \
	X(swiglu, (out, gate_up, rows, n), void *out, const void *gate_up, long rows, long n) \
	X(swiglu_back, (dgate_up, dout, gate_up, rows, n), void *dgate_up, const void *dout, const void *gate_up, long rows, long n) \
	X(rope, (qkv, stride, pos, table, rows, heads, dim, inverse), void *qkv, long stride, const int32_t *pos, const float *table, long rows, long heads, long dim, int inverse) \
	X(add, (out, a, b, n), void *out, const void *a, const void *b, long n) \
	X(sum_rows, (out, x, rows, count, n), void *out, const void *x, const int32_t *rows, long count, long n) \
	X(add_bias, (x, bias, rows, n), void *x, const void *bias, long rows, long n) \
	X(add_bias_back, (dbias, dout, rows, n, jlo, jhi), float *dbias, const void *dout, long rows, long n, long jlo, long jhi) \
	X(embed_back, (dtable, dout, ids, rows, n, skip, jlo, jhi), float *dtable, const void *dout, const int32_t *ids, long rows, long n, int32_t skip, long jlo, long jhi) \
	X(value_head, (score, x, rows, w, count, n), float *score, const void *x, const int32_t *rows, const void *w, long count, long n) \
	X(value_head_back, (dx, dw, dscore, x, rows, w, count, n, jlo, jhi), void *dx, float *dw, const float *dscore, const void *x, const int32_t *rows, const void *w, long count, long n, long jlo, long jhi) \
	X(sum_squares, (out, x, n), double *out, const void *x, long n) \
	/* hyper: see elementwise.h; param may be master where elements are float32; without a */ \
	/* master, param is bfloat16 and rounded by d */ \
	X(adamw, (param, master, m, v, g, n, hyper, d), void *param, float *master, float *m, float *v, const float *g, long n, const float *hyper, const dither *d)

// The kernels as compiled for one instruction set and one element type.
typedef struct {
	long tile_rows, tile_cols; // the register tile of gemm
	long gemm_scratch;         // floats; a bfloat16 c needs gemm_cols more per row
	long gemm_cols;            // columns of c that a task works on at a time
	long (*attention_scratch)(const attention_args *, const piece *); // floats
#define MEMBER(name, args, ...) void (*name)(__VA_ARGS__);
	KERNELS(MEMBER)
#undef MEMBER
} kernel_set;

// cgo cannot call function pointers: run_NAME calls member NAME of a set.
#define RUN(name, args, ...) \
	static inline void run_##name(const kernel_set *set, __VA_ARGS__) { set->name args; }
KERNELS(RUN)
#undef RUN
static inline long run_attention_scratch(const kernel_set *set, const attention_args *a, const piece *p) { return set->attention_scratch(a, p); }

// kernels_at returns set i, best first, or NULL if this CPU or this build lacks
// it; *name is its name, or NULL past the last.
const kernel_set *kernels_at(int i, int bf16, const char **name);

#endif
