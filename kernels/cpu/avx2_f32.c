// AVX2 kernels for float32 elements.
#if defined(__x86_64__) && !defined(__clang__)
#define TABLE avx2_f32
#define BF16 0
#include "avx2.h"
#include "body.h"
#endif
