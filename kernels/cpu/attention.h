// Attention over segments, forward. A task is a piece, for the query heads that share
// one kv head; see attention_shape.h.
//
// Keys are taken in blocks of KEYS, and no more than the scores of ROWS rows by one
// block is kept. A row has a running maximum, and sums that are rescaled when it grows
// (Milakov and Gimelshein, arXiv 1805.02867). Blocks begin at multiples of KEYS and a
// row's sums run over key numbers, so its bits are the same whether a key lies in the
// prefix or in the segment itself, and wherever the piece begins.
//
// Scores are in base 2: queries carry log2(e)/sqrt(dim).

// A tile covers all keys that any of its rows sees; what a row does not see has
// weight zero. MARGIN zeros on both sides of what it sees are enough for that, since
// the rows of a strip lie within ROWS tokens. A row's right margin is the next one's left.
#define MARGIN (ROWS > LANES ? 2 * LANES : LANES)
#define LDB (KEYS + MARGIN)

// copy_keys copies the part of qkv at offset at, of keys [j0, j0+keys), to
// dst[keys][wide], and clears what is missing to a multiple of COLS.
static void copy_keys(float *dst, const elem *qkv, long at, const shape *x, long j0, long keys)
{
	for (long j = 0; j < keys; j++, dst += x->wide) {
		const elem *p = key(qkv, x, j0 + j) + at;
		for (long l = 0; l < x->wide; l += LANES)
			store(dst + l, get_part(p + l, x->dim - l));
	}
	memset(dst, 0, 4 * (up(keys, COLS) - keys) * x->wide);
}

// panels is copy_keys to [keys/COLS][dim][COLS], the tile's operand b.
static void panels(float *dst, const elem *qkv, long at, const shape *x, long j0, long keys)
{
	const elem *none = key(qkv, x, j0) + at;
	for (long j = 0; j < keys; j += COLS, dst += x->dim * COLS)
		for (long i = 0; i < COLS; i += LANES) {
			const elem *p[LANES];
			for (int n = 0; n < LANES; n++)
				p[n] = j + i + n < keys ? key(qkv, x, j0 + j + i + n) + at : NULL;
			for (long l = 0; l < x->dim; l += LANES) {
				vec r[LANES];
#pragma GCC unroll 16
				for (int n = 0; n < LANES; n++)
					r[n] = get_part(p[n] ? p[n] + l : none, p[n] ? x->dim - l : 0);
				transpose(r);
				for (int n = 0; n < LANES && l + n < x->dim; n++)
					store(dst + (l + n) * COLS + i, r[n]);
			}
		}
}

// copy_rows copies rows [v, v+n) of a [tokens][heads][dim] array, which begins at p,
// scaled, to dst[][wide], and clears the rest of pad rows.
static void copy_rows(float *dst, const elem *p, long stride, const shape *x, long v, long n, long pad, float scale)
{
	for (long i = 0; i < n; i++, dst += x->wide) {
		const elem *r = p + token(x, v + i) * stride + (v + i) % x->group * x->dim;
		for (long l = 0; l < x->wide; l += LANES)
			store(dst + l, get_part(r + l, x->dim - l) * scale);
	}
	memset(dst, 0, 4 * (pad - n) * x->wide);
}

// A span is what rows [v, v+n) of a strip see of the keys [j0, j0+keys): row i keys
// [lo[i], hi[i]), all rows together [from, to), counted from j0.
typedef struct { long n, from, to, lo[ROWS], hi[ROWS]; } span;

static span span_of(const shape *x, const int32_t *limits, long n, long j0, long keys)
{
	span s = {.n = n, .from = keys};
	for (long i = 0; i < n; i++) {
		s.lo[i] = min(keys, max(0, first_key(x, limits[i]) - j0));
		s.hi[i] = max(s.lo[i], min(keys, limits[i] - j0));
		if (s.lo[i] == s.hi[i])
			continue;
		s.from = min(s.from, s.lo[i]);
		s.to = max(s.to, s.hi[i]);
	}
	return s;
}

// products computes scores[i][j] = q[i]*k[j] of a strip, by tiles.
static void products(float *scores, const float *q, const float *panels, const shape *x, const span *s)
{
	for (long j = s->from / COLS * COLS; j < s->to; j += COLS)
		tile_rows(scores + j, LDB, SET, q, x->wide, panels + j * x->dim, COLS, x->dim);
}

// clear makes the margins of r[lo, hi) zero.
INLINE void clear(float *r, long lo, long hi)
{
	const vec zero = {};
	for (int l = 0; l < MARGIN; l += LANES) {
		store(r + lo - MARGIN + l, zero);
		store(r + hi + l, zero);
	}
}

