//go:build ignore

// The driver's functions on memory of the device and of the host.
#include <cstdlib>
#include <cstring>
#include <map>

#include "memory.h"
#include "streams.h"

static std::map<u64, u64> pinned;  // host memory that copies may use while they are queued: address, size

static bool is_pinned(const void* p) {
	auto it = pinned.upper_bound((u64)p);
	return it != pinned.begin() && (u64)p < std::prev(it)->first + std::prev(it)->second;
}

// ---- allocations

API cuMemAlloc_v2(u64* p, size_t n) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	if (n == 0) return INVALID_VALUE;
	return guarded([&] { *p = allocate(n); });
}
// The real one may wait for the device, but does not say so: who has not waited for what uses
// the memory is told.
API cuMemFree_v2(u64 p) {
	return at_once([=] {
		require_unused(p);
		release(p);
	});
}
API cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
	std::lock_guard lock(driver_mutex);
	*total = settings.memory;
	*free_bytes = settings.memory - allocated();
	return OK;
}

API cuMemHostAlloc(void** p, size_t n, unsigned) {
	std::lock_guard lock(driver_mutex);
	if (!has_context()) return INVALID_CONTEXT;
	constexpr size_t PAGE = 4096;
	if (n == 0) return INVALID_VALUE;
	*p = aligned_alloc(PAGE, (n + PAGE - 1) / PAGE * PAGE);
	if (!*p) return OUT_OF_MEMORY;
	pinned[(u64)*p] = n;
	return OK;
}
API cuMemAllocHost_v2(void** p, size_t n) { return cuMemHostAlloc(p, n, 0); }
API cuMemFreeHost(void* p) {
	return at_once([=] {
		if (!pinned.erase((u64)p)) fail(INVALID_VALUE, "cuMemFreeHost of memory that cuMemHostAlloc did not return");
		free(p);
	});
}
API cuMemHostRegister_v2(void* p, size_t n, unsigned) {
	std::lock_guard lock(driver_mutex);
	pinned[(u64)p] = n;
	return OK;
}
API cuMemHostUnregister(void* p) {
	return after_everything([=] {
		if (!pinned.erase((u64)p)) fail(INVALID_VALUE, "cuMemHostUnregister of memory that is not registered");
	});
}

// ---- copies

static void to_device(u64 destination, const void* source, size_t n) {
	note_range_written(destination, n, "copy from the host");
	memcpy((void*)(destination - DEVICE), source, n);
}

static void to_host(void* destination, u64 source, size_t n) {
	note_range_read(source, n, "copy to the host");
	memcpy(destination, (const void*)(source - DEVICE), n);
}

static void on_device(u64 destination, u64 source, size_t n) {
	note_range_read(source, n, "copy on the device");
	note_range_written(destination, n, "copy on the device");
	memmove((void*)(destination - DEVICE), (const void*)(source - DEVICE), n);
}

API cuMemcpyHtoD_v2(u64 d, const void* s, size_t n) {
	return at_once([=] { to_device(d, s, n); });
}
API cuMemcpyDtoH_v2(void* d, u64 s, size_t n) {
	return at_once([=] { to_host(d, s, n); });
}
API cuMemcpyDtoD_v2(u64 d, u64 s, size_t n) {
	return at_once([=] { on_device(d, s, n); });
}

// From pinned memory the copy reads when its turn comes; other memory has been read when
// the call returns.
API cuMemcpyHtoDAsync_v2(u64 d, const void* s, size_t n, void* stream) {
	std::lock_guard lock(driver_mutex);
	if (is_pinned(s))
		return enqueue(stream, [=] {
			if (!is_pinned(s)) fail(INVALID_VALUE, "copy from page-locked memory that was freed before the copy was done");
			to_device(d, s, n);
		});
	const std::string bytes((const char*)s, n);
	return enqueue(stream, [=] { to_device(d, bytes.data(), n); });
}
// To memory that is not pinned the call returns when the bytes are there.
API cuMemcpyDtoHAsync_v2(void* d, u64 s, size_t n, void* stream) {
	std::lock_guard lock(driver_mutex);
	const int queued = enqueue(stream, [=] { to_host(d, s, n); });
	return queued != OK || is_pinned(d) ? queued : synchronize(stream);
}
API cuMemcpyDtoDAsync_v2(u64 d, u64 s, size_t n, void* stream) {
	return enqueue(stream, [=] { on_device(d, s, n); });
}

// ---- memset

template <class T> static void fill(u64 d, T x, size_t n) {
	if (d % sizeof(T)) fail(INVALID_VALUE, "memset of %zu-byte elements at %#llx", sizeof(T), (unsigned long long)d);
	note_range_written(d, n * sizeof(T), "memset");
	T* p = (T*)(d - DEVICE);
	for (size_t i = 0; i < n; i++) p[i] = x;
}

API cuMemsetD8_v2(u64 d, u8 x, size_t n) {
	return at_once([=] { fill(d, x, n); });
}
API cuMemsetD16_v2(u64 d, u16 x, size_t n) {
	return at_once([=] { fill(d, x, n); });
}
API cuMemsetD32_v2(u64 d, u32 x, size_t n) {
	return at_once([=] { fill(d, x, n); });
}
API cuMemsetD8Async(u64 d, u8 x, size_t n, void* stream) {
	return enqueue(stream, [=] { fill(d, x, n); });
}
// Rows of width bytes, each pitch bytes after the one before.
API cuMemsetD2D8Async(u64 d, size_t pitch, u8 x, size_t width, size_t height, void* stream) {
	if (pitch < width) return INVALID_VALUE;
	return enqueue(stream, [=] {
		for (size_t row = 0; row < height; row++) fill(d + row * pitch, x, width);
	});
}
API cuMemsetD16Async(u64 d, u16 x, size_t n, void* stream) {
	return enqueue(stream, [=] { fill(d, x, n); });
}
API cuMemsetD32Async(u64 d, u32 x, size_t n, void* stream) {
	return enqueue(stream, [=] { fill(d, x, n); });
}
