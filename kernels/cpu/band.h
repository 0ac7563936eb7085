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

// run continues c[COLS] with a[k*cs] * b[k] for k in [lo, hi).
INLINE void run(float *c, const float *a, long cs, const float *b, long ldb, long lo, long hi)
{
	vec c0 = load(c), c1 = load(c + LANES);
	for (long k = lo; k < hi; k++) {
		c0 += a[k * cs] * load(b + k * ldb);
		c1 += a[k * cs] * load(b + k * ldb + LANES);
	}
	store(c, c0);
	store(c + LANES, c1);
}

// band computes rows [0, m) of c[ROWS][wide] = or += a*b, m <= ROWS, and leaves the
// others alone. a has ROWS rows (those past m may hold anything), wide is a
// multiple of COLS.
INLINE void band(float *c, long ldc, int add, const float *a, long rs, long cs, const float *b, long ldb, long wide, long m, const long *lo, const long *hi)
{
	long from = lo[0], to = hi[0], first = lo[0], last = hi[0];
	for (long i = 1; i < m; i++) {
		from = max(from, lo[i]);
		to = min(to, hi[i]);
		first = min(first, lo[i]);
		last = max(last, hi[i]);
	}
	int whole = m == ROWS && from == first && to == last;
	to = max(from, to);
	for (long l = 0; l < wide; l += COLS) {
		float sums[ROWS * COLS] = {};
		float *t = whole ? c + l : sums;
		long ldt = whole ? ldc : COLS;
		int how = !whole ? CONTINUE : add ? ADD : SET;
		for (long i = 0; i < m && !whole; i++)
			run(t + i * ldt, a + i * rs, cs, b + l, ldb, lo[i], min(from, hi[i]));
		if (cs == 1)
			tile_rows(t, ldt, how, a + from, rs, b + from * ldb + l, ldb, to - from);
		else
			tile_cols(t, ldt, how, a + from * cs, cs, b + from * ldb + l, ldb, to - from);
		for (long i = 0; i < m && !whole; i++) {
			run(t + i * ldt, a + i * rs, cs, b + l, ldb, to, hi[i]);
			for (long j = 0; j < COLS; j += LANES) {
				vec s = load(t + i * ldt + j);
				if (add)
					s += load(c + i * ldc + l + j);
				store(c + i * ldc + l + j, s);
			}
		}
	}
}

static __attribute__((noinline)) void band_rows(float *c, long ldc, int add, const float *a, long rs, const float *b, long ldb, long wide, long m, const long *lo, const long *hi)
{
	band(c, ldc, add, a, rs, 1, b, ldb, wide, m, lo, hi);
}
static __attribute__((noinline)) void band_cols(float *c, long ldc, int add, const float *a, long cs, const float *b, long ldb, long wide, long m, const long *lo, const long *hi)
{
	band(c, ldc, add, a, 1, cs, b, ldb, wide, m, lo, hi);
}
