#define TABLE portable_bf16
#define NAME "portable"
#define BF16 1
#include "portable.h"
#include "body.h"
