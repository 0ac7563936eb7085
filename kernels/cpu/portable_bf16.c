// Portable kernels for bfloat16 elements.
#define TABLE portable_bf16
#define BF16 1
#include "portable.h"
#include "body.h"
