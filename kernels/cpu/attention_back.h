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
#define LDB (KEYS + LANES) // softmax-like loops write past the end

static long attention_scratch(const attention_args *a, segment s)
{
	shape x = shape_of(a, s, 0);
	long n = up(x.keys, KEYS);
	long back = 5 * n * x.wide + 3 * BLOCK * x.wide + 2 * BLOCK * LDB + 2 * BLOCK;
	long forward = 2 * n * x.wide + 2 * ROWS * x.wide + ROWS * (n + LANES);
	return max(back, forward) + LANES;
}

typedef struct {
	float *keys, *kp, *vp, *dk, *dv;   // [keys]: k, k and v as panels, gradients
	float *q, *dout, *dq, *lse, *delta; // [BLOCK]
	float *p, *ds;                     // [BLOCK][LDB]
} back_buffers;

static back_buffers carve(float *m, const shape *x)
{
	long keys = up(x->keys, KEYS) * x->wide, rows = BLOCK * x->wide;
	back_buffers b;
	b.keys = m, b.kp = b.keys + keys, b.vp = b.kp + keys, b.dk = b.vp + keys, b.dv = b.dk + keys;
	b.q = b.dv + keys, b.dout = b.q + rows, b.dq = b.dout + rows, b.lse = b.dq + rows, b.delta = b.lse + BLOCK;
	b.p = b.delta + BLOCK, b.ds = b.p + BLOCK * LDB;
	return b;
}

// read_block fetches q, dout, lse and delta of rows v, v+1, ...
static void read_block(back_buffers *b, const attention_args *a, const shape *x, long v, long rows)
{
	copy_rows(b->q, (const elem *)a->qkv + x->q, x->stride, x, v, rows, BLOCK, x->scale);
	copy_rows(b->dout, (const elem *)a->dout + x->q, x->ostride, x, v, rows, BLOCK, 1);
	for (long i = 0; i < rows; i++) {
		long at = token(x, v + i) * a->q_heads + head(x, v + i);
		const elem *out = (const elem *)a->out + at * x->dim;
		vec d = {};
		for (long l = 0; l < x->dim; l += LANES)
			d += get_part(out + l, x->dim - l) * load(b->dout + i * x->wide + l);
		b->delta[i] = sum(d);
		b->lse[i] = a->lse[at];
	}
}

// scores computes p and ds of a block where they are seen.
static void scores(back_buffers *b, const shape *x, long v, long rows, long j0, long keys)
{
	for (long i = 0; i < rows; i += ROWS)
		for (long j = 0; j < keys; j += COLS) {
			tile_rows(b->p + i * LDB + j, LDB, SET, b->q + i * x->wide, x->wide, b->kp + (j0 + j) * x->dim, COLS, x->dim);
			tile_rows(b->ds + i * LDB + j, LDB, SET, b->dout + i * x->wide, x->wide, b->vp + (j0 + j) * x->dim, COLS, x->dim);
		}
	for (long i = 0; i < rows; i++) {
		float *p = b->p + i * LDB, *ds = b->ds + i * LDB;
		long last = min(keys, last_key(x, v + i) - j0);
		for (long j = max(0, first_key(x, v + i) - j0); j < last; j += LANES) {
			vec e = weight(load(p + j) - b->lse[i]);
			store(p + j, e);
			store(ds + j, e * (load(ds + j) - b->delta[i]));
		}
	}
}

