// Attention over segments on AMX, backward; see attention_back.h for the five products
// and attention_amx.h for what is transposed:
//
//   p, ds [keys][rows]: from k*qᵀ and v*doutᵀ
//   dv = p * dout    dk = ds * q    dq[dim][rows] = kᵀ * ds
//
// by blocks of AMX_ROWS rows and AMX_KEYS keys. p and ds are written as tiles of both
// the operands that they are next.

#define AMX_ROWS 128
#define ROW_UNITS (AMX_ROWS / UNIT)
#define KEY_UNITS (AMX_KEYS / UNIT)

typedef struct {
	float *dq, *lse, *delta;             // [rows/32][wide][32], [rows], [rows]
	int32_t *limits;                     // [rows]
	elem *q, *dout, *q_cols, *dout_cols; // operands of scores, and of dk and dv
	elem *copy, *k, *v, *k_cols;         // [rows][wide], or [AMX_KEYS]; operands of scores, and of dq
	float *dk, *dv;                      // [AMX_KEYS/32][wide/32][32][32]
	float *s, *dp;                       // [32 keys][32 rows]
	elem *p, *ds, *ds_cols;              // a block's: [keys/32][rows/32][2 tiles], twice; [rows/32][keys/32][2 tiles]
} amx_back;

static amx_back amx_back_layout(float *m, const shape *x, long *size)
{
	const long wide = up(x->dim, UNIT), padded = up(x->rows, UNIT), rows = padded * wide, keys = AMX_KEYS * wide;
	amx_back b = {.dq = m, .lse = m + rows, .delta = m + rows + padded};
	b.limits = (int32_t *)(b.delta + padded), b.dk = (float *)(b.limits + padded), b.dv = b.dk + keys;
	b.s = b.dv + keys, b.dp = b.s + BLOCK_SUMS;
	b.q = (elem *)(b.dp + BLOCK_SUMS), b.dout = b.q + rows, b.q_cols = b.dout + rows, b.dout_cols = b.q_cols + rows;
	b.k = b.dout_cols + rows, b.v = b.k + keys, b.k_cols = b.v + keys;
	b.p = b.k_cols + keys, b.ds = b.p + AMX_ROWS * AMX_KEYS, b.ds_cols = b.ds + AMX_ROWS * AMX_KEYS;
	b.copy = b.ds_cols + AMX_ROWS * AMX_KEYS;
	*size = (float *)(b.copy + max(keys, rows)) - m;
	return b;
}

static long amx_attention_scratch(const attention_args *a, const piece *p)
{
	const shape x = shape_of(a, p, 0);
	long forward, back;
	amx_forward_layout(NULL, &x, &forward);
	amx_back_layout(NULL, &x, &back);
	return max(forward, back);
}

// amx_read_rows fetches q, dout, lse and delta.
static void amx_read_rows(const amx_back *b, const attention_args *a, const shape *x, long wide)
{
	const long rows = up(x->rows, UNIT);
	gather_rows(b->copy, (const elem *)a->qkv + x->q, x->stride, x, wide);
	pack(b->q, (mat){b->copy, wide, 1}, rows, wide, SIDE_B);
	pack(b->q_cols, (mat){b->copy, 1, wide}, wide, rows, SIDE_B);
	gather_rows(b->copy, (const elem *)a->dout + x->q, x->ostride, x, wide);
	pack(b->dout, (mat){b->copy, wide, 1}, rows, wide, SIDE_B);
	pack(b->dout_cols, (mat){b->copy, 1, wide}, wide, rows, SIDE_B);
	memset(b->lse, 0, 4 * rows);
	memset(b->delta, 0, 4 * rows);
	for (long v = 0; v < x->rows; v++) {
		const long at = token(x, v) * a->q_heads + head(x, v);
		const elem *out = (const elem *)a->out + at * x->dim;
		vec d = {};
		for (long l = 0; l < x->dim; l += LANES)
			d += get_part(out + l, x->dim - l) * get_part(b->copy + v * wide + l, x->dim - l);
		b->delta[v] = sum_lanes(d);
		b->lse[v] = a->lse[at] * LOG2E;
	}
}

// amx_read_keys fetches a block of keys and values.
static void amx_read_keys(const amx_back *b, const attention_args *a, const shape *x, long wide, long j0, long keys)
{
	const long padded = up(keys, UNIT);
	gather_keys(b->copy, a->qkv, x->k, x, wide, j0, keys);
	pack(b->k, (mat){b->copy, wide, 1}, padded, wide, SIDE_A);
	pack(b->k_cols, (mat){b->copy, 1, wide}, wide, padded, SIDE_A);
	gather_keys(b->copy, a->qkv, x->v, x, wide, j0, keys);
	pack(b->v, (mat){b->copy, wide, 1}, padded, wide, SIDE_A);
}

