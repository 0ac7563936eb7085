// The loops are written so that compilers make vectors of them.
#include "vectors.h"
#include <stdint.h>

typedef uint16_t half __attribute__((aligned(1), may_alias));
typedef uint32_t word __attribute__((aligned(1), may_alias));

void bf16_to_float(void *restrict dst, const void *restrict src, long n)
{
	word *d = dst;
	const half *s = src;
	for (long i = 0; i < n; i++)
		d[i] = (uint32_t)s[i] << 16;
}

// narrow rounds to nearest, ties to even. A NaN is made quiet, so that cutting its payload
// leaves a NaN.
static inline __attribute__((always_inline)) void narrow(half *restrict d, const word *restrict s, long n)
{
	for (long i = 0; i < n; i++) {
		uint32_t u = s[i], rounded = u + 0x7fff + (u >> 16 & 1), quiet = u | 0x400000;
		int nan = (int32_t)(u & 0x7fffffff) > 0x7f800000;
		d[i] = (nan ? quiet : rounded) >> 16;
	}
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void narrow_avx2(half *restrict d, const word *restrict s, long n) { narrow(d, s, n); }
#endif

void float_to_bf16(void *restrict dst, const void *restrict src, long n)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2")) {
		narrow_avx2(dst, src, n);
		return;
	}
#endif
	narrow(dst, src, n);
}