// multiply adds a block to dq, dk and dv.
static void multiply(back_buffers *b, const shape *x, long v, long rows, long j0, long keys, int first_block)
{
	long lo[ROWS], hi[ROWS], wide = x->wide;
	for (long i = 0; i < rows; i += ROWS) {
		long n = min(ROWS, rows - i);
		for (long r = 0; r < n; r++) {
			lo[r] = max(0, first_key(x, v + i + r) - j0);
			hi[r] = max(lo[r], min(keys, last_key(x, v + i + r) - j0));
		}
		band_rows(b->dq + i * wide, wide, !first_block, b->ds + i * LDB, LDB, b->keys + j0 * wide, wide, wide, n, lo, hi);
	}
	for (long j = 0; j < keys; j += ROWS) {
		long n = min(ROWS, keys - j);
		for (long r = 0; r < n; r++) { // key t tokens after the segment's first is seen by the rows of tokens [t, t+window)
			long t = j0 + j + r - x->prefix;
			lo[r] = min(rows, max(0, t * x->group - v));
			hi[r] = x->window ? max(lo[r], min(rows, (t + x->window) * x->group - v)) : rows;
		}
		float *dk = b->dk + (j0 + j) * wide, *dv = b->dv + (j0 + j) * wide;
		band_cols(dv, wide, 1, b->p + j, LDB, b->dout, wide, wide, n, lo, hi);
		band_cols(dk, wide, 1, b->ds + j, LDB, b->q, wide, wide, n, lo, hi);
	}
}

static void attention_back(const attention_args *a, segment s, long kv, float *part, float *scratch)
{
	shape x = shape_of(a, s, kv);
	back_buffers b = carve(scratch, &x);
	copy_keys(b.keys, a->qkv, x.v, &x);
	panels(b.vp, b.keys, &x);
	copy_keys(b.keys, a->qkv, x.k, &x);
	panels(b.kp, b.keys, &x);
	memset(b.dk, 0, 8 * up(x.keys, KEYS) * x.wide);
	long from = min(s.hi, max(s.lo, s.from)); // rows before it are keys only
	for (long r = s.lo; r < from; r++)
		memset((elem *)a->dqkv + r * x.stride + x.q, 0, sizeof(elem) * x.group * x.dim);
	for (long v = (from - s.lo) * x.group; v < x.rows; v += BLOCK) {
		long rows = min(BLOCK, x.rows - v), end = last_key(&x, v + rows - 1), begin = first_key(&x, v) / KEYS * KEYS;
		read_block(&b, a, &x, v, rows);
		for (long j = begin; j < end; j += KEYS) {
			long keys = min(KEYS, end - j);
			scores(&b, &x, v, rows, j, keys);
			multiply(&b, &x, v, rows, j, keys, j == begin);
		}
		for (long i = 0; i < rows; i++) {
			elem *d = (elem *)a->dqkv + token(&x, v + i) * x.stride + head(&x, v + i) * x.dim;
			for (long l = 0; l < x.dim; l += LANES)
				put_part(d + l, load(b.dq + i * x.wide + l) * x.scale, x.dim - l);
		}
	}
	long width = a->kv_heads * x.dim; // of all keys of a row, and of all values
	for (long j = 0; j < x.keys; j++) { // q carried the scale into dk already
		memcpy(part + j * 2 * width + kv * x.dim, b.dk + j * x.wide, 4 * x.dim);
		memcpy(part + j * 2 * width + width + kv * x.dim, b.dv + j * x.wide, 4 * x.dim);
	}
}

// The part of segment i begins at parts + at[i]; that of row r as a key of its own
// segment at parts + own[r], -1 if it is in no segment.
static void kv_sum(const attention_args *a, const segment *segs, long n, float *parts, const int64_t *at, const int64_t *own, long lo, long hi)
{
	long width = 2 * a->kv_heads * a->dim, stride = a->q_heads * a->dim + width;
	for (long i = 0; i < n; i++)
		for (long r = max(lo, segs[i].prefix_lo); r < min(hi, segs[i].prefix_hi); r++) {
			const float *d = parts + at[i] + (r - segs[i].prefix_lo) * width;
			float *t = parts + own[r];
			for (long l = 0; l < width && own[r] >= 0; l += LANES)
				store_part(t + l, load_part(t + l, width - l) + load_part(d + l, width - l), width - l);
		}
	for (long r = lo; r < hi; r++)
		for (long l = 0; l < width && own[r] >= 0; l += LANES)
			put_part((elem *)a->dqkv + (r + 1) * stride - width + l, load_part(parts + own[r] + l, width - l), width - l);
}
