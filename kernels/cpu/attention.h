// Attention over segments, forward. A task is a run of rows of one segment, for
// the query heads that share one kv head. The keys of the segment, prefix then
// own, are copied side by side, so that the two intervals of the mask become one:
//
//        key number   0 . . . . . prefix . . . . keys
//   token 0           # # # # # # #
//   token 1           # # # # # # # #               one row per token and head of
//   token 2           - # # # # # # # #             the group: v = token*group + head,
//   token 3           - - # # # # # # # #           so the tile is full for any group
//                     ^ hidden by the window
//
// A row's sums run over key numbers, from the first that it sees: the same bits
// whether a key lies in the prefix or in the segment itself.

typedef struct {
	long keys, prefix, rows, group, dim, wide; // wide: dim rounded up to LANES
	long window, stride, ostride, head;        // strides of a row of qkv and of out
	long q, k, v;                              // where these begin in a row of qkv
	float scale;
	segment s;
} shape;

static shape shape_of(const attention_args *a, segment s, long kv)
{
	shape x = {.s = s, .dim = a->dim, .group = a->q_heads / a->kv_heads, .window = a->window};
	x.prefix = s.prefix_hi - s.prefix_lo;
	x.keys = x.prefix + s.hi - s.lo;
	x.rows = (s.hi - s.lo) * x.group;
	x.wide = up(x.dim, LANES);
	x.stride = (a->q_heads + 2 * a->kv_heads) * x.dim;
	x.ostride = a->q_heads * x.dim;
	x.head = kv * x.group;
	x.q = x.head * x.dim;
	x.k = (a->q_heads + kv) * x.dim;
	x.v = x.k + a->kv_heads * x.dim;
	x.scale = 1 / sqrtf(x.dim);
	return x;
}

// Row v is of row token(v) of the batch and query head head(v), and sees keys
// [first_key(v), last_key(v)).
INLINE long token(const shape *x, long v) { return x->s.lo + v / x->group; }
INLINE long head(const shape *x, long v) { return x->head + v % x->group; }
INLINE long last_key(const shape *x, long v) { return x->prefix + v / x->group + 1; }
INLINE long first_key(const shape *x, long v) { return x->window ? max(0, last_key(x, v) - x->window) : 0; }

// copy_keys copies the part of qkv at offset at, of all keys, to dst[keys][wide].
static void copy_keys(float *dst, const elem *qkv, long at, const shape *x)
{
	for (long j = 0; j < x->keys; j++, dst += x->wide) {
		long row = j < x->prefix ? x->s.prefix_lo + j : x->s.lo + j - x->prefix;
		const elem *p = qkv + row * x->stride + at;
		for (long l = 0; l < x->wide; l += LANES)
			store(dst + l, get_part(p + l, max(0, x->dim - l)));
	}
	memset(dst, 0, 4 * (up(x->keys, KEYS) - x->keys) * x->wide);
}

// panels turns src[keys][wide] into [keys/COLS][dim][COLS], the tile's operand b.
static void panels(float *dst, const float *src, const shape *x)
{
	for (long j = 0; j < up(x->keys, KEYS); j += COLS, dst += x->dim * COLS)
		for (long l = 0; l < x->dim; l += LANES)
			for (long i = 0; i < COLS; i += LANES) {
				vec r[LANES];
#pragma GCC unroll 16
				for (int n = 0; n < LANES; n++)
					r[n] = load(src + (j + i + n) * x->wide + l);
				transpose(r);
				for (int n = 0; n < LANES && l + n < x->dim; n++)
					store(dst + (l + n) * COLS + i, r[n]);
			}
}

// copy_rows copies rows v, v+1, ... v+n-1 of a [tokens][heads][dim] array, which
// begins at p, scaled, to dst[][wide], and clears the rest of pad rows.
static void copy_rows(float *dst, const elem *p, long stride, const shape *x, long v, long n, long pad, float scale)
{
	for (long i = 0; i < n; i++, dst += x->wide) {
		const elem *r = p + token(x, v + i) * stride + (v + i) % x->group * x->dim;
		for (long l = 0; l < x->wide; l += LANES)
			store(dst + l, get_part(r + l, max(0, x->dim - l)) * scale);
	}
	memset(dst, 0, 4 * (pad - n) * x->wide);
}

// softmax turns r[0, n) into exp(r - max), and returns the sum and, in *top, max.
// It writes up to LANES-1 floats past the end.
static float softmax(float *r, long n, float *top)
{
	vec m = {}, total = {};
	m -= INFINITY;
	store(r + n, m);
	for (long j = 0; j < n; j += LANES)
		m = pick(load(r + j) > m, load(r + j), m);
	float most = m[0];
	for (int i = 1; i < LANES; i++)
		most = m[i] > most ? m[i] : most;
	for (long j = 0; j < n; j += LANES) {
		vec e = weight(load(r + j) - most);
		store(r + j, e);
		total += e;
	}
	*top = most;
	return sum(total);
}

// A strip of ROWS rows computes all its scores, softmax, and the sum of values.
static void attention(const attention_args *a, segment s, long lo, long hi, long kv, float *scratch)
{
	shape x = shape_of(a, s, kv);
	long n = up(x.keys, KEYS), wide = x.wide, lds = n + LANES, end = (hi - s.lo) * x.group;
	float *kp = scratch, *vals = kp + n * wide, *q = vals + n * wide, *o = q + ROWS * wide, *score = o + ROWS * wide;
	copy_keys(vals, a->qkv, x.k, &x);
	panels(kp, vals, &x);
	copy_keys(vals, a->qkv, x.v, &x);
	for (long v = (lo - s.lo) * x.group; v < end; v += ROWS) {
		long rows = min(ROWS, end - v), first[ROWS], last[ROWS];
		float total[ROWS];
		copy_rows(q, (const elem *)a->qkv + x.q, x.stride, &x, v, rows, ROWS, x.scale);
		for (long j = first_key(&x, v) / COLS * COLS; j < last_key(&x, v + rows - 1); j += COLS)
			tile_rows(score + j, lds, SET, q, wide, kp + j * x.dim, COLS, x.dim);
		for (long i = 0; i < rows; i++) {
			float top;
			first[i] = first_key(&x, v + i);
			last[i] = last_key(&x, v + i);
			total[i] = softmax(score + i * lds + first[i], last[i] - first[i], &top);
			a->lse[token(&x, v + i) * a->q_heads + head(&x, v + i)] = top + logf(total[i]);
		}
		band_rows(o, wide, 0, score, lds, vals, wide, wide, rows, first, last);
		for (long i = 0; i < rows; i++) {
			elem *out = (elem *)a->out + token(&x, v + i) * x.ostride + head(&x, v + i) * x.dim;
			for (long l = 0; l < x.dim; l += LANES)
				put_part(out + l, load(o + i * wide + l) / total[i], x.dim - l);
		}
	}
}
