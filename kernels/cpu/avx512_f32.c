// AVX-512 kernels for float32 elements.
#if defined(__x86_64__) && !defined(__clang__)
#define TABLE avx512_f32
#define BF16 0
#include "avx512.h"
#include "body.h"
#endif
