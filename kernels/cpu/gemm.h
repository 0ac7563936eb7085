// Matrix products. A task computes rows [ilo, ihi) and columns [jlo, jhi) of c:
//
//      for each NC columns of b
//        for each block of k             b is packed: at most NC x KC floats, in L2
//          for each ROWS rows of a       at most ROWS x KC floats, in L1
//            for each COLS columns       tile: c (+)= a*b
//
//   b packed:  [columns/COLS][depth][COLS]
//   b kept:    the same for each block of k, one after the other (pack_cols)
//   a packed:  [rows/ROWS][k][ROWS]        only if transposed (pack_rows)
//
// Every element of c is the sum over blocks of k, in order, of sums over k, in
// order: the same for all numbers of rows, and all ways to cut c into tasks.

#define KC 640 // most of k that is multiplied at a time
#define NC 512
#define LDA (KC + 16) // rows of a copied strip must not share cache sets
#define GEMM_SCRATCH (NC * KC + ROWS * LDA + ROWS * COLS)

// pack_neighbours and pack_across copy x[k][cols] to dst[k][COLS], padding with
// zeros, where the columns, or the rows, of x are neighbours in memory.
static void pack_neighbours(float *dst, const elem *p, long stride, long k, long cols)
{
	for (long l = 0; l < k; l++, p += stride, dst += COLS)
		for (long j = 0; j < COLS; j += LANES)
			store(dst + j, get_part(p + j, max(0, cols - j)));
}

static void pack_across(float *dst, const elem *p, long stride, long k, long cols)
{
	for (long j = 0; j < COLS; j += LANES) {
		long l = 0, n = max(0, min(LANES, cols - j));
		for (; n == LANES && l + LANES <= k; l += LANES) {
			vec r[LANES];
#pragma GCC unroll 16
			for (int i = 0; i < LANES; i++)
				r[i] = get(p + (j + i) * stride + l);
			transpose(r);
#pragma GCC unroll 16
			for (int i = 0; i < LANES; i++)
				store(dst + (l + i) * COLS + j, r[i]);
		}
		for (; l < k; l++)
			for (long i = 0; i < LANES; i++)
				dst[l * COLS + j + i] = i < n ? get1(p + (j + i) * stride + l) : 0;
	}
}

// depth is how much of k makes a block: all blocks are about as long, since a short
// one costs as many loads and stores of c as a long one.
INLINE long depth(long k)
{
	long blocks = (k + KC - 1) / KC;
	return up((k + blocks - 1) / blocks, LANES);
}

// pack_strip packs rows [k0, k0+kc) of COLS columns of b, from column j.
INLINE void pack_strip(float *dst, mat b, long n, long j, long k0, long kc)
{
	const elem *p = (const elem *)b.p + k0 * b.rs + j * b.cs;
	if (b.cs == 1)
		pack_neighbours(dst, p, b.rs, kc, min(COLS, n - j));
	else
		pack_across(dst, p, b.cs, kc, min(COLS, n - j));
}

static void pack_cols(float *dst, mat b, long n, long k, long lo, long hi)
{
	long width = up(n, COLS), step = depth(k);
	for (long j = lo * COLS; j < hi * COLS; j += COLS)
		for (long k0 = 0; k0 < k; k0 += step) {
			long kc = min(step, k - k0);
			pack_strip(dst + k0 * width + j * kc, b, n, j, k0, kc);
		}
}

// A transposed a is packed beforehand: each k of a few rows costs a cache line
// and a page, so it is read once, several strips at a time.
static void pack_rows(float *dst, mat a, long m, long k, long lo, long hi)
{
	for (long l = 0; l < k; l++)
		for (long i = lo * ROWS; i < hi * ROWS; i += ROWS) {
			float *d = dst + i * k + l * ROWS;
			const elem *p = (const elem *)a.p + i + l * a.cs;
			for (int r = 0; r < ROWS; r += LANES)
				store_part(d + r, get_part(p + r, min(ROWS, m - i) - r), ROWS - r);
		}
}

// copy_strip copies rows of a as float32 to dst[rows][LDA].
static void copy_strip(float *dst, const elem *p, long stride, long rows, long k)
{
	for (long i = 0; i < rows; i++, dst += LDA, p += stride)
		for (long l = 0; l < k; l += LANES)
			store_part(dst + l, get_part(p + l, k - l), k - l);
}

// few_or_all multiplies one strip of a with COLS packed columns of b. A strip of few rows
// takes a tile of few, so that one row costs what it must.
static __attribute__((noinline)) void few_or_all(long rows, float *c, long ldc, int how, const float *a, long rs, const float *b, long k, const ahead *next)
{
	if (rows == ROWS)
		tile(ROWS, 2, c, ldc, how, a, rs, 1, b, COLS, k, next);
#define FEW(n) \
	else if (n < ROWS && rows == n) \
		tile(n < ROWS ? n : 1, 2, c, ldc, how, a, rs, 1, b, COLS, k, next);
	FEW(1) FEW(2) FEW(3) FEW(4) FEW(5) FEW(6) FEW(7) FEW(8) FEW(9) FEW(10) FEW(11) FEW(12) FEW(13)
#undef FEW
}
// block multiplies a strip of a with nc packed columns of b. Tiles over the edge
// of c go through a small buffer.
static void block(float *c, long ldc, int accumulate, int packed, const float *a, long rs, long rows, const float *bp, long nc, long kc, float *edge, ahead *next)
{
	for (long j = 0; j < nc; j += COLS) {
		long cols = min(COLS, nc - j);
		int whole = cols == COLS && (rows == ROWS || !packed);
		float *out = whole ? c + j : edge;
		long ldo = whole ? ldc : COLS;
		int how = whole && accumulate ? ADD : SET;
		if (packed)
			tile_cols(out, ldo, how, a, ROWS, bp + j * kc, COLS, kc);
		else if (rows == ROWS && !next->step)
			tile_rows(out, ldo, how, a, rs, bp + j * kc, COLS, kc);
		else
			few_or_all(rows, out, ldo, how, a, rs, bp + j * kc, kc, next);
		next->at += kc * next->step;
		if (whole)
			continue;
		for (long r = 0; r < rows; r++)
			for (long l = 0; l < cols; l++)
				c[r * ldc + j + l] = edge[r * COLS + l] + (accumulate ? c[r * ldc + j + l] : 0);
	}
}

