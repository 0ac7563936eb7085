#define TABLE portable_f32
#define NAME "portable"
#define BF16 0
#include "portable.h"
#include "body.h"
