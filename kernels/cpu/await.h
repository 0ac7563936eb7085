// Waiting for another thread without sleeping.
#include <sched.h>
#include <stdint.h>

// await returns once *p is value, or after some microseconds. It lets other threads of
// its core run in between.
static inline void await(const int32_t *p, int32_t value)
{
	for (int i = 0; i < 100; i++) {
		if (__atomic_load_n(p, __ATOMIC_ACQUIRE) == value)
			return;
#if defined(__x86_64__)
		__builtin_ia32_pause();
#elif defined(__aarch64__)
		__asm__ volatile("yield");
#endif
	}
	sched_yield();
}
