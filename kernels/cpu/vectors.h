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

// The same for fewer than LANES floats.
INLINE vec load_part(const float *p, long n)
{
	if (n >= LANES)
		return load(p);
	float t[LANES] = {};
	for (long i = 0; i < n; i++)
		t[i] = p[i];
	return load(t);
}
INLINE void store_part(float *p, vec v, long n)
{
	if (n >= LANES) {
		store(p, v);
		return;
	}
	for (long i = 0; i < n; i++)
		p[i] = v[i];
}

// select is mask ? a : b by lanes; comparisons of vectors make masks.
INLINE vec select(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }

#if BF16
INLINE vec widen(hvec h) { return (vec)(__builtin_convertvector(h, uvec) << 16); }
INLINE hvec narrow(vec v)
{
	uvec u = (uvec)v, rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
	uvec nan = (u >> 16) | 0x40; // quiet, so that cutting the payload leaves a NaN
	return __builtin_convertvector((uvec)select(v == v, (vec)rounded, (vec)nan), hvec);
}
INLINE vec get(const elem *p) { return widen(*(const hvec *)p); }
INLINE void put(elem *p, vec v) { *(hvec *)p = narrow(v); }
INLINE vec get_part(const elem *p, long n)
{
	if (n >= LANES)
		return get(p);
	elem t[LANES] = {};
	for (long i = 0; i < n; i++)
		t[i] = p[i];
	return get(t);
}
INLINE void put_part(elem *p, vec v, long n)
{
	hvec h = narrow(v);
	if (n >= LANES) {
		*(hvec *)p = h;
		return;
	}
	for (long i = 0; i < n; i++)
		p[i] = h[i];
}
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

INLINE vec square_root(vec v)
{
	float t[LANES];
	store(t, v);
	for (int i = 0; i < LANES; i++)
		t[i] = sqrtf(t[i]);
	return load(t);
}

// exponential is e**x within 1 ulp, Inf above 88.73, denormal and then 0 below
// -87.34, NaN for NaN: with n = round(x/ln2), e**x = 2**n * e**(x - n*ln2).
INLINE vec exponential(vec x)
{
	const vec zero = {};
	x = select(x < -104.0f, zero - 104.0f, x);
	x = select(x > 89.0f, zero + 89.0f, x);
	vec shifted = x * 1.44269504f + 12582912.0f; // adding 1.5*2**23 rounds to an integer
	ivec n = (ivec)shifted - 0x4b400000;
	vec whole = shifted - 12582912.0f;
	vec t = (x - whole * 0.693359375f) + whole * 2.12194440e-4f; // ln2 in two parts
	vec p = zero + 1.9875691500e-4f;
	p = p * t + 1.3981999507e-3f;
	p = p * t + 8.3334519073e-3f;
	p = p * t + 4.1665795894e-2f;
	p = p * t + 1.6666665459e-1f;
	p = p * t + 5.0000001201e-1f;
	p = p * t * t + t + 1.0f;
	ivec half = n >> 1; // 2**n in two factors, since n may be 128 or -150
	return p * (vec)((half + 127) << 23) * (vec)((n - half + 127) << 23);
}
