//go:build ignore

// The subset of the CUDA driver API that rmtrain and gorgonia.org/cu call, as libcuda.so.1 over machine.h.
// Work on streams is done as late as the API allows, so that a missing synchronization shows.
#include "machine.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <set>

namespace {
std::recursive_mutex mutex;
int sticky = OK;  // a failed kernel poisons the context, as on the device
const bool lazy = !getenv("EMULATOR_LAZY") || atoi(getenv("EMULATOR_LAZY"));

struct Stream;
struct Mark {
	bool done = false;
	double time = 0;
	Stream* stream = nullptr;
};
struct Event {
	std::shared_ptr<Mark> mark;
};
struct Stream {
	std::deque<std::pair<std::function<void()>, std::shared_ptr<Mark>>> work;  // a work item, or a mark to wait for
};
std::set<Stream*> streams;
struct Context {
	int device = 0;
} primary;
Context* current = nullptr;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
int guard(const std::function<void()>& f) {
	try {
		f();
		return OK;
	} catch (Fail& e) {
		fprintf(stderr, "emulator: error %d: %s\n", e.code, e.text.c_str());
		return e.code;
	}
}
void step(Stream* s) {
	auto [f, wait] = std::move(s->work.front());
	s->work.pop_front();
	if (wait)
		while (!wait->done && wait->stream && !wait->stream->work.empty()) step(wait->stream);
	if (f && !sticky)
		if (int e = guard(f)) sticky = e;
}
void drain(Stream* s) {
	while (!s->work.empty()) step(s);
}
void drain_all() {
	for (auto s : streams) drain(s);
}
Stream* stream_of(void* h) { return h && (u64)h > 2 ? (Stream*)h : nullptr; }
int enqueue(void* h, std::function<void()> f) {
	std::lock_guard lock(mutex);
	if (sticky) return sticky;
	if (Stream* s = stream_of(h)) {
		if (!streams.count(s)) return INVALID_HANDLE;
		s->work.push_back({std::move(f), nullptr});
		if (!lazy) drain(s);
		return sticky;
	}
	drain_all();  // the legacy default stream waits for all others
	if (!sticky)
		if (int e = guard(f)) sticky = e;
	return OK;
}
int at_once(std::function<void()> f) {
	std::lock_guard lock(mutex);
	if (sticky) return sticky;
	drain_all();
	if (sticky) return sticky;
	return guard(f);
}
std::vector<Kernel*> all_kernels;
void to_device(u64 d, const void* s, size_t n) {
	auto& a = find_allocation(d, n, "copy to device");
	memcpy(a.data + (d - a.base), s, n), mark_valid(d, n);
}
void to_host(void* d, u64 s, size_t n) {
	if (getenv("EMULATOR_STATS")) print_stats();  // Go leaves without atexit: keep the file current
	auto& a = find_allocation(s, n, "copy to host");
	require_valid(s, n, "copy to host");
	memcpy(d, a.data + (s - a.base), n);
}
void on_device(u64 d, u64 s, size_t n) {
	find_allocation(s, n, "copy"), find_allocation(d, n, "copy");
	require_valid(s, n, "copy on device");
	memmove((void*)(d - DEVICE), (void*)(s - DEVICE), n), mark_valid(d, n);
}
template <class T> void fill(u64 d, T x, size_t n) {
	find_allocation(d, n * sizeof(T), "memset");
	for (size_t i = 0; i < n; i++) ((T*)(d - DEVICE))[i] = x;
	mark_valid(d, n * sizeof(T));
}

std::vector<std::unique_ptr<Module>> modules;
int capability() { return getenv("EMULATOR_CC") ? atoi(getenv("EMULATOR_CC")) : 80; }
int shared_limit() { return capability() >= 90 ? 232448 : 166912; }
}  // namespace

