// Which kernel sets there are, and which of them this CPU can run. Clang ignores
// "#pragma GCC target", so with it there is only the portable one.
#include "kernels.h"
#include <stddef.h>

extern const kernel_set avx512_f32, avx512_bf16, avx2_f32, avx2_bf16, portable_f32, portable_bf16;

const kernel_set *kernels_at(int i, int bf16, const char **name)
{
	static const char *const names[] = {"avx512", "avx2", "portable"};
	*name = i < 3 ? names[i] : NULL;
	switch (i) {
#if defined(__x86_64__) && !defined(__clang__)
	case 0:
		if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
		    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
			return bf16 ? &avx512_bf16 : &avx512_f32;
		return NULL;
	case 1:
		if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
			return bf16 ? &avx2_bf16 : &avx2_f32;
		return NULL;
#endif
	case 2:
		return bf16 ? &portable_bf16 : &portable_f32;
	}
	return NULL;
}