// add_residual adds the residual of rows x nc elements of c, which are on their way into c's
// rows from i and columns from j.
static void add_residual(const gemm_args *g, elem *c, long i, long rows, long j, long nc)
{
	const elem *x = (const elem *)g->residual + i * g->n + j;
	for (long r = 0; r < rows; r++, c += g->ldc, x += g->n)
		for (long l = 0; l < nc; l += LANES)
			put_part(c + l, get_part(x + l, nc - l) + get_part(c + l, nc - l), nc - l);
}

// kept_at is where the block of k from k0 of the kept columns from j begins.
INLINE const float *kept_at(const gemm_args *g, long j, long k0)
{
	return g->kept + k0 * up(g->n, COLS) + j * min(depth(g->k), g->k - k0);
}

// few_rows tells whether rows of a fit the cache beside two narrow blocks of b. Then few
// columns are worked on at a time.
INLINE int few_rows(const gemm_args *g, long rows) { return rows * depth(g->k) <= NC * KC; }

// columns computes nc <= NC columns of c, from column j. Kept columns are read from
// memory once; while a narrow block of them is multiplied, all of its tiles together
// fetch the block that follows. For many rows, waiting for a block is a small part.
static void columns(float *c, long ldc, const gemm_args *g, long ilo, long ihi, long j, long nc, float *scratch)
{
	float *fresh = scratch, *copy = fresh + NC * KC, *edge = copy + ROWS * LDA;
	long most = depth(g->k), strips = (ihi - ilo + ROWS - 1) / ROWS;
	for (long k0 = 0; k0 < g->k; k0 += most) {
		long kc = min(most, g->k - k0);
		const float *bp = fresh;
		ahead next = {(const char *)fresh, 0};
		if (g->kept) {
			bp = kept_at(g, j, k0);
			next.at = (const char *)(k0 + most < g->k ? kept_at(g, j, k0 + most) : kept_at(g, j + nc, 0));
			if (few_rows(g, ihi - ilo))
				next.step = (COLS * sizeof(float) + strips - 1) / strips;
		}
		for (long l = 0; !g->kept && l < nc; l += COLS)
			pack_strip(fresh + l * kc, g->b, g->n, j + l, k0, kc);
		for (long i = ilo; i < ihi; i += ROWS) {
			long rows = min(ROWS, ihi - i), rs = g->a.rs;
			const float *a;
			if (g->packed) {
				a = (const float *)g->a.p + i * g->k + k0 * ROWS;
			} else if (!BF16) {
				a = (const float *)g->a.p + i * rs + k0;
			} else {
				copy_strip(copy, (const elem *)g->a.p + i * rs + k0, rs, rows, kc);
				a = copy;
				rs = LDA;
			}
			block(c + (i - ilo) * ldc, ldc, g->accumulate || k0 > 0, g->packed, a, rs, rows, bp, nc, kc, edge, &next);
			if (!BF16 && g->residual && k0 + kc >= g->k)
				add_residual(g, (elem *)c + (i - ilo) * ldc, i, rows, j, nc);
		}
	}
}

// In gemm ilo is a multiple of ROWS. A bfloat16 c is summed up as float32 in scratch and rounded once.
static void gemm(const gemm_args *g, long ilo, long ihi, long jlo, long jhi, float *scratch)
{
	long most = few_rows(g, ihi - ilo) ? NC / 4 : NC;
	for (long j = jlo; j < jhi; j += most) {
		long nc = min(most, jhi - j);
		if (!BF16 || g->c_float) {
			columns((float *)g->c + ilo * g->ldc + j, g->ldc, g, ilo, ihi, j, nc, scratch);
			continue;
		}
		float *sums = scratch + GEMM_SCRATCH;
		elem *c = (elem *)g->c + ilo * g->ldc + j;
		for (long i = 0; g->accumulate && i < ihi - ilo; i++)
			for (long l = 0; l < nc; l += LANES)
				store_part(sums + i * NC + l, get_part(c + i * g->ldc + l, nc - l), nc - l);
		columns(sums, NC, g, ilo, ihi, j, nc, scratch);
		for (long i = 0; i < ihi - ilo; i++)
			for (long l = 0; l < nc; l += LANES)
				put_part(c + i * g->ldc + l, load_part(sums + i * NC + l, nc - l), nc - l);
		if (g->residual)
			add_residual(g, c, ilo, ihi - ilo, j, nc);
	}
}
