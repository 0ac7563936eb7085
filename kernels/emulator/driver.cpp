//go:build ignore

// The subset of the CUDA driver's functions that rmtrain and gorgonia.org/cu call, as
// libcuda.so.1: device, context, modules, launches. Memory and streams have their own files.
#include <cstdio>
#include <cstring>
#include <set>

#include "streams.h"
#include "warp.h"

struct Context {
} primary;
static thread_local std::vector<Context*> context_stack;  // the last one is current

bool has_context() { return !context_stack.empty() && context_stack.back(); }

API cuInit(unsigned) { return OK; }
API cuDriverGetVersion(int* v) {
	*v = 13000;
	return OK;
}

// ---- the device

API cuDeviceGetCount(int* n) {
	*n = 1;
	return OK;
}
API cuDeviceGet(int* device, int n) {
	*device = 0;
	return n == 0 ? OK : INVALID_DEVICE;
}
API cuDeviceGetName(char* name, int n, int) {
	snprintf(name, (size_t)n, "rmtrain emulator");
	return OK;
}
API cuDeviceTotalMem_v2(size_t* n, int) {
	*n = settings.memory;
	return OK;
}
API cuDeviceGetUuid_v2(char* uuid, int) {
	memset(uuid, 7, 16);
	return OK;
}
API cuDeviceGetUuid(char* uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }

// Bytes of shared memory that a block may ask for.
static int shared_limit() { return settings.capability >= 90 ? 232448 : settings.capability == 80 ? 166912 : 101376; }
constexpr int THREADS_PER_SM = 2048;

// CUdevice_attribute; few multiprocessors, so that kernels which size their grid by them stay small.
API cuDeviceGetAttribute(int* value, int attribute, int) {
	switch (attribute) {
	case 1: case 2: case 3: *value = 1024; break;   // MAX_THREADS_PER_BLOCK, MAX_BLOCK_DIM_X, _Y
	case 4: *value = 64; break;                     // MAX_BLOCK_DIM_Z
	case 5: *value = 0x7fffffff; break;             // MAX_GRID_DIM_X
	case 6: case 7: *value = 65535; break;          // MAX_GRID_DIM_Y, _Z
	case 8: *value = 48 << 10; break;               // MAX_SHARED_MEMORY_PER_BLOCK
	case 9: case 82: *value = 65536; break;         // TOTAL_CONSTANT_MEMORY, MAX_REGISTERS_PER_MULTIPROCESSOR
	case 10: *value = 32; break;                    // WARP_SIZE
	case 12: *value = 65536; break;                 // MAX_REGISTERS_PER_BLOCK
	case 13: *value = 1000000; break;               // CLOCK_RATE, kHz
	case 16: *value = 4; break;                     // MULTIPROCESSOR_COUNT
	case 31: case 41: *value = 1; break;            // CONCURRENT_KERNELS, UNIFIED_ADDRESSING
	case 39: *value = THREADS_PER_SM; break;        // MAX_THREADS_PER_MULTIPROCESSOR
	case 40: *value = 2; break;                     // ASYNC_ENGINE_COUNT
	case 75: *value = settings.capability / 10; break;
	case 76: *value = settings.capability % 10; break;
	case 81: case 97: *value = shared_limit(); break;  // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, _PER_BLOCK_OPTIN
	case 106: *value = 32; break;                   // MAX_BLOCKS_PER_MULTIPROCESSOR
	default: *value = 0;
	}
	return OK;
}

// ---- contexts: there is one, which a thread must have made its current one

API cuDevicePrimaryCtxRetain(Context** c, int) {
	*c = &primary;
	return OK;
}
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return OK; }
API cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
	*flags = 0, *active = 1;
	return OK;
}
API cuCtxPushCurrent_v2(Context* c) {
	context_stack.push_back(c);
	return OK;
}
API cuCtxPopCurrent_v2(Context** c) {
	if (!has_context()) return INVALID_CONTEXT;
	if (c) *c = context_stack.back();
	context_stack.pop_back();
	return OK;
}
API cuCtxSetCurrent(Context* c) {
	if (!context_stack.empty()) context_stack.pop_back();
	return cuCtxPushCurrent_v2(c);
}
API cuCtxGetCurrent(Context** c) {
	*c = has_context() ? context_stack.back() : nullptr;
	return OK;
}
API cuCtxCreate_v2(Context** c, unsigned, int) {
	*c = &primary;
	return cuCtxPushCurrent_v2(&primary);
}
API cuCtxDestroy_v2(Context*) { return OK; }
API cuCtxGetDevice(int* device) {
	*device = 0;
	return has_context() ? OK : INVALID_CONTEXT;
}
API cuCtxGetStreamPriorityRange(int* least, int* greatest) {
	*least = *greatest = 0;
	return OK;
}

// ---- modules

static std::set<Module*> modules;
static std::set<Kernel*> live_kernels;
static std::vector<Kernel*> all_kernels;                 // for the table of traffic
static std::vector<std::unique_ptr<Module>> ever_loaded;  // as the table names their kernels

static std::unique_ptr<Module> load(const char* image) {
	if (memcmp(image, "\x7f" "ELF", 4) == 0) fail(NO_BINARY_FOR_GPU, "this is a cubin; the emulator runs PTX");
	return parse(image);
}

API cuModuleLoadData(Module** m, const char* image) {
	return at_once([&] {
		ever_loaded.push_back(load(image));
		*m = ever_loaded.back().get();
		modules.insert(*m);
		for (auto& [name, kernel] : (*m)->kernels) {
			live_kernels.insert(kernel.get());
			all_kernels.push_back(kernel.get());
		}
	});
}
API cuModuleLoadDataEx(Module** m, const char* image, unsigned, int*, void**) { return cuModuleLoadData(m, image); }