// amx_scores computes p and ds of unit k of a block's keys and unit r of its rows.
static void amx_scores(const amx_back *b, const shape *x, const view *w, long r, long k, long j0)
{
	const long wide = up(x->dim, UNIT), deep = wide / UNIT;
	block(b->s, 1, 1, b->k + k * deep * STEP, b->q + w->v * wide, deep);
	block(b->dp, 1, 1, b->v + k * deep * STEP, b->dout + w->v * wide, deep);
	elem *p = b->p + (k * ROW_UNITS + r) * STEP, *ds = b->ds + (k * ROW_UNITS + r) * STEP, *ds_cols = b->ds_cols + (r * KEY_UNITS + k) * STEP;
	const float scale = x->scale * LOG2E;
	const int whole = all_see(w, j0 + k * UNIT);
	for (long j = 0; j < UNIT; j += 2) {
		vec e[2][2], d[2][2];
		for (int h = 0; h < 2; h++) {
			const vec lse = load(b->lse + w->v + 16 * h), delta = load(b->delta + w->v + 16 * h);
			for (int i = 0; i < 2; i++) {
				const long at = (j + i) * UNIT + 16 * h;
				const __mmask16 seen = whole ? 0xffff : sees(w, h, j0 + k * UNIT + j + i);
				e[i][h] = amx_weight(load(b->s + at) * scale - lse);
				e[i][h] = (vec)_mm512_maskz_mov_ps(seen, (__m512)e[i][h]);
				d[i][h] = (vec)_mm512_maskz_mul_ps(seen, (__m512)e[i][h], (__m512)(load(b->dp + at) - delta));
			}
			_mm512_store_si512(ds_cols + h * TILE + j * 16, interleaved(d[0][h], d[1][h]));
		}
		for (int i = 0; i < 2; i++) {
			_mm512_store_si512(p + (j + i) * UNIT, line_of(e[i][0], e[i][1]));
			_mm512_store_si512(ds + (j + i) * UNIT, line_of(d[i][0], d[i][1]));
		}
	}
}

// amx_block_back adds rows from v by a block of keys to dq, dk and dv.
static void amx_block_back(const amx_back *b, const shape *x, long v, long j0, long keys)
{
	const long wide = up(x->dim, UNIT), deep = wide / UNIT, all = units(x->rows), steps = units(keys);
	const long rows = min(ROW_UNITS, all - v / UNIT);
	view w[ROW_UNITS];
	for (long r = 0; r < rows; r++) {
		w[r] = view_of(x, b->limits, v + r * UNIT, j0, keys);
		for (long k = w[r].from; k < w[r].to; k++)
			amx_scores(b, x, &w[r], r, k, j0);
		for (long l = 0; l < deep && w[r].from < w[r].to; l++)
			block(b->dq + w[r].v * wide + l * BLOCK_SUMS, 0, x->dim - l * UNIT > 16, b->k_cols + (l * steps + w[r].from) * STEP, b->ds_cols + (r * KEY_UNITS + w[r].from) * STEP, w[r].to - w[r].from);
	}
	long lo = 0, hi = 0; // the rows that see unit k: from and to grow with rows
	for (long k = 0; k < steps; k++) {
		while (lo < rows && w[lo].to <= k)
			lo++;
		for (hi = max(hi, lo); hi < rows && w[hi].from <= k; hi++)
			;
		for (long l = 0; l < deep && lo < hi; l++) {
			const long at = (k * ROW_UNITS + lo) * STEP, cols = (l * all + v / UNIT + lo) * STEP;
			block(b->dv + (k * deep + l) * BLOCK_SUMS, 0, 1, b->p + at, b->dout_cols + cols, hi - lo);
			block(b->dk + (k * deep + l) * BLOCK_SUMS, 0, 1, b->ds + at, b->q_cols + cols, hi - lo);
		}
	}
}

// amx_write_keys writes the gradients of a block of keys to the piece's part.
static void amx_write_keys(const attention_args *a, float *part, const amx_back *b, const shape *x, long kv, long j0, long keys)
{
	const long deep = units(x->dim), width = a->kv_heads * x->dim; // of all keys of a row, and of all values
	part += (j0 - x->first) * 2 * width + kv * x->dim;
	for (long j = max(0, x->first - j0); j < keys; j++)
		for (long l = 0; l < x->dim; l += LANES) {
			const long at = (j / UNIT * deep + l / UNIT) * BLOCK_SUMS + j % UNIT * UNIT + l % UNIT;
			store_part(part + j * 2 * width + l, load(b->dk + at) * x->scale, x->dim - l);
			store_part(part + j * 2 * width + width + l, load(b->dv + at), x->dim - l);
		}
}

static void amx_attention_back(const attention_args *a, const piece *p, long kv, float *parts, float *scratch)
{
	const shape x = shape_of(a, p, kv);
	const long wide = up(x.dim, UNIT), rows = up(x.rows, UNIT);
	const vec zero = {}, factor[2] = {zero + x.scale, zero + x.scale};
	long size;
	amx_back b = amx_back_layout(scratch, &x, &size);
	configure();
	memset(b.limits, 0, 4 * rows);
	set_limits(b.limits, &x);
	amx_read_rows(&b, a, &x, wide);
	memset(b.dq, 0, 4 * rows * wide);
	for (long j = x.first / AMX_KEYS * AMX_KEYS; j < x.last; j += AMX_KEYS) {
		const long keys = min(AMX_KEYS, x.last - j);
		amx_read_keys(&b, a, &x, wide, j, keys);
		memset(b.dk, 0, 8 * AMX_KEYS * wide); // dv, too
		for (long v = 0; v < x.rows; v += AMX_ROWS)
			amx_block_back(&b, &x, v, j, keys);
		amx_write_keys(a, parts + p->at, &b, &x, kv, j, keys);
	}
	for (long v = 0; v < x.rows; v += UNIT)
		put_rows((elem *)a->dqkv + x.q, x.stride, &x, v, b.dq + v * wide, factor);
	_tile_release();
}
