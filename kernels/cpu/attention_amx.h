// Attention over segments on AMX, forward; see attention_shape.h for pieces, rows and
// keys. Queries, keys and values are bfloat16 already; weights, and the gradients of
// scores, are rounded to it before they are multiplied again. Everything else, sums
// included, is float32.
//
// Scores are computed transposed, keys by rows: then maxima, sums and statistics of 16
// rows are vectors, and weights become an operand of the next product without being
// transposed.
//
//   scores[keys][rows] = k * qᵀ        out[dim][rows] = vᵀ * weights[keys][rows]
//
// Blocks of AMX_KEYS keys begin at multiples of it; rows have running maxima and sums
// that are rescaled, as in attention.h. A key that a row does not see has weight zero,
// which adds nothing. Keys before all that the piece sees are zeros, so what is not a
// number reaches at most rows of a segment of which some row sees it.

#define AMX_KEYS 256 // keys of a block
#define UNIT AMX_BLOCK

INLINE long units(long n) { return up(n, UNIT) / UNIT; }

// amx_weight is weight within 3e-6: bfloat16 has 4e-3.
INLINE vec amx_weight(vec x)
{
	const float whole = 12582912.0f + 127;
	const vec zero = {};
	x = larger(zero - 127.0f, x);
	vec shifted = x + whole, t = x - (shifted - whole);
	vec p = t * 9.582852945e-3f + 5.590642616e-2f;
	p = p * t + 2.402409911e-1f;
	p = p * t + 6.931241751e-1f;
	return (p * t + 1.0f) * (vec)((ivec)shifted << 23);
}

// line_of rounds 32 floats to a line of a tile of a, interleaved two rows of 16 to one
// of a tile of b.
INLINE __m512i line_of(vec lo, vec hi) { return (__m512i)_mm512_cvtne2ps_pbh((__m512)hi, (__m512)lo); }
INLINE __m512i interleaved(vec even, vec odd)
{
	const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
		23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
	return _mm512_permutexvar_epi16(order, line_of(even, odd));
}

// places finds rows v, v+1, ... v+n-1, n at most UNIT, of a [tokens][heads][dim] array.
INLINE void places(long at[UNIT], const shape *x, long stride, long v, long n)
{
	long h = v % x->group, row = token(x, v) * stride;
	for (long i = 0; i < n; i++) {
		at[i] = row + h * x->dim;
		if (++h == x->group)
			h = 0, row += stride;
	}
}

// gather_rows copies all rows of such an array, which begins at p, to dst[][wide], and
// clears the rest of the last unit.
static void gather_rows(elem *dst, const elem *p, long stride, const shape *x, long wide)
{
	for (long v = 0; v < x->rows; v += UNIT) {
		const long n = min(UNIT, x->rows - v);
		long at[UNIT];
		places(at, x, stride, v, n);
		for (long i = 0; i < n; i++, dst += wide)
			for (long l = 0; l < wide; l += 32)
				_mm512_storeu_si512(dst + l, line(p + at[i] + l, x->dim - l));
	}
	memset(dst, 0, sizeof(elem) * (up(x->rows, UNIT) - x->rows) * wide);
}

// gather_keys does so with the part of qkv at offset at, of keys [j0, j0+keys).
static void gather_keys(elem *dst, const elem *qkv, long at, const shape *x, long wide, long j0, long keys)
{
	for (long j = j0; j < j0 + keys; j++, dst += wide) {
		const elem *p = key(qkv, x, j) + at;
		for (long l = 0; l < wide; l += 32)
			_mm512_storeu_si512(dst + l, line(p + l, j < x->first ? 0 : x->dim - l));
	}
	memset(dst, 0, sizeof(elem) * (up(keys, UNIT) - keys) * wide);
}

// A view is what a unit of rows from v sees of a block of keys: units [from, to) of it.
typedef struct {
	long v, from, to;
	long first, limit; // all rows see [first, limit)
	ivec lo[2], hi[2]; // the rows' own, 16 at a time
} view;