API cuModuleUnload(Module* m) {
	return after_everything([=] {
		if (!modules.erase(m)) fail(INVALID_HANDLE, "cuModuleUnload of no module");
		for (auto& [name, kernel] : m->kernels) live_kernels.erase(kernel.get());
		for (auto& [name, global] : m->globals) release(global.first);
	});
}

API cuModuleGetFunction(Kernel** k, Module* m, const char* name) {
	std::lock_guard lock(driver_mutex);
	if (!modules.count(m)) return INVALID_HANDLE;
	auto it = m->kernels.find(name);
	if (it == m->kernels.end()) return NOT_FOUND;
	*k = it->second.get();
	return OK;
}

API cuModuleGetGlobal_v2(u64* p, size_t* n, Module* m, const char* name) {
	std::lock_guard lock(driver_mutex);
	if (!modules.count(m)) return INVALID_HANDLE;
	auto it = m->globals.find(name);
	if (it == m->globals.end()) return NOT_FOUND;
	if (p) *p = it->second.first;
	if (n) *n = it->second.second;
	return OK;
}

// ---- kernels

enum FunctionAttribute { MAX_THREADS = 0, SHARED_SIZE = 1, LOCAL_SIZE = 3, MAX_DYNAMIC_SHARED = 8 };

API cuFuncSetAttribute(Kernel* k, int attribute, int value) {
	std::lock_guard lock(driver_mutex);
	if (!live_kernels.count(k)) return INVALID_HANDLE;
	if (attribute != MAX_DYNAMIC_SHARED) return OK;
	if (value < 0 || value + (int)k->static_shared > shared_limit()) return INVALID_VALUE;
	k->max_dynamic = (u32)value;
	return OK;
}

API cuFuncGetAttribute(int* value, int attribute, Kernel* k) {
	std::lock_guard lock(driver_mutex);
	if (!live_kernels.count(k)) return INVALID_HANDLE;
	switch (attribute) {
	case MAX_THREADS: *value = (int)k->max_threads; break;
	case SHARED_SIZE: *value = (int)k->static_shared; break;
	case LOCAL_SIZE: *value = (int)k->local_bytes; break;
	case MAX_DYNAMIC_SHARED: *value = (int)k->max_dynamic; break;
	default: *value = 0;
	}
	return OK;
}
API cuFuncSetCacheConfig(Kernel*, int) { return OK; }

// By threads and shared memory alone: what a kernel needs in registers only ptxas knows.
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, Kernel* k, int threads, size_t dynamic_shared) {
	std::lock_guard lock(driver_mutex);
	if (!live_kernels.count(k)) return INVALID_HANDLE;
	if (threads <= 0 || threads > (int)k->max_threads) return INVALID_VALUE;
	const int shared = (int)(k->static_shared + dynamic_shared);
	*n = THREADS_PER_SM / threads;
	if (shared) *n = std::min(*n, shared_limit() / shared);
	return OK;
}

API cuLaunchKernel(Kernel* k, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned dynamic_shared,
                   void* stream, void** params, void** extra) {
	std::lock_guard lock(driver_mutex);
	if (!live_kernels.count(k)) return INVALID_HANDLE;
	if (extra || (!params && !k->params.empty())) return INVALID_VALUE;
	std::vector<u8> bytes(k->param_bytes);
	if (int e = guarded([&] { check_launch(*k, {gx, gy, gz}, {bx, by, bz}, dynamic_shared); })) return e;
	for (size_t i = 0; i < k->params.size(); i++) memcpy(bytes.data() + k->params[i].offset, params[i], k->params[i].size);
	return enqueue(stream, [=] {
		launch(*k, {gx, gy, gz}, {bx, by, bz}, dynamic_shared, bytes);
		print_traffic(all_kernels);  // every time: Go programs leave without atexit
	});
}

// ---- errors

API cuGetErrorName(int code, const char** name) {
	switch (code) {
	case OK: *name = "CUDA_SUCCESS"; break;
	case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
	case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
	case INVALID_DEVICE: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
	case INVALID_CONTEXT: *name = "CUDA_ERROR_INVALID_CONTEXT"; break;
	case NO_BINARY_FOR_GPU: *name = "CUDA_ERROR_NO_BINARY_FOR_GPU"; break;
	case INVALID_PTX: *name = "CUDA_ERROR_INVALID_PTX"; break;
	case INVALID_HANDLE: *name = "CUDA_ERROR_INVALID_HANDLE"; break;
	case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
	case NOT_READY: *name = "CUDA_ERROR_NOT_READY"; break;
	case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
	case LAUNCH_RESOURCES: *name = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"; break;
	case MISALIGNED: *name = "CUDA_ERROR_MISALIGNED_ADDRESS"; break;
	case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
	default: *name = nullptr; return INVALID_VALUE;
	}
	return OK;
}
API cuGetErrorString(int code, const char** description) { return cuGetErrorName(code, description); }

// ---- for libcublasLt.so.13 in the same process: work in the order of a stream, and
// checks of the memory that it reads and writes

API emulator_enqueue(void* stream, void (*f)(void*), void* argument) {
	return enqueue(stream, [=] { f(argument); });
}
enum MatmulAccess { MATMUL_READ, MATMUL_WRITE, MATMUL_EXISTS };
extern "C" __attribute__((visibility("default"))) void emulator_check(u64 p, size_t n, int access) {
	if (access == MATMUL_READ) note_range_read(p, n, "cublasLt: read");
	else if (access == MATMUL_WRITE) note_range_written(p, n, "cublasLt: write");
	else find_allocation(p, n, "cublasLt: workspace");
}
