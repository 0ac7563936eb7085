// Products of bfloat16 matrices on AMX with float32 sums. A tile register holds 16
// rows of 64 bytes; TDPBF16PS adds the product of a tile of a, [16][32], and a tile
// of b, [32][16], to a tile of c, [16][16] floats. Of the eight registers four hold
// a block of c:
//
//                     b   2 tiles of 16 columns, a stream from L2
//                     |   |
//                  32 |   |
//           ____32____|___|
//   16 rows |____a____| c |    4 tiles, in registers for KC of k
//   16 rows |____a____|___|
//
// A task computes some columns of c:
//
//      for each KB of k
//        pack b: KB x columns, 1 MB, in L2
//        for each 32 rows of a
//          for each KC of k                32 x KC of a: 32 KB, in L1
//            for each 32 columns           block: sums += a*b
//      c (+)= sums
//
// An element of c is the sum over k in the order of the tile instruction, from zero,
// whatever the blocks: taking sums out of registers and back does not round. So it
// depends on neither the other rows nor on how c is cut.
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma,amx-tile,amx-bf16,prefer-vector-width=512")
#include <immintrin.h>
#include "amx.h"
#define LANES 16
#define BF16 1
#include "vectors.h"
#include "amx_pack.h"
#include "attention_shape.h"

#define KC 576
#define KB 2048
#define PANEL_BYTES (1 << 20) // of b
#define MOST_COLUMNS 512
#define BLOCK_SUMS (AMX_BLOCK * AMX_BLOCK)

// Not the intrinsics: those of gcc 12 do not say that they read memory.
#define TILE_LOAD(t, p, bytes) __asm__ volatile("tileloadd (%0,%1), %%tmm" #t ::"r"(p), "r"((long)(bytes)) : "memory")
#define TILE_STREAM(t, p, bytes) __asm__ volatile("tileloaddt1 (%0,%1), %%tmm" #t ::"r"(p), "r"((long)(bytes)) : "memory")
#define TILE_STORE(t, p, bytes) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1)" ::"r"(p), "r"((long)(bytes)) : "memory")

// configure makes all eight registers 16 rows of 64 bytes.
static void configure(void)
{
	struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } c = {.palette = 1};
	for (int i = 0; i < 8; i++)
		c.bytes[i] = 64, c.rows[i] = 16;
	__asm__ volatile("ldtilecfg %0" ::"m"(c));
}

// even divides n into equal parts of at most most, in steps of 32 of k.
static long even(long n, long most)
{
	long parts = (n + most - 1) / most;
	return up((n + parts - 1) / parts, AMX_BLOCK);
}

// block adds the product of a panel of a and a panel of b, over so many steps, to
// sums [32][32], or sets them. Of 16 rows of a and fewer the second tile is left out.
// So many lines of next are fetched into L2 at each step.
static void block_fetching(float *sums, int set, int tall, const elem *a, const elem *b, long steps, const elem *next, long lines)
{
	const long row = 4 * AMX_BLOCK, half = 16 * AMX_BLOCK;
	if (set) {
		_tile_zero(0);
		_tile_zero(1);
		_tile_zero(2);
		_tile_zero(3);
	} else {
		TILE_LOAD(0, sums, row);
		TILE_LOAD(1, sums + 16, row);
		TILE_LOAD(2, sums + half, row);
		TILE_LOAD(3, sums + half + 16, row);
	}
	for (; tall && steps > 0; steps--, a += STEP, b += STEP) {
		TILE_LOAD(4, a, 64);
		TILE_STREAM(6, b, 64);
		_tile_dpbf16ps(0, 4, 6);
		for (long i = 0; i < lines; i++, next += 32)
			__builtin_prefetch(next, 0, 2);
		TILE_LOAD(5, a + TILE, 64);
		_tile_dpbf16ps(2, 5, 6);
		TILE_STREAM(7, b + TILE, 64);
		_tile_dpbf16ps(1, 4, 7);
		_tile_dpbf16ps(3, 5, 7);
	}
	for (; steps > 0; steps--, a += STEP, b += STEP) {
		TILE_LOAD(4, a, 64);
		TILE_STREAM(6, b, 64);
		_tile_dpbf16ps(0, 4, 6);
		TILE_STREAM(7, b + TILE, 64);
		_tile_dpbf16ps(1, 4, 7);
	}
	TILE_STORE(0, sums, row);
	TILE_STORE(1, sums + 16, row);
	TILE_STORE(2, sums + half, row);
	TILE_STORE(3, sums + half + 16, row);
}

static void block(float *sums, int set, int tall, const elem *a, const elem *b, long steps)
{
	block_fetching(sums, set, tall, a, b, steps, a, 0);
}

// put_pair rounds two vectors to the first n of 32 elements of c.
INLINE void put_pair(elem *c, vec lo, vec hi, long n)
{
	_mm512_mask_storeu_epi16(c, first_halves(n), (__m512i)_mm512_cvtne2ps_pbh((__m512)hi, (__m512)lo));
}

