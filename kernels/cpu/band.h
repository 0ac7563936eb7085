// Products in which each row of a has its own range of k, as causal attention
// and sliding windows make them:
//
//        k ->
//   ...[lo0 ######################## hi0)...
//   .....[lo1 ######################## hi1)...      row by row | tile | row by row
//   .......[lo2 ######################## hi2)...
//          |    <- common to all ->    |
//
// What lies outside of a row's range is not read into its sums at all (0 * NaN is
// NaN), and each sum is over k in ascending order, so it does not matter which
// rows share a strip.

// run continues c[width vectors] with a[k*cs] * b[k] for k in [lo, hi).
INLINE void run(int width, float *c, const float *a, long cs, const float *b, long ldb, long lo, long hi)
{
	vec c0 = load(c), c1 = width > 1 ? load(c + LANES) : c0;
	for (long k = lo; k < hi; k++) {
		c0 += a[k * cs] * load(b + k * ldb);
		if (width > 1)
			c1 += a[k * cs] * load(b + k * ldb + LANES);
	}
	store(c, c0);
	if (width > 1)
		store(c + LANES, c1);
}

// ranges are the rows' own and what is common to all.
typedef struct { const long *lo, *hi; long m, from, to; int whole; } ranges;

// strip computes width vectors of every row.
INLINE void strip(int width, const ranges *r, float *c, long ldc, int add, const float *a, long rs, long cs, const float *b, long ldb)
{
	float sums[ROWS * COLS] = {};
	float *t = r->whole ? c : sums;
	long ldt = r->whole ? ldc : COLS, from = r->from, n = r->to - from;
	int how = !r->whole ? CONTINUE : add ? ADD : SET;
	for (long i = 0; i < r->m && !r->whole; i++)
		run(width, t + i * ldt, a + i * rs, cs, b, ldb, r->lo[i], min(from, r->hi[i]));
	a += from * cs;
	if (cs == 1)
		(width > 1 ? tile_rows : half_rows)(t, ldt, how, a, rs, b + from * ldb, ldb, n);
	else
		(width > 1 ? tile_cols : half_cols)(t, ldt, how, a, cs, b + from * ldb, ldb, n);
	a -= from * cs;
	for (long i = 0; i < r->m && !r->whole; i++) {
		run(width, t + i * ldt, a + i * rs, cs, b, ldb, r->to, r->hi[i]);
		for (long j = 0; j < width * LANES; j += LANES) {
			vec s = load(t + i * ldt + j);
			if (add)
				s += load(c + i * ldc + j);
			store(c + i * ldc + j, s);
		}
	}
}

// band computes rows [0, m) of c[ROWS][wide] = or += a*b, m <= ROWS, and leaves the
// others alone. a has ROWS rows (those past m may hold anything), wide is a
// multiple of LANES.
INLINE void band(float *c, long ldc, int add, const float *a, long rs, long cs, const float *b, long ldb, long wide, long m, const long *lo, const long *hi)
{
	long from = lo[0], to = hi[0], first = lo[0], last = hi[0];
	for (long i = 1; i < m; i++) {
		from = max(from, lo[i]);
		to = min(to, hi[i]);
		first = min(first, lo[i]);
		last = max(last, hi[i]);
	}
	ranges r = {lo, hi, m, from, max(from, to), m == ROWS && from == first && to == last};
	long l = 0;
	for (; l + COLS <= wide; l += COLS)
		strip(2, &r, c + l, ldc, add, a, rs, cs, b + l, ldb);
	if (l < wide)
		strip(1, &r, c + l, ldc, add, a, rs, cs, b + l, ldb);
}

static __attribute__((noinline)) void band_rows(float *c, long ldc, int add, const float *a, long rs, const float *b, long ldb, long wide, long m, const long *lo, const long *hi)
{
	band(c, ldc, add, a, rs, 1, b, ldb, wide, m, lo, hi);
}
static __attribute__((noinline)) void band_cols(float *c, long ldc, int add, const float *a, long cs, const float *b, long ldb, long wide, long m, const long *lo, const long *hi)
{
	band(c, ldc, add, a, 1, cs, b, ldb, wide, m, lo, hi);
}
