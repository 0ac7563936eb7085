// Which kernel sets there are, and which of them this CPU can run. Clang ignores
// "#pragma GCC target", so with it there is only the portable one.
#include "kernels.h"
#include "amx.h"
#include <stddef.h>

#if defined(__x86_64__) && !defined(__clang__)
#define VECTORS 1
#ifdef __linux__
#define TILES 1
#endif
#endif

extern const kernel_set avx512_f32, avx512_bf16, avx2_f32, avx2_bf16, portable_f32, portable_bf16;
extern const amx_set amx_bf16;

#ifdef VECTORS
static int has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

#ifdef TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

// has_amx asks the CPU for AMX-TILE, AMX-BF16 and AVX512-BF16, and the kernel for
// leave to use tiles: their 8 KB enlarge signal frames, so a process must ask.
static int has_amx(void)
{
	enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
	unsigned a, b, c, d;
	if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1))
		return 0;
	if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1))
		return 0;
	return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#endif

const kernel_set *kernels_at(int i, int bf16, const char **name)
{
	static const char *const names[] = {"amx", "avx512", "avx2", "portable"};
	*name = i < 4 ? names[i] : NULL;
	switch (i) {
#ifdef TILES
	case 0:
		return !has_amx() ? NULL : bf16 ? &avx512_bf16 : &avx512_f32;
#endif
#ifdef VECTORS
	case 1:
		return !has_avx512() ? NULL : bf16 ? &avx512_bf16 : &avx512_f32;
	case 2:
		if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
			return bf16 ? &avx2_bf16 : &avx2_f32;
		return NULL;
#endif
	case 3:
		return bf16 ? &portable_bf16 : &portable_f32;
	}
	return NULL;
}

const amx_set *amx_at(int i)
{
#ifdef TILES
	if (i == 0)
		return &amx_bf16;
#endif
	return NULL;
}
