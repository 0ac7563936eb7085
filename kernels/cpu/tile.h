// The register tile: every product of matrices, and attention, is made of calls
// to it.
//
//                 b   COLS = 2 vectors
//                 |   |
//               k |   |      b is read forwards, COLS floats per k
//                 |   |
//        ____k____|___|
//   ROWS |   a    | c |      c stays in ROWS*2 registers
//        |________|___|
//
// An element of c is the sum over k in ascending order, whichever row of the tile
// it lies in, so a row's result does not depend on the rows beside it.

#define COLS (2 * LANES)

enum {
	SET,      // c = a*b
	ADD,      // c = a*b + c: the product is summed first
	CONTINUE, // c = ((c + a0*b0) + a1*b1) + ...
};

// Rows of a are addressed from every fifth, as a plus up to four strides. From one
// pointer a compiler derives a multiple of the stride for each row, and keeps them in
// memory and in vector registers for want of others.
enum { STRIDES = 5 };
#define HIDE(pointer) __asm__("" : "+r"(pointer))

// What the tile fetches into the cache meanwhile: step bytes more with every k.
typedef struct { const char *at; long step; } ahead;

INLINE void tile(int rows, int width, float *c, long ldc, int how, const float *a, long rs, long cs, const float *b, long ldb, long k, const ahead *next)
{
	vec acc[ROWS][2] = {};
	const char *fetch = next ? next->at : NULL;
	const float *from[(ROWS + STRIDES - 1) / STRIDES];
#pragma GCC unroll 16
	for (int i = 0; i < rows; i += STRIDES) {
		from[i / STRIDES] = a + i * rs;
		HIDE(from[i / STRIDES]);
	}
	if (how == CONTINUE)
#pragma GCC unroll 16
		for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
			for (int j = 0; j < width; j++)
				acc[i][j] = load(c + i * ldc + j * LANES);
	for (; k > 0; k--, b += ldb) {
		vec b0 = load(b), b1 = width > 1 ? load(b + LANES) : b0;
		if (next) {
			__builtin_prefetch(fetch, 0, 2);
			fetch += next->step;
		}
#pragma GCC unroll 16
		for (int i = 0; i < rows; i++) {
			const float *p = from[i / STRIDES] + i % STRIDES * rs;
			acc[i][0] += *p * b0;
			if (width > 1)
				acc[i][1] += *p * b1;
		}
#pragma GCC unroll 16
		for (int i = 0; i < rows; i += STRIDES)
			from[i / STRIDES] += cs;
	}
#pragma GCC unroll 16
	for (int i = 0; i < rows; i++, c += ldc)
#pragma GCC unroll 2
		for (int j = 0; j < width; j++) {
			if (how == ADD)
				acc[i][j] += load(c + j * LANES);
			store(c + j * LANES, acc[i][j]);
		}
}

// The two layouts of a that occur, each with one stride known to the compiler, and
// the same half as wide, for heads of few channels.
static __attribute__((noinline)) void tile_rows(float *c, long ldc, int how, const float *a, long rs, const float *b, long ldb, long k)
{
	tile(ROWS, 2, c, ldc, how, a, rs, 1, b, ldb, k, NULL);
}
static __attribute__((noinline)) void tile_cols(float *c, long ldc, int how, const float *a, long cs, const float *b, long ldb, long k)
{
	tile(ROWS, 2, c, ldc, how, a, 1, cs, b, ldb, k, NULL);
}
static __attribute__((noinline)) void half_rows(float *c, long ldc, int how, const float *a, long rs, const float *b, long ldb, long k)
{
	tile(ROWS, 1, c, ldc, how, a, rs, 1, b, ldb, k, NULL);
}
static __attribute__((noinline)) void half_cols(float *c, long ldc, int how, const float *a, long cs, const float *b, long ldb, long k)
{
	tile(ROWS, 1, c, ldc, how, a, 1, cs, b, ldb, k, NULL);
}