// deliver writes or adds rows x cols of sums, blocks of [32][32], to c.
static void deliver(const gemm_args *g, long i, long rows, long j, long cols, const float *sums)
{
	for (long r = 0; r < rows; r++)
		for (long l = 0; l < cols; l += AMX_BLOCK) {
			const float *s = sums + l * AMX_BLOCK + r * AMX_BLOCK;
			const long at = (i + r) * g->ldc + j + l, n = cols - l;
			vec lo = load(s), hi = load(s + 16);
			if (g->c_float) {
				float *c = (float *)g->c + at;
				if (g->accumulate) {
					lo += load_part(c, n);
					hi += load_part(c + 16, n - 16);
				}
				store_part(c, lo, n);
				store_part(c + 16, hi, n - 16);
				continue;
			}
			elem *c = (elem *)g->c + at;
			if (g->accumulate) {
				lo += get_part(c, n);
				hi += get_part(c + 16, n - 16);
			}
			put_pair(c, lo, hi, n);
			if (g->residual) {
				const elem *x = (const elem *)g->residual + (i + r) * g->n + j + l;
				put_pair(c, get_part(x, n) + get_part(c, n), get_part(x + 16, n - 16) + get_part(c + 16, n - 16), n);
			}
		}
}

static long columns(long k)
{
	long fit = PANEL_BYTES / (2 * even(k, KB)) / AMX_BLOCK * AMX_BLOCK;
	return min(MOST_COLUMNS, max(AMX_BLOCK, fit));
}

// Sums of all rows are kept from one KB to the next; if there is only one, those of
// 32 rows are enough.
static long scratch(long m, long n, long k)
{
	long kb = even(k, KB), cols = up(n, AMX_BLOCK);
	return cols * kb / 2 + cols * (k > kb ? up(m, AMX_BLOCK) : AMX_BLOCK);
}

static void pack_rows(uint16_t *dst, mat a, long m, long k, long lo, long hi)
{
	const long first = lo * AMX_BLOCK;
	a.p = (const elem *)a.p + first * a.rs;
	pack(dst + first * up(k, AMX_BLOCK), a, min(m, hi * AMX_BLOCK) - first, k, SIDE_A);
}

static void pack_cols(uint16_t *dst, mat b, long n, long k, long lo, long hi)
{
	const long first = lo * AMX_BLOCK;
	b = (mat){(const elem *)b.p + first * b.cs, b.cs, b.rs};
	pack(dst + first * up(k, AMX_BLOCK), b, min(n, hi * AMX_BLOCK) - first, k, SIDE_B);
}

// strip multiplies 32 rows of a with panels of b, which are so many elements apart,
// and fetches the rows of next.
static void strip(float *sums, int set, int tall, const elem *a, const elem *b, long panel, long steps, long cols, const elem *next)
{
	const long part = even(steps * AMX_BLOCK, KC) / AMX_BLOCK, lines = BLOCK_SUMS / cols;
	for (long l = 0; l < steps; l += part)
		for (long j = 0; j < cols; j += AMX_BLOCK)
			block_fetching(sums + j * AMX_BLOCK, set && l == 0, tall, a + l * STEP, b + j / AMX_BLOCK * panel + l * STEP,
			               min(part, steps - l), next + l * STEP + j * part * lines, lines);
}

static void gemm(const gemm_args *g, long ilo, long ihi, long jlo, long jhi, float *mem)
{
	const long kb = even(g->k, KB), cols = jhi - jlo, wide = up(cols, AMX_BLOCK), whole = up(g->k, AMX_BLOCK) * AMX_BLOCK;
	elem *packed = (elem *)mem;
	float *all = (float *)(packed + wide * kb);
	configure();
	for (long k0 = 0; k0 < g->k; k0 += kb) {
		const long k = min(kb, g->k - k0), steps = up(k, AMX_BLOCK) / AMX_BLOCK;
		const elem *b = packed;
		if (g->kept)
			b = (const elem *)g->kept + jlo / AMX_BLOCK * whole + k0 * AMX_BLOCK;
		else
			pack(packed, (mat){(const elem *)g->b.p + k0 * g->b.rs + jlo * g->b.cs, g->b.cs, g->b.rs}, cols, k, SIDE_B);
		for (long i = ilo; i < ihi; i += AMX_BLOCK) {
			const long rows = min(AMX_BLOCK, ihi - i);
			const elem *a = (const elem *)g->a.p + i / AMX_BLOCK * whole + k0 * AMX_BLOCK;
			float *sums = g->k > kb ? all + (i - ilo) * wide : all;
			strip(sums, k0 == 0, rows > 16, a, b, g->kept ? whole : steps * STEP, steps, wide, i + AMX_BLOCK < ihi ? a + whole : a);
			if (k0 + kb >= g->k)
				deliver(g, i, rows, jlo, cols, sums);
		}
	}
	_tile_release();
}

#include "attention_amx.h"
#include "attention_amx_back.h"

const amx_set amx_bf16 = {
	.columns = columns, .scratch = scratch, .pack_rows = pack_rows, .pack_cols = pack_cols, .gemm = gemm,
	.attention_scratch = amx_attention_scratch, .attention = amx_attention, .attention_back = amx_attention_back,
};
#endif
