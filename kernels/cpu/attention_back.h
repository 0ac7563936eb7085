// Attention over segments, backward. With p = exp(q*k - lse), delta = dout*out and
// ds = p * (dout*v - delta):
//
//   dq = ds*k    dk = dsᵀ*q    dv = pᵀ*dout
//
// in blocks of BLOCK rows by KEYS keys:
//
//               KEYS keys
//              __________
//    BLOCK    |  p, ds   |  -> dq of the rows, added over blocks of keys
//    rows     |__________|
//                  |
//                  v
//           dk, dv of the keys, added over blocks of rows

#define BLOCK (4 * ROWS)

typedef struct {
	float *q, *dout, *dq, *lse, *delta; // [rows], rounded up to ROWS
	int32_t *limits;                    // [rows]
	float *keys, *kp, *vp, *dk, *dv;    // [KEYS]: k, k and v as panels, gradients
	float *p, *ds;                      // [BLOCK][LDB], and a margin
} back_buffers;

static back_buffers back_layout(float *m, const shape *x, long *size)
{
	const long keys = KEYS * x->wide, padded = up(x->rows, ROWS), rows = padded * x->wide;
	back_buffers b = {.q = m, .dout = m + rows, .dq = m + 2 * rows, .lse = m + 3 * rows};
	b.delta = b.lse + padded, b.limits = (int32_t *)(b.delta + padded), b.keys = (float *)(b.limits + padded);
	b.kp = b.keys + keys, b.vp = b.kp + keys, b.dk = b.vp + keys, b.dv = b.dk + keys;
	b.p = b.dv + keys, b.ds = b.p + BLOCK * LDB + MARGIN;
	*size = b.ds + BLOCK * LDB + MARGIN - m;
	return b;
}

static long attention_scratch(const attention_args *a, const piece *p)
{
	const shape x = shape_of(a, p, 0);
	long forward, back;
	forward_layout(NULL, &x, &forward);
	back_layout(NULL, &x, &back);
	return max(forward, back);
}

// read_rows fetches q, dout, lse and delta.
static void read_rows(const back_buffers *b, const attention_args *a, const shape *x)
{
	const long padded = up(x->rows, ROWS);
	copy_rows(b->q, (const elem *)a->qkv + x->q, x->stride, x, 0, x->rows, padded, x->scale * LOG2E);
	copy_rows(b->dout, (const elem *)a->dout + x->q, x->ostride, x, 0, x->rows, padded, 1);
	memset(b->dq, 0, 4 * padded * x->wide);
	for (long v = 0; v < x->rows; v++) {
		const long at = token(x, v) * a->q_heads + head(x, v);
		const elem *out = (const elem *)a->out + at * x->dim;
		vec d = {};
		for (long l = 0; l < x->dim; l += LANES)
			d += get_part(out + l, x->dim - l) * load(b->dout + v * x->wide + l);
		b->delta[v] = sum_lanes(d);
		b->lse[v] = a->lse[at] * LOG2E;
	}
}

// strip_back computes p and ds of n rows from v where they are seen, and adds to dq.
static void strip_back(const back_buffers *b, float *p, float *ds, const shape *x, long v, long n, long j0, long keys)
{
	const span s = span_of(x, b->limits + v, n, j0, keys);
	if (s.from >= s.to)
		return;
	products(p, b->q + v * x->wide, b->kp, x, &s);
	products(ds, b->dout + v * x->wide, b->vp, x, &s);
	for (long i = 0; i < n; i++) {
		const float lse = b->lse[v + i], delta = b->delta[v + i];
		float *pr = p + i * LDB, *dr = ds + i * LDB;
		for (long j = s.lo[i]; j < s.hi[i]; j += LANES) {
			vec e = weight(load(pr + j) - lse);
			store(pr + j, e);
			store(dr + j, e * (load(dr + j) - delta));
		}
		clear(pr, s.lo[i], s.hi[i]);
		clear(dr, s.lo[i], s.hi[i]);
	}
	add_rows(b->dq + v * x->wide, ds + s.from, b->keys + s.from * x->wide, x->wide, s.to - s.from);
}

