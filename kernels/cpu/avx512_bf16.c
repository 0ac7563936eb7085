#if defined(__x86_64__) && !defined(__clang__)
#define TABLE avx512_bf16
#define NAME "avx512"
#define BF16 1
#include "avx512.h"
#include "body.h"
#endif
