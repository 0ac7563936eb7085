// AVX2 and FMA: 12 of the 16 registers accumulate.
#pragma GCC target("avx2,fma")
#define LANES 8
#define ROWS 6
#define KEYS 192
