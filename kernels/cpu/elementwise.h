// Operations on flat arrays.

static void add(void *out, const void *a, const void *b, long n)
{
	for (long i = 0; i < n; i += LANES)
		put_part((elem *)out + i, get_part((const elem *)a + i, n - i) + get_part((const elem *)b + i, n - i), n - i);
}

// sum_rows adds rows of x, in order, and rounds once.
static void sum_rows(void *out, const void *x, const int32_t *rows, long count, long n)
{
	for (long i = 0; i < n; i += LANES) {
		vec sum = {};
		for (long r = 0; r < count; r++)
			sum += get_part((const elem *)x + rows[r] * n + i, n - i);
		put_part((elem *)out + i, sum, n - i);
	}
}

// sum_squares adds in float64: a float32 sum of many squares could overflow.
static void sum_squares(double *out, const void *x, long n)
{
	typedef float half __attribute__((vector_size(2 * LANES), aligned(4), may_alias));
	typedef double dvec __attribute__((vector_size(4 * LANES)));
	dvec low = {}, high = {};
	for (long i = 0; i < n; i += LANES) {
		float t[LANES];
		store(t, get_part((const elem *)x + i, n - i));
		dvec a = __builtin_convertvector(*(half *)t, dvec), b = __builtin_convertvector(*(half *)(t + LANES / 2), dvec);
		low += a * a;
		high += b * b;
	}
	double total = 0;
	for (int i = 0; i < LANES / 2; i++)
		total += low[i] + high[i];
	*out = total;
}

#if BF16
// mix is that of kernels.Dither.
INLINE uvec mix(uvec x)
{
	x = (x ^ (x >> 16)) * 0x7feb352d;
	x = (x ^ (x >> 15)) * 0x846ca68b;
	return x ^ (x >> 16);
}

// numbers are those of LANES elements from i, which are on one side of every 2**32.
INLINE uvec numbers(const dither *d, long i)
{
	uint64_t at = d->first + (uint64_t)i;
	uvec x;
	for (int j = 0; j < LANES; j++)
		x[j] = j;
	x = mix((x + (uint32_t)at) ^ d->low);
	return mix(x ^ ((uint32_t)(at >> 32) ^ d->high)) >> 16;
}
#endif

// hyper is lr/(1-beta1^t), beta1, 1-beta1, beta2, 1-beta2, 1/sqrt(1-beta2^t), eps,
// 1 - lr*weight_decay, grad_scale.
static void adamw(void *param, float *master, float *m, float *v, const float *g, long n, const float *hyper, const dither *d)
{
	float lr = hyper[0], b1 = hyper[1], a1 = hyper[2], b2 = hyper[3], a2 = hyper[4];
	float correct = hyper[5], eps = hyper[6], keep = hyper[7], scale = hyper[8];
	for (long i = 0; i < n; i += LANES) {
		long left = n - i;
		vec e = load_part(g + i, left) * scale;
		vec mi = b1 * load_part(m + i, left) + a1 * e;
		vec vi = b2 * load_part(v + i, left) + a2 * e * e;
		vec w = master ? load_part(master + i, left) : get_part((elem *)param + i, left);
		vec p = w * keep - lr * mi / (square_root(vi) * correct + eps);
		store_part(m + i, mi, left);
		store_part(v + i, vi, left);
		if (master)
			store_part(master + i, p, left);
#if BF16
		if (master)
			put_part((elem *)param + i, p, left);
		else
			put_halves((elem *)param + i, narrow_by(p, numbers(d, i)), left);
#endif
	}
}
