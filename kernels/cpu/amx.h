// Products of bfloat16 matrices on AMX, the tile unit of Xeons since Sapphire
// Rapids. Like the functions of kernels.h these compute one task on the calling
// thread; each configures the tiles and releases them before it returns, since a
// goroutine's next call may be on another thread.
#ifndef AMX_H
#define AMX_H

#include "kernels.h"

#define AMX_BLOCK 32 // rows and columns of c, and k, per step

// MatMul and attention on tiles, as X(name, arguments, parameters...); what attention
// does with its arguments is said in kernels.h.
#define AMX_KERNELS(X) \
	/* pack_rows packs blocks [lo, hi) of a as [m/32][k/32][2 tiles] */ \
	X(pack_rows, (dst, a, m, k, lo, hi), uint16_t *dst, mat a, long m, long k, long lo, long hi) \
	/* pack_cols packs blocks [lo, hi) of b, which has n columns and k rows, as [n/32][k/32][2 tiles] */ \
	X(pack_cols, (dst, b, n, k, lo, hi), uint16_t *dst, mat b, long n, long k, long lo, long hi) \
	/* gemm computes rows [ilo, ihi), of a that is packed, and columns [jlo, jhi), columns(k) at most, of c */ \
	X(gemm, (g, ilo, ihi, jlo, jhi, scratch), const gemm_args *g, long ilo, long ihi, long jlo, long jhi, float *scratch) \
	X(attention, (a, p, kv, scratch), const attention_args *a, const piece *p, long kv, float *scratch) \
	X(attention_back, (a, p, kv, parts, scratch), const attention_args *a, const piece *p, long kv, float *parts, float *scratch)

typedef struct {
	long (*columns)(long k);                 // of c that a task computes at most
	long (*scratch)(long m, long n, long k); // floats for a task of m rows and n columns
	long (*attention_scratch)(const attention_args *, const piece *); // floats
#define MEMBER(name, args, ...) void (*name)(__VA_ARGS__);
	AMX_KERNELS(MEMBER)
#undef MEMBER
} amx_set;

#define RUN(name, args, ...) \
	static inline void run_amx_##name(const amx_set *set, __VA_ARGS__) { set->name args; }
AMX_KERNELS(RUN)
#undef RUN
static inline long run_amx_columns(const amx_set *set, long k) { return set->columns(k); }
static inline long run_amx_scratch(const amx_set *set, long m, long n, long k) { return set->scratch(m, n, k); }
static inline long run_amx_attention_scratch(const amx_set *set, const attention_args *a, const piece *p) { return set->attention_scratch(a, p); }

// amx_at returns the products for set i of kernels_at, or NULL if it uses no tiles.
const amx_set *amx_at(int i);

#endif