void print_stats() {
	FILE* f = fopen(getenv("EMULATOR_STATS"), "w");
	if (!f) return;
	fprintf(f, "%-20s %6s %10s %6s %6s %6s %6s %6s %6s %6s %9s %9s %7s %6s %8s\n", "kernel", "blocks", "warp insns", "mma", "ldmat", "alu", "float", "sfu", "shfl", "sync", "read MB", "write MB", "sectors", "banks", "M lane/s");
	for (auto k : all_kernels) {
		auto& s = k->stats;
		u64 total = 0;
		for (auto c : s.count) total += c;
		if (!s.launches) continue;
		fprintf(f, "%-20s %6llu %10llu", k->name.c_str(), (unsigned long long)s.blocks, (unsigned long long)total);
		for (int c : {MMA, LDMATRIX, ALU, FLOAT, SFU, SHUFFLE, SYNC}) fprintf(f, " %5.1f%%", 100.0 * (double)s.count[c] / (double)total);
		fprintf(f, " %9.3f %9.3f %6.0f%% %6.2f %8.0f\n", s.ld_bytes / 1e6, s.st_bytes / 1e6, s.ld_sectors ? 100.0 * s.ld_bytes / (32.0 * s.ld_sectors) : 100, s.shared_ideal ? (double)s.shared_wavefronts / s.shared_ideal : 1, total * 32 / s.seconds / 1e6);
	}
	fclose(f);
}

#define API extern "C" __attribute__((visibility("default"))) int
API cuInit(unsigned) { return OK; }
API cuDriverGetVersion(int* v) { return *v = 13000, OK; }
API cuDeviceGetCount(int* n) { return *n = 1, OK; }
API cuDeviceGet(int* d, int n) { return n ? 101 : (*d = 0, OK); }
API cuDeviceGetName(char* s, int n, int) { return snprintf(s, n, "rmtrain emulator"), OK; }
API cuDeviceTotalMem_v2(size_t* n, int) { return *n = 8ull << 30, OK; }
API cuDeviceGetUuid(char* u, int) { return memset(u, 7, 16), OK; }
API cuDeviceGetUuid_v2(char* u, int) { return memset(u, 7, 16), OK; }
API cuDeviceGetAttribute(int* v, int a, int) {
	static const std::map<int, int> known = {{1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 0x7fffffff}, {6, 65535}, {7, 65535}, {8, 49152}, {10, 32}, {12, 65536}, {13, 1000000}, {16, 4}, {31, 1}, {39, 2048}, {40, 2}, {41, 1}, {82, 65536}, {106, 32}};
	auto it = known.find(a);
	*v = a == 75 ? capability() / 10 : a == 76 ? capability() % 10 : a == 97 || a == 81 ? shared_limit() : it == known.end() ? 0 : it->second;
	return OK;
}
API cuDevicePrimaryCtxRetain(Context** c, int) { return *c = &primary, OK; }
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return OK; }
API cuDevicePrimaryCtxGetState(int, unsigned* f, int* a) { return *f = 0, *a = 1, OK; }
API cuCtxCreate_v2(Context** c, unsigned, int) { return *c = current = &primary, OK; }
API cuCtxDestroy_v2(Context*) { return OK; }
API cuCtxSetCurrent(Context* c) { return current = c, OK; }
API cuCtxGetCurrent(Context** c) { return *c = current, OK; }
API cuCtxPushCurrent_v2(Context* c) { return current = c, OK; }
API cuCtxPopCurrent_v2(Context** c) { return *c = current, OK; }
API cuCtxGetDevice(int* d) { return *d = 0, OK; }
API cuCtxSynchronize() {
	std::lock_guard lock(mutex);
	drain_all();
	return sticky;
}

