// AVX2 kernels for bfloat16 elements.
#if defined(__x86_64__) && !defined(__clang__)
#define TABLE avx2_bf16
#define BF16 1
#include "avx2.h"
#include "body.h"
#endif