// add_rows adds a[ROWS][k] * b[k][wide] to c[ROWS][wide], and add_cols the product
// with a transposed, a[k][ROWS].
static void add_rows(float *c, const float *a, const float *b, long wide, long k)
{
	long l = 0;
	for (; l + COLS <= wide; l += COLS)
		tile_rows(c + l, wide, ADD, a, LDB, b + l, wide, k);
	if (l < wide)
		half_rows(c + l, wide, ADD, a, LDB, b + l, wide, k);
}
static void add_cols(float *c, const float *a, const float *b, long wide, long k)
{
	long l = 0;
	for (; l + COLS <= wide; l += COLS)
		tile_cols(c + l, wide, ADD, a, LDB, b + l, wide, k);
	if (l < wide)
		half_cols(c + l, wide, ADD, a, LDB, b + l, wide, k);
}

// top_of returns the largest of r[lo, hi) and before, and puts -Inf behind it.
INLINE float top_of(float *r, long lo, long hi, float before)
{
	vec m = {};
	store(r + hi, m - INFINITY);
	m += before;
	for (long j = lo; j < hi; j += LANES)
		m = larger(m, load(r + j));
	return largest(m);
}

// weights turns r[lo, hi) into 2**(r - top) and returns the sum; behind it lies what
// top_of wrote, of weight zero. It clears the margins.
INLINE float weights(float *r, long lo, long hi, float top)
{
	vec total = {};
	for (long j = lo; j < hi; j += LANES) {
		vec e = weight(load(r + j) - top);
		store(r + j, e);
		total += e;
	}
	clear(r, lo, hi);
	return sum_lanes(total);
}

typedef struct {
	float *q, *o, *top, *total;       // [rows], rounded up to ROWS
	int32_t *limits;                  // [rows]
	float *panels, *values, *scores;  // [KEYS], [KEYS], [ROWS][LDB]
} forward_buffers;

static forward_buffers forward_layout(float *m, const shape *x, long *size)
{
	const long rows = up(x->rows, ROWS);
	forward_buffers b = {.q = m, .o = m + rows * x->wide};
	b.top = b.o + rows * x->wide, b.total = b.top + rows, b.limits = (int32_t *)(b.total + rows);
	b.panels = (float *)(b.limits + rows), b.values = b.panels + KEYS * x->wide, b.scores = b.values + KEYS * x->wide;
	*size = b.scores + ROWS * LDB + MARGIN - m;
	return b;
}

// attend adds what a strip of n rows from v sees of a block of keys to its sums.
static void attend(const forward_buffers *b, const shape *x, long v, long n, long j0, long keys)
{
	const span s = span_of(x, b->limits + v, n, j0, keys);
	if (s.from >= s.to)
		return;
	float *scores = b->scores + MARGIN, *o = b->o + v * x->wide, shrink[MARGIN] = {};
	products(scores, b->q + v * x->wide, b->panels, x, &s);
	for (long i = 0; i < n; i++) {
		const float before = b->top[v + i], top = s.lo[i] < s.hi[i] ? top_of(scores + i * LDB, s.lo[i], s.hi[i], before) : before;
		shrink[i] = s.lo[i] < s.hi[i] ? before - top : 0;
		b->top[v + i] = top;
	}
	for (long i = 0; i < n; i += LANES)
		store(shrink + i, weight(load(shrink + i)));
	for (long i = 0; i < n; i++) {
		b->total[v + i] = b->total[v + i] * shrink[i] + weights(scores + i * LDB, s.lo[i], s.hi[i], b->top[v + i]);
		for (long l = 0; l < x->wide && shrink[i] != 1; l += LANES)
			store(o + i * x->wide + l, load(o + i * x->wide + l) * shrink[i]);
	}
	add_rows(o, scores + s.from, b->values + s.from * x->wide, x->wide, s.to - s.from);
}

static void write_rows(const attention_args *a, const forward_buffers *b, const shape *x)
{
	for (long v = 0; v < x->rows; v++) {
		const long at = token(x, v) * a->q_heads + head(x, v);
		elem *out = (elem *)a->out + at * x->dim;
		for (long l = 0; l < x->dim; l += LANES)
			put_part(out + l, load(b->o + v * x->wide + l) / b->total[v], x->dim - l);
		a->lse[at] = (b->top[v] + log2f(b->total[v])) * LN2;
	}
}

static void attention(const attention_args *a, const piece *p, long kv, float *scratch)
{
	const shape x = shape_of(a, p, kv);
	const long padded = up(x.rows, ROWS);
	long size;
	forward_buffers b = forward_layout(scratch, &x, &size);
	set_limits(b.limits, &x);
	copy_rows(b.q, (const elem *)a->qkv + x.q, x.stride, &x, 0, x.rows, padded, x.scale * LOG2E);
	memset(b.o, 0, 4 * padded * x.wide);
	for (long v = 0; v < padded; v++)
		b.top[v] = -INFINITY, b.total[v] = 0;
	for (long j = x.first / KEYS * KEYS; j < x.last; j += KEYS) {
		const long keys = min(KEYS, x.last - j);
		panels(b.panels, a->qkv, x.k, &x, j, keys);
		copy_keys(b.values, a->qkv, x.v, &x, j, keys);
		for (long v = 0; v < x.rows; v += ROWS)
			attend(&b, &x, v, min(ROWS, x.rows - v), j, keys);
	}
	write_rows(a, &b, &x);
}