static std::unique_ptr<Module> load(const char* image) {
	if (!memcmp(image, "\x7f" "ELF", 4)) fail(INVALID_PTX, "this is a cubin; the emulator runs PTX");
	if (!memcmp(image, "\x50\xed\x55\xba", 4)) {  // fat binary: take the first PTX entry that is not compressed
		const u8* p = (const u8*)image;
		const u8* end = p + 16 + *(u64*)(p + 8);
		for (p += 16; p < end;) {
			const u16 kind = *(u16*)p;
			const u32 head = *(u32*)(p + 4);
			const u64 size = *(u64*)(p + 8), flags = *(u64*)(p + 40);
			if (kind == 1 && !(flags & 0x2000) && !(flags & 0x8000)) return parse(std::string((const char*)p + head, strnlen((const char*)p + head, size)));
			p += head + size;
		}
		fail(INVALID_PTX, "no uncompressed PTX in this fat binary");
	}
	return parse(image);
}
API cuModuleLoadData(Module** m, const char* image) {
	std::lock_guard lock(mutex);
	return guard([&] {
		modules.push_back(load(image));
		*m = modules.back().get();
		for (auto& [name, k] : (*m)->kernels) all_kernels.push_back(k.get());
	});
}
API cuModuleLoadDataEx(Module** m, const char* image, unsigned, int*, void**) { return cuModuleLoadData(m, image); }
API cuModuleUnload(Module*) { return OK; }
API cuModuleGetFunction(Kernel** k, Module* m, const char* name) {
	auto it = m->kernels.find(name);
	return it == m->kernels.end() ? NOT_FOUND : (*k = it->second.get(), OK);
}
API cuModuleGetGlobal_v2(u64* p, size_t* n, Module* m, const char* name) {
	auto it = m->globals.find(name);
	if (it == m->globals.end()) return NOT_FOUND;
	if (p) *p = it->second.first;
	if (n) *n = it->second.second;
	return OK;
}
API cuFuncSetAttribute(Kernel* k, int a, int v) {
	if (a == 8) {
		if (v + (int)k->static_shared > shared_limit()) return INVALID_VALUE;
		k->max_dynamic = v;
	}
	return OK;
}
API cuFuncGetAttribute(int* v, int a, Kernel* k) {
	*v = a == 0 ? (int)k->max_threads : a == 1 ? (int)k->static_shared : a == 3 ? (int)k->local_bytes : a == 8 ? (int)k->max_dynamic : 0;
	return OK;
}
API cuFuncSetCacheConfig(Kernel*, int) { return OK; }
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, Kernel*, int, size_t) { return *n = 1, OK; }
API cuLaunchKernel(Kernel* k, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void* stream, void** params, void** extra) {
	if (extra) return INVALID_VALUE;
	std::vector<u8> block(k->param_bytes + 8);
	for (size_t i = 0; i < k->params.size(); i++) memcpy(block.data() + k->params[i].first, params[i], k->params[i].second);
	return enqueue(stream, [=] { launch(*k, {gx, gy, gz}, {bx, by, bz}, shared, block); });
}

API cuMemAlloc_v2(u64* p, size_t n) {
	std::lock_guard lock(mutex);
	if (!n) return INVALID_VALUE;
	return guard([&] { *p = allocate(n, "device memory"); });
}
API cuMemFree_v2(u64 p) { return at_once([=] { release(p); }); }
API cuMemGetInfo_v2(size_t* f, size_t* t) { return *f = 7ull << 30, *t = 8ull << 30, OK; }
API cuMemAllocHost_v2(void** p, size_t n) { return *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096), OK; }
API cuMemHostAlloc(void** p, size_t n, unsigned) { return cuMemAllocHost_v2(p, n); }
API cuMemFreeHost(void* p) { return free(p), OK; }
API cuMemcpyHtoD_v2(u64 d, const void* s, size_t n) { return at_once([=] { to_device(d, s, n); }); }
API cuMemcpyDtoH_v2(void* d, u64 s, size_t n) { return at_once([=] { to_host(d, s, n); }); }
API cuMemcpyDtoD_v2(u64 d, u64 s, size_t n) { return at_once([=] { on_device(d, s, n); }); }
API cuMemcpyHtoDAsync_v2(u64 d, const void* s, size_t n, void* st) { return enqueue(st, [=] { to_device(d, s, n); }); }
API cuMemcpyDtoHAsync_v2(void* d, u64 s, size_t n, void* st) { return enqueue(st, [=] { to_host(d, s, n); }); }
API cuMemcpyDtoDAsync_v2(u64 d, u64 s, size_t n, void* st) { return enqueue(st, [=] { on_device(d, s, n); }); }
API cuMemsetD8_v2(u64 d, u8 x, size_t n) { return at_once([=] { fill(d, x, n); }); }
API cuMemsetD16_v2(u64 d, u16 x, size_t n) { return at_once([=] { fill(d, x, n); }); }
API cuMemsetD32_v2(u64 d, u32 x, size_t n) { return at_once([=] { fill(d, x, n); }); }
API cuMemsetD8Async(u64 d, u8 x, size_t n, void* s) { return enqueue(s, [=] { fill(d, x, n); }); }
API cuMemsetD16Async(u64 d, u16 x, size_t n, void* s) { return enqueue(s, [=] { fill(d, x, n); }); }
API cuMemsetD32Async(u64 d, u32 x, size_t n, void* s) { return enqueue(s, [=] { fill(d, x, n); }); }

