// Operations on rows of n channels.

static void rmsnorm(void *out_, float *rstd, const void *x_, const void *w_, long rows, long n, float eps)
{
	elem *out = out_;
	const elem *x = x_, *w = w_;
	for (long r = 0; r < rows; r++, x += n, out += n) {
		vec t = {};
		for (long j = 0; j < n; j += LANES) {
			vec a = get_part(x + j, n - j);
			t += a * a;
		}
		float s = rstd[r] = 1 / sqrtf(sum(t) / n + eps);
		for (long j = 0; j < n; j += LANES)
			put_part(out + j, get_part(x + j, n - j) * s * get_part(w + j, n - j), n - j);
	}
}

static void rmsnorm_back(void *dx_, float *dw, const void *dout_, const void *x_, const void *w_, const float *rstd, long rows, long n)
{
	elem *dx = dx_;
	const elem *dout = dout_, *x = x_, *w = w_;
	for (long r = 0; r < rows; r++, x += n, dx += n, dout += n) {
		vec t = {};
		for (long j = 0; j < n; j += LANES)
			t += get_part(dout + j, n - j) * get_part(w + j, n - j) * get_part(x + j, n - j);
		float s = rstd[r], mean = sum(t) * s * s / n;
		for (long j = 0; j < n; j += LANES) {
			vec d = get_part(dout + j, n - j), a = get_part(x + j, n - j);
			store_part(dw + j, load_part(dw + j, n - j) + d * a * s, n - j);
			put_part(dx + j, get_part(dx + j, n - j) + s * (d * get_part(w + j, n - j) - a * mean), n - j);
		}
	}
}

// sum_parts adds parts[count][n] to dw, one after the other.
static void sum_parts(float *dw, const float *parts, long count, long n, long jlo, long jhi)
{
	for (long j = jlo; j < jhi; j += LANES) {
		vec t = {};
		for (long i = 0; i < count; i++)
			t += load_part(parts + i * n + j, jhi - j);
		store_part(dw + j, load_part(dw + j, jhi - j) + t, jhi - j);
	}
}

static void swiglu(void *out_, const void *gate_up, long rows, long n)
{
	elem *out = out_;
	const elem *g = gate_up, *u = g + n;
	for (long r = 0; r < rows; r++, out += n, g += 2 * n, u += 2 * n)
		for (long j = 0; j < n; j += LANES) {
			vec a = get_part(g + j, n - j);
			put_part(out + j, a / (1 + exponential(-a)) * get_part(u + j, n - j), n - j);
		}
}

static void swiglu_back(void *dgate_up, const void *dout_, const void *gate_up, long rows, long n)
{
	elem *d = dgate_up;
	const elem *dout = dout_, *g = gate_up, *u = g + n;
	for (long r = 0; r < rows; r++, dout += n, d += 2 * n, g += 2 * n, u += 2 * n)
		for (long j = 0; j < n; j += LANES) {
			vec a = get_part(g + j, n - j), e = get_part(dout + j, n - j);
			vec s = 1 / (1 + exponential(-a)); // sigmoid
			put_part(d + j, e * get_part(u + j, n - j) * s * (1 + a * (1 - s)), n - j);
			put_part(d + n + j, e * a * s, n - j);
		}
}

// table is [positions][dim]: dim/2 cosines, then dim/2 sines.
static void rope(void *qkv, long stride, const int32_t *pos, const float *table, long rows, long heads, long dim, int inverse)
{
	long half = dim / 2;
	float sign = inverse ? -1 : 1;
	for (long r = 0; r < rows; r++) {
		const float *cosines = table + pos[r] * dim, *sines = cosines + half;
		for (long h = 0; h < heads; h++) {
			elem *x = (elem *)qkv + r * stride + h * dim, *y = x + half;
			for (long j = 0; j < half; j += LANES) {
				vec a = get_part(x + j, half - j), b = get_part(y + j, half - j);
				vec c = load_part(cosines + j, half - j), s = sign * load_part(sines + j, half - j);
				put_part(x + j, a * c - b * s, half - j);
				put_part(y + j, b * c + a * s, half - j);
			}
		}
	}
}

static void add_bias(void *x_, const void *bias, long rows, long n)
{
	elem *x = x_;
	for (long r = 0; r < rows; r++, x += n)
		for (long j = 0; j < n; j += LANES)
			put_part(x + j, get_part(x + j, n - j) + get_part((const elem *)bias + j, n - j), n - j);
}

// add_bias_back sums runs of 64 rows and then the runs, which loses less than one
// long sum.
static void add_bias_back(float *dbias, const void *dout, long rows, long n, long jlo, long jhi)
{
	for (long j = jlo; j < jhi; j += LANES) {
		vec total = {};
		for (long r = 0; r < rows; r += 64) {
			vec t = {};
			for (long i = r; i < min(rows, r + 64); i++)
				t += get_part((const elem *)dout + i * n + j, jhi - j);
			total += t;
		}
		store_part(dbias + j, load_part(dbias + j, jhi - j) + total, jhi - j);
	}
}

static void embed_back(float *dtable, const void *dout, const int32_t *ids, long rows, long n, int32_t skip, long jlo, long jhi)
{
	for (long r = 0; r < rows; r++) {
		float *d = dtable + ids[r] * n;
		for (long j = jlo; j < jhi && ids[r] != skip; j += LANES)
			store_part(d + j, load_part(d + j, jhi - j) + get_part((const elem *)dout + r * n + j, jhi - j), jhi - j);
	}
}

static void value_head(float *score, const void *x, const int32_t *rows, const void *w, long count, long n)
{
	for (long i = 0; i < count; i++) {
		const elem *row = (const elem *)x + rows[i] * n;
		vec t = {};
		for (long j = 0; j < n; j += LANES)
			t += get_part(row + j, n - j) * get_part((const elem *)w + j, n - j);
		score[i] = sum(t);
	}
}

// value_head_back adds to dx, which was cleared: rows may repeat.
static void value_head_back(void *dx, float *dw, const float *dscore, const void *x, const int32_t *rows, const void *w, long count, long n, long jlo, long jhi)
{
	for (long i = 0; i < count; i++)
		for (long j = jlo; j < jhi; j += LANES) {
			long at = rows[i] * n + j;
			elem *d = (elem *)dx + at;
			put_part(d, get_part(d, jhi - j) + dscore[i] * get_part((const elem *)w + j, jhi - j), jhi - j);
			store_part(dw + j, load_part(dw + j, jhi - j) + dscore[i] * get_part((const elem *)x + at, jhi - j), jhi - j);
		}
}
