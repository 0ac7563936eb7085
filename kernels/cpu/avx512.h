// AVX-512 (f, dq, bw, vl): 28 of the 32 registers accumulate.
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,prefer-vector-width=512")
#define LANES 16
#define ROWS 14
#define KEYS 224
