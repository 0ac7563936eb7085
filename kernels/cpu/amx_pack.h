// Packing for AMX. Both operands become panels of 32 rows of a, or columns of b:
//
//   [panel][k/32][2 tiles][512]     a step of k is 2 KB, a panel one stream
//
//   tile of a: [16 rows][32 k]            tile of b: [16 pairs of k][16 columns][2]
//   tile of b, were it transposed:        [16 columns][32 k], as 32-bit pairs of k
//
// An operand whose neighbours in memory are along k has tiles of a as they are; one
// that is read across gives tiles of b by interleaving two rows. A transpose of 16 x
// 16 pairs turns one into the other. What is past the edge becomes zeros.

#define TILE 512          // elements of a tile
#define STEP (2 * TILE)   // elements of a panel per 32 of k

enum { SIDE_A, SIDE_B };

INLINE __mmask32 first_halves(long n) { return n >= 32 ? 0xffffffff : ((__mmask32)1 << max(n, 0)) - 1; }

// line reads n of 32 elements.
INLINE __m512i line(const elem *p, long n)
{
	return n >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16(first_halves(n), p);
}

INLINE void put_tile(elem *dst, vec r[16])
{
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		store((float *)dst + 16 * i, r[i]);
}

// along packs a step of rows whose elements are neighbours: 16 rows per tile.
static void along(elem *dst, const elem *p, long stride, long rows, long k, int side)
{
	const long ahead = 8 * AMX_BLOCK;
	for (int t = 0; t < 2; t++, dst += TILE, p += 16 * stride, rows -= 16) {
		vec r[16];
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			r[i] = (vec)line(p + i * stride, i < rows ? k : 0);
			__builtin_prefetch(p + i * stride + ahead);
		}
		if (side == SIDE_B)
			transpose(r);
		put_tile(dst, r);
	}
}

// across packs a step of columns: 32 neighbours for each k.
static void across(elem *dst, const elem *p, long stride, long cols, long k, int side)
{
	const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
	vec lo[16], hi[16];
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++, p += 2 * stride) {
		__m512i even = line(p, 2 * i < k ? cols : 0), odd = line(p + stride, 2 * i + 1 < k ? cols : 0);
		__builtin_prefetch(p + 32 * stride);
		__builtin_prefetch(p + 33 * stride);
		even = _mm512_permutexvar_epi64(order, even);
		odd = _mm512_permutexvar_epi64(order, odd);
		lo[i] = (vec)_mm512_unpacklo_epi16(even, odd);
		hi[i] = (vec)_mm512_unpackhi_epi16(even, odd);
	}
	if (side == SIDE_A) {
		transpose(lo);
		transpose(hi);
	}
	put_tile(dst, lo);
	put_tile(dst + TILE, hi);
}

// pack packs rows of x, each of k elements, and walks x in the order of its memory.
INLINE void pack(elem *dst, mat x, long rows, long k, int side)
{
	const elem *p = x.p;
	const long panel = up(k, AMX_BLOCK) / AMX_BLOCK * STEP;
	if (x.cs == 1) {
		for (long i = 0; i < rows; i += AMX_BLOCK, dst += panel)
			for (long l = 0; l < k; l += AMX_BLOCK)
				along(dst + l / AMX_BLOCK * STEP, p + i * x.rs + l, x.rs, rows - i, k - l, side);
		return;
	}
	for (long l = 0; l < k; l += AMX_BLOCK, dst += STEP)
		for (long i = 0; i < rows; i += AMX_BLOCK)
			across(dst + i / AMX_BLOCK * panel, p + l * x.cs + i, x.cs, rows - i, k - l, side);
}