static view view_of(const shape *x, const int32_t *limits, long v, long j0, long keys)
{
	const long last = min(v + UNIT, x->rows) - 1;
	view w = {.v = v, .from = max(0, first_key(x, limits[v]) - j0) / UNIT};
	w.to = max(w.from, units(min(keys, limits[last] - j0)));
	w.first = first_key(x, limits[last]);
	w.limit = last == v + UNIT - 1 ? limits[v] : 0;
	for (int h = 0; h < 2; h++) {
		w.hi[h] = *(const ivec *)(limits + v + 16 * h);
		w.lo[h] = x->window ? w.hi[h] - (int32_t)x->window : w.hi[h] & 0;
	}
	return w;
}

// all_see reports whether all rows see all keys of the unit at j, and sees which of 16
// rows see key j.
INLINE int all_see(const view *w, long j) { return w->first <= j && j + UNIT <= w->limit; }
INLINE __mmask16 sees(const view *w, int h, long j)
{
	const __m512i at = _mm512_set1_epi32((int)j);
	return _mm512_cmple_epi32_mask((__m512i)w->lo[h], at) & _mm512_cmpgt_epi32_mask((__m512i)w->hi[h], at);
}

// put_rows writes sums [dim][32 rows], times the factors of rows, to rows v, v+1, ...
// of a [tokens][heads][dim] array, which begins at p.
static void put_rows(elem *p, long stride, const shape *x, long v, const float *sums, const vec factor[2])
{
	const long n = min(UNIT, x->rows - v);
	long at[UNIT];
	places(at, x, stride, v, n);
	for (long l = 0; l < x->dim; l += 16, sums += 16 * UNIT)
		for (int h = 0; h < 2; h++) {
			const __mmask16 some = (__mmask16)first_halves(min(16, x->dim - l));
			vec r[16];
#pragma GCC unroll 16
			for (int i = 0; i < 16; i++)
				r[i] = load(sums + i * UNIT + 16 * h) * factor[h];
			transpose(r);
			for (long i = 0; i < min(16, n - 16 * h); i++)
				_mm256_mask_storeu_epi16(p + at[16 * h + i] + l, some, (__m256i)_mm512_cvtneps_pbh((__m512)r[i]));
		}
}

typedef struct {
	elem *copy, *q;                  // [rows][wide], or [AMX_KEYS]; q as an operand
	float *out, *top, *total;        // [rows/32][wide][32], [rows], [rows]
	int32_t *limits;                 // [rows]
	elem *k, *v;                     // [AMX_KEYS]
	float *scores;                   // [AMX_KEYS][32]
	elem *weights;                   // [AMX_KEYS/32][2 tiles]
} amx_forward;

static amx_forward amx_forward_layout(float *m, const shape *x, long *size)
{
	const long wide = up(x->dim, UNIT), rows = up(x->rows, UNIT), keys = AMX_KEYS * wide;
	amx_forward b = {.out = m, .top = m + rows * wide};
	b.total = b.top + rows, b.limits = (int32_t *)(b.total + rows), b.scores = (float *)(b.limits + rows);
	b.weights = (elem *)(b.scores + AMX_KEYS * UNIT), b.k = b.weights + AMX_KEYS * UNIT, b.v = b.k + keys;
	b.q = b.v + keys, b.copy = b.q + rows * wide;
	*size = (float *)(b.copy + max(keys, rows * wide)) - m;
	return b;
}

// hide makes the scores of a unit of keys that a row does not see -Inf.
static void hide(float *scores, const view *w, long j0)
{
	const vec zero = {};
	for (long j = 0; j < UNIT; j++)
		for (int h = 0; h < 2; h++) {
			float *s = scores + j * UNIT + 16 * h;
			store(s, (vec)_mm512_mask_mov_ps((__m512)(zero - INFINITY), sees(w, h, j0 + j), (__m512)load(s)));
		}
}

// amx_weights turns scores of a unit of keys into weights, an operand of the next
// product, and adds to their sums.
INLINE void amx_weights(vec total[2], elem *weights, const float *scores, float scale, const vec top[2])
{
	for (long j = 0; j < UNIT; j += 2, scores += 2 * UNIT)
		for (int h = 0; h < 2; h++) {
			vec even = amx_weight(load(scores + 16 * h) * scale - top[h]), odd = amx_weight(load(scores + UNIT + 16 * h) * scale - top[h]);
			total[h] += even + odd;
			_mm512_store_si512(weights + h * TILE + j * 16, interleaved(even, odd));
		}
}

