// Portable kernels for float32 elements.
#define TABLE portable_f32
#define BF16 0
#include "portable.h"
#include "body.h"