// block_back adds rows [v, v+n) by a block of keys to dq, dk and dv.
static void block_back(const back_buffers *b, const shape *x, long v, long n, long j0, long keys)
{
	float *p = b->p + MARGIN, *ds = b->ds + MARGIN;
	for (long i = 0; i < n; i += ROWS)
		strip_back(b, p + i * LDB, ds + i * LDB, x, v + i, min(ROWS, n - i), j0, keys);
	// Rows that see a key before seen have limits past it; those before them do not see it.
	const long seen = min(keys, b->limits[v + n - 1] - j0);
	long lo = 0, hi = 0;
	for (long j = max(0, first_key(x, b->limits[v]) - j0) / ROWS * ROWS; j < seen; j += ROWS) {
		const long past = j0 + min(seen, j + ROWS) - 1; // the last key of the strip
		while (b->limits[v + lo] <= j0 + j)
			lo++;
		for (hi = max(hi, lo); hi < n && first_key(x, b->limits[v + hi]) <= past; hi++)
			;
		add_cols(b->dv + j * x->wide, p + lo * LDB + j, b->dout + (v + lo) * x->wide, x->wide, hi - lo);
		add_cols(b->dk + j * x->wide, ds + lo * LDB + j, b->q + (v + lo) * x->wide, x->wide, hi - lo);
	}
}

// write_keys writes the gradients of a block of keys to the piece's part.
static void write_keys(const attention_args *a, float *part, const back_buffers *b, const shape *x, long kv, long j0, long keys)
{
	const long width = a->kv_heads * x->dim; // of all keys of a row, and of all values
	part += (j0 - x->first) * 2 * width + kv * x->dim;
	for (long j = max(0, x->first - j0); j < keys; j++)
		for (long l = 0; l < x->dim; l += LANES) {
			// q carried scale*log2(e) into dk.
			store_part(part + j * 2 * width + l, load(b->dk + j * x->wide + l) * LN2, x->dim - l);
			store_part(part + j * 2 * width + width + l, load(b->dv + j * x->wide + l), x->dim - l);
		}
}

static void attention_back(const attention_args *a, const piece *p, long kv, float *parts, float *scratch)
{
	const shape x = shape_of(a, p, kv);
	long size;
	back_buffers b = back_layout(scratch, &x, &size);
	set_limits(b.limits, &x);
	read_rows(&b, a, &x);
	for (long j = x.first / KEYS * KEYS; j < x.last; j += KEYS) {
		const long keys = min(KEYS, x.last - j);
		copy_keys(b.keys, a->qkv, x.k, &x, j, keys);
		panels(b.kp, a->qkv, x.k, &x, j, keys);
		panels(b.vp, a->qkv, x.v, &x, j, keys);
		memset(b.dk, 0, 8 * KEYS * x.wide); // dv, too
		for (long v = 0; v < x.rows; v += BLOCK)
			block_back(&b, &x, v, min(BLOCK, x.rows - v), j, keys);
		write_keys(a, parts + p->at, &b, &x, kv, j, keys);
	}
	for (long v = 0; v < x.rows; v++) {
		elem *d = (elem *)a->dqkv + token(&x, v) * x.stride + head(&x, v) * x.dim;
		for (long l = 0; l < x.dim; l += LANES)
			put_part(d + l, load(b.dq + v * x.wide + l) * x.scale, x.dim - l);
	}
}

// add_part adds rows [lo, hi) of a piece's part to sums, where row r has key number
// r-shift.
static void add_part(float *sums, const float *part, const piece *p, long width, long shift, long base, long lo, long hi)
{
	for (long r = lo; r < hi; r++) {
		const float *d = part + (r - shift - p->first) * width;
		float *t = sums + (r - base) * width;
		for (long l = 0; l < width; l += LANES)
			store_part(t + l, load_part(t + l, width - l) + load_part(d + l, width - l), width - l);
	}
}

// kv_sum adds in the order of pieces, so the sum does not depend on who computed them.
static void kv_sum(const attention_args *a, const piece *pieces, long n, const float *parts, const uint8_t *role, long lo, long hi, float *sums)
{
	const long width = 2 * a->kv_heads * a->dim, queries = a->q_heads * a->dim;
	memset(sums, 0, 4 * (hi - lo) * width);
	for (const piece *p = pieces; p < pieces + n; p++) {
		const long prefix = p->s.prefix_hi - p->s.prefix_lo, own = p->s.lo - prefix;
		const float *part = parts + p->at;
		add_part(sums, part, p, width, p->s.prefix_lo, lo, max(lo, p->s.prefix_lo + p->first), min(hi, p->s.prefix_hi));
		add_part(sums, part, p, width, own, lo, max(lo, max(p->s.lo, own + p->first)), min(hi, own + p->last));
	}
	for (long r = lo; r < hi; r++) {
		if (role[r] == NO_ROW)
			continue;
		elem *d = (elem *)a->dqkv + r * (queries + width);
		if (role[r] == KEY_ONLY)
			memset(d, 0, sizeof(elem) * queries);
		for (long l = 0; l < width; l += LANES)
			put_part(d + queries + l, load_part(sums + (r - lo) * width + l, width - l), width - l);
	}
}