// amx_attend adds what a unit of rows sees of a block of keys to its sums.
static void amx_attend(const amx_forward *b, const shape *x, const view *w, long j0, long keys)
{
	const long wide = up(x->dim, UNIT), deep = wide / UNIT, steps = units(keys);
	const vec zero = {};
	const float scale = x->scale * LOG2E;
	float *out = b->out + w->v * wide;
	vec top[2] = {zero - INFINITY, zero - INFINITY}, total[2], shrink[2];
	for (long k = w->from; k < w->to; k++) {
		float *scores = b->scores + k * BLOCK_SUMS;
		block(scores, 1, 1, b->k + k * deep * STEP, b->q + w->v * wide, deep);
		if (!all_see(w, j0 + k * UNIT))
			hide(scores, w, j0 + k * UNIT);
		for (long j = 0; j < BLOCK_SUMS; j += UNIT) {
			top[0] = larger(top[0], load(scores + j));
			top[1] = larger(top[1], load(scores + j + 16));
		}
	}
	int smaller = 0;
	for (int h = 0; h < 2; h++) {
		const vec before = load(b->top + w->v + 16 * h);
		top[h] = larger(before, top[h] * scale);
		store(b->top + w->v + 16 * h, top[h]);
		top[h] = pick(top[h] == -INFINITY, zero, top[h]); // rows that have seen nothing yet keep zeros
		shrink[h] = amx_weight(before - top[h]);
		total[h] = load(b->total + w->v + 16 * h) * shrink[h];
		smaller |= _mm512_cmpneq_ps_mask((__m512)shrink[h], (__m512)(zero + 1.0f));
	}
	for (long k = w->from; k < w->to; k++)
		amx_weights(total, b->weights + k * STEP, b->scores + k * BLOCK_SUMS, scale, top);
	for (long l = 0; l < wide && smaller; l++)
		for (int h = 0; h < 2; h++)
			store(out + l * UNIT + 16 * h, load(out + l * UNIT + 16 * h) * shrink[h]);
	for (int h = 0; h < 2; h++)
		store(b->total + w->v + 16 * h, total[h]);
	for (long l = 0; l < deep; l++)
		block(out + l * BLOCK_SUMS, 0, x->dim - l * UNIT > 16, b->v + (l * steps + w->from) * STEP, b->weights + w->from * STEP, w->to - w->from);
}

static void amx_attention(const attention_args *a, const piece *p, long kv, float *scratch)
{
	const shape x = shape_of(a, p, kv);
	const long wide = up(x.dim, UNIT), rows = up(x.rows, UNIT);
	long size;
	amx_forward b = amx_forward_layout(scratch, &x, &size);
	configure();
	memset(b.limits, 0, 4 * rows);
	set_limits(b.limits, &x);
	gather_rows(b.copy, (const elem *)a->qkv + x.q, x.stride, &x, wide);
	pack(b.q, (mat){b.copy, wide, 1}, rows, wide, SIDE_B);
	memset(b.out, 0, 4 * rows * wide);
	for (long v = 0; v < rows; v++)
		b.top[v] = -INFINITY, b.total[v] = 0;
	for (long j = x.first / AMX_KEYS * AMX_KEYS; j < x.last; j += AMX_KEYS) {
		const long keys = min(AMX_KEYS, x.last - j), padded = up(keys, UNIT);
		gather_keys(b.copy, a->qkv, x.k, &x, wide, j, keys);
		pack(b.k, (mat){b.copy, wide, 1}, padded, wide, SIDE_A);
		gather_keys(b.copy, a->qkv, x.v, &x, wide, j, keys);
		pack(b.v, (mat){b.copy, 1, wide}, wide, padded, SIDE_A);
		for (long v = 0; v < x.rows; v += UNIT) {
			const view w = view_of(&x, b.limits, v, j, keys);
			if (w.from < w.to)
				amx_attend(&b, &x, &w, j, keys);
		}
	}
	for (long v = 0; v < x.rows; v += UNIT) {
		const long n = min(UNIT, x.rows - v);
		const vec factor[2] = {1 / load(b.total + v), 1 / load(b.total + v + 16)};
		long at[UNIT];
		put_rows((elem *)a->out + x.q, x.ostride, &x, v, b.out + v * wide, factor);
		places(at, &x, x.ostride, v, n);
		for (long i = 0; i < n; i++)
			a->lse[at[i] / x.dim + x.head] = (b.top[v + i] + log2f(b.total[v + i])) * LN2;
	}
	_tile_release();
}
