// Vectors of LANES floats in GNU C, and arrays of elements as such vectors. An
// element is a float32, or a bfloat16 that is widened when it is read and rounded
// to nearest even when it is written; arithmetic is float32 always.
//
// A row of n elements is walked in steps of LANES; the last step reads zeros past
// the end and writes only what is left. So there is no scalar tail that could
// round otherwise, and a row's result does not depend on its address.
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

// Without this gcc keeps a branch for errno at each square root and does not
// vectorize it; cgo does not allow -fno-math-errno.
float sqrtf(float) __attribute__((const));

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

#if BF16
typedef uint16_t elem;
#else
typedef float elem;
#endif

INLINE long min(long a, long b) { return a < b ? a : b; }
INLINE long max(long a, long b) { return a > b ? a : b; }
INLINE long up(long n, long unit) { return (n + unit - 1) / unit * unit; }

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec v) { *(vec *)p = v; }

// The same for n < LANES elements, 0 or less among them: reading gives zeros for
// the others, writing leaves them alone.
#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define MASKED 1
INLINE __mmask16 first_lanes(long n) { return (__mmask16)((1u << max(n, 0)) - 1); }
INLINE vec load_few(const float *p, long n) { return (vec)_mm512_maskz_loadu_ps(first_lanes(n), p); }
INLINE void store_few(float *p, vec v, long n) { _mm512_mask_storeu_ps(p, first_lanes(n), (__m512)v); }
#elif defined(__AVX2__)
INLINE __m256i first_lanes(long n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
INLINE vec load_few(const float *p, long n) { return (vec)_mm256_maskload_ps(p, first_lanes(n)); }
INLINE void store_few(float *p, vec v, long n) { _mm256_maskstore_ps(p, first_lanes(n), (__m256)v); }
#else
INLINE vec load_few(const float *p, long n)
{
	float t[LANES] = {};
	for (long i = 0; i < n; i++)
		t[i] = p[i];
	return load(t);
}
INLINE void store_few(float *p, vec v, long n)
{
	for (long i = 0; i < n; i++)
		p[i] = v[i];
}
#endif
INLINE vec load_part(const float *p, long n) { return n >= LANES ? load(p) : load_few(p, n); }
INLINE void store_part(float *p, vec v, long n)
{
	if (n >= LANES)
		store(p, v);
	else
		store_few(p, v, n);
}

// pick is mask ? a : b by lanes; comparisons of vectors make masks.
INLINE vec pick(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }

// larger is the larger of a and b by lanes, and b where one of them is NaN.
#ifdef MASKED
INLINE vec larger(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
#else
INLINE vec larger(vec a, vec b) { return pick(a > b, a, b); }
#endif

#if BF16
INLINE vec widen(hvec h) { return (vec)(__builtin_convertvector(h, uvec) << 16); }
INLINE hvec narrow(vec v)
{
	uvec u = (uvec)v, rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
	uvec nan = (u >> 16) | 0x40; // quiet, so that cutting the payload leaves a NaN
	return __builtin_convertvector((uvec)pick(v == v, (vec)rounded, (vec)nan), hvec);
}
// narrow_by cuts after numbers below 2**16 are added to the bits: away from zero with the
// probability of the distance if they are random.
INLINE hvec narrow_by(vec v, uvec numbers)
{
	uvec u = (uvec)v, rounded = (u + numbers) >> 16, nan = (u >> 16) | 0x40;
	return __builtin_convertvector((uvec)pick(v == v, (vec)rounded, (vec)nan), hvec);
}
INLINE vec get(const elem *p) { return widen(*(const hvec *)p); }
INLINE void put(elem *p, vec v) { *(hvec *)p = narrow(v); }
#ifdef MASKED
INLINE hvec load_few_halves(const elem *p, long n) { return (hvec)_mm256_maskz_loadu_epi16(first_lanes(n), p); }
INLINE void store_few_halves(elem *p, hvec h, long n) { _mm256_mask_storeu_epi16(p, first_lanes(n), (__m256i)h); }
#else
INLINE hvec load_few_halves(const elem *p, long n)
{
	hvec t = {};
	for (long i = 0; i < n; i++)
		t[i] = p[i];
	return t;
}
INLINE void store_few_halves(elem *p, hvec h, long n)
{
	for (long i = 0; i < n; i++)
		p[i] = h[i];
}
#endif
INLINE vec get_part(const elem *p, long n) { return n >= LANES ? get(p) : widen(load_few_halves(p, n)); }
INLINE void put_halves(elem *p, hvec h, long n)
{
	if (n >= LANES)
		*(hvec *)p = h;
	else
		store_few_halves(p, h, n);
}
INLINE void put_part(elem *p, vec v, long n) { put_halves(p, narrow(v), n); }
INLINE float get1(const elem *p)
{
	uint32_t u = (uint32_t)*p << 16;
	float f;
	memcpy(&f, &u, 4);
	return f;
}
#else
INLINE vec get(const elem *p) { return load(p); }
INLINE void put(elem *p, vec v) { store(p, v); }
INLINE vec get_part(const elem *p, long n) { return load_part(p, n); }
INLINE void put_part(elem *p, vec v, long n) { store_part(p, v, n); }
INLINE float get1(const elem *p) { return *p; }
#endif

INLINE float sum(vec v)
{
	float t = 0;
	for (int i = 0; i < LANES; i++)
		t += v[i];
	return t;
}

// sum_lanes is sum in another order, which does not wait for one addition after the
// other; largest is the largest lane.
#ifdef MASKED
INLINE float sum_lanes(vec v) { return _mm512_reduce_add_ps((__m512)v); }
INLINE float largest(vec v) { return _mm512_reduce_max_ps((__m512)v); }
#else
INLINE float sum_lanes(vec v)
{
	for (int half = LANES / 2; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			v[i] += v[i + half];
	return v[0];
}
INLINE float largest(vec v)
{
	for (int half = LANES / 2; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
	return v[0];
}
#endif

INLINE vec square_root(vec v)
{
	float t[LANES];
	store(t, v);
	for (int i = 0; i < LANES; i++)
		t[i] = sqrtf(t[i]);
	return load(t);
}

// transpose transposes a LANES x LANES block in registers: log2(LANES) rounds,
// each exchanging the off-diagonal quarters of ever larger blocks.
INLINE void transpose(vec r[LANES])
{
#ifdef __clang__
	vec t[LANES];
	for (int i = 0; i < LANES; i++)
		for (int j = 0; j < LANES; j++)
			t[i][j] = r[j][i];
	memcpy(r, t, sizeof t);
#else
#pragma GCC unroll 4
	for (int s = 1; s < LANES; s *= 2) {
		ivec lo, hi; // indices into the concatenation of two rows
#pragma GCC unroll 16
		for (int j = 0; j < LANES; j++) {
			lo[j] = j & s ? LANES + j - s : j;
			hi[j] = j & s ? LANES + j : j + s;
		}
#pragma GCC unroll 16
		for (int i = 0; i < LANES; i++)
			if (!(i & s)) {
				vec x = r[i], y = r[i + s];
				r[i] = __builtin_shuffle(x, y, lo);
				r[i + s] = __builtin_shuffle(x, y, hi);
			}
	}
#endif
}

// power returns e**(x - n*ln2), where n = round(x/ln2) is put in the low bits of *n.
INLINE vec power(vec x, ivec *n)
{
	vec shifted = x * 1.44269504f + 12582912.0f; // adding 1.5*2**23 rounds to an integer
	*n = (ivec)shifted - 0x4b400000;
	vec whole = shifted - 12582912.0f;
	vec t = (x - whole * 0.693359375f) + whole * 2.12194440e-4f; // ln2 in two parts
	vec p = t * 1.9875691500e-4f + 1.3981999507e-3f;
	p = p * t + 8.3334519073e-3f;
	p = p * t + 4.1665795894e-2f;
	p = p * t + 1.6666665459e-1f;
	p = p * t + 5.0000001201e-1f;
	return p * t * t + t + 1.0f;
}

// exponential is e**x within 1 ulp, Inf above 88.73, denormal and then 0 below
// -87.34, NaN for NaN.
INLINE vec exponential(vec x)
{
	const vec zero = {};
	ivec n;
	x = pick(x < -104.0f, zero - 104.0f, x);
	x = pick(x > 89.0f, zero + 89.0f, x);
	vec p = power(x, &n);
	ivec half = n >> 1; // 2**n in two factors, since n may be 128 or -150
	return p * (vec)((half + 127) << 23) * (vec)((n - half + 127) << 23);
}

// weight is 2**x within 2 ulp for x up to 80, as softmax has it: 0 below
// -127, where denormals would only slow down what follows, NaN for NaN.
INLINE vec weight(vec x)
{
	const float whole = 12582912.0f + 127; // adding it rounds to an integer, and leaves that plus 127 in the low bits
	const vec zero = {};
	x = larger(zero - 127.0f, x);
	vec shifted = x + whole, t = x - (shifted - whole);
	vec p = t * 1.535336171e-4f + 1.339887448e-3f;
	p = p * t + 9.618437359e-3f;
	p = p * t + 5.550332471e-2f;
	p = p * t + 2.402264791e-1f;
	p = p * t + 6.931472029e-1f;
	return (p * t + 1.0f) * (vec)((ivec)shifted << 23);
}