API cuStreamCreate(Stream** s, unsigned) {
	std::lock_guard lock(mutex);
	streams.insert(*s = new Stream);
	return OK;
}
API cuStreamCreateWithPriority(Stream** s, unsigned f, int) { return cuStreamCreate(s, f); }
API cuStreamSynchronize(void* h) {
	std::lock_guard lock(mutex);
	if (Stream* s = stream_of(h)) drain(s);
	else drain_all();
	return sticky;
}
API cuStreamQuery(void* h) {
	Stream* s = stream_of(h);
	return sticky ? sticky : s && !s->work.empty() ? NOT_READY : OK;
}
API cuStreamDestroy_v2(Stream* s) {
	std::lock_guard lock(mutex);
	drain(s);
	streams.erase(s);
	return OK;
}
API cuEventCreate(Event** e, unsigned) { return *e = new Event, OK; }
API cuEventDestroy_v2(Event*) { return OK; }
API cuEventRecord(Event* e, void* h) {
	std::lock_guard lock(mutex);
	auto m = std::make_shared<Mark>();
	m->stream = stream_of(h), e->mark = m;
	return enqueue(h, [m] { m->done = true, m->time = now(); });
}
API cuStreamWaitEvent(void* h, Event* e, unsigned) {
	std::lock_guard lock(mutex);
	if (!e->mark) return OK;
	if (Stream* s = stream_of(h)) s->work.push_back({nullptr, e->mark});
	return OK;
}
API cuEventSynchronize(Event* e) {
	std::lock_guard lock(mutex);
	while (e->mark && !e->mark->done && e->mark->stream && !e->mark->stream->work.empty()) step(e->mark->stream);
	return sticky;
}
API cuEventQuery(Event* e) { return sticky ? sticky : e->mark && !e->mark->done ? NOT_READY : OK; }
API cuEventElapsedTime(float* ms, Event* a, Event* b) { return *ms = (float)((b->mark->time - a->mark->time) * 1e3), OK; }
API cuEventElapsedTime_v2(float* ms, Event* a, Event* b) { return cuEventElapsedTime(ms, a, b); }
API cuGetErrorName(int e, const char** s) {
	static char text[40];
	snprintf(text, sizeof text, "CUDA_ERROR_%d", e);
	return *s = text, OK;
}
API cuGetErrorString(int e, const char** s) { return cuGetErrorName(e, s); }
// for a fake cublasLt in the same process: runs f on the stream, in its order
API emulator_enqueue(void* stream, void (*f)(void*), void* arg) { return enqueue(stream, [=] { f(arg); }); }
API emulator_check(u64 p, size_t n, int write) {
	if (write) mark_valid(p, n);
	else find_allocation(p, n, "cublasLt"), require_valid(p, n, "cublasLt");
	return OK;
}
