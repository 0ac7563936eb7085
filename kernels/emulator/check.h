// What check.cpp and mistakes.cpp share: the driver's functions, with their results
// checked, and memory that frees itself.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

extern "C" {
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void**, int);
int cuCtxSetCurrent(void*);
int cuCtxSynchronize();
int cuModuleLoadData(void**, const char*);
int cuModuleUnload(void*);
int cuModuleGetFunction(void**, void*, const char*);
int cuFuncSetAttribute(void*, int, int);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
int cuMemAlloc_v2(uint64_t*, size_t);
int cuMemFree_v2(uint64_t);
int cuMemHostAlloc(void**, size_t, unsigned);
int cuMemFreeHost(void*);
int cuMemcpyHtoD_v2(uint64_t, const void*, size_t);
int cuMemcpyDtoH_v2(void*, uint64_t, size_t);
int cuMemcpyHtoDAsync_v2(uint64_t, const void*, size_t, void*);
int cuMemsetD8_v2(uint64_t, uint8_t, size_t);
int cuMemsetD32Async(uint64_t, uint32_t, size_t, void*);
int cuStreamCreate(void**, unsigned);
int cuStreamSynchronize(void*);
int cuStreamWaitEvent(void*, void*, unsigned);
int cuEventCreate(void**, unsigned);
int cuEventRecord(void*, void*);
int cuEventSynchronize(void*);
}

[[noreturn]] inline void stop(const std::string& why) {
	fprintf(stderr, "check: %s\n", why.c_str());
	exit(1);
}
inline void must(int code, const char* what) {
	if (code != 0) stop(std::string(what) + " returned " + std::to_string(code));
}
#define MUST(call) must(call, #call)

extern std::string folder;  // with the PTX

inline std::string read_file(const std::string& name) {
	std::ifstream in(folder + "/" + name);
	if (!in) stop("cannot read " + folder + "/" + name);
	std::stringstream s;
	s << in.rdbuf();
	return s.str();
}

inline void* load_kernel(const std::string& file, const std::string& name) {
	void *module, *kernel;
	MUST(cuModuleLoadData(&module, read_file(file).c_str()));
	must(cuModuleGetFunction(&kernel, module, name.c_str()), ("cuModuleGetFunction of " + name).c_str());
	return kernel;
}

// Device memory of its own for n values.
template <class T> struct Device {
	uint64_t p = 0;
	size_t n;

	explicit Device(size_t count) : n(count) { MUST(cuMemAlloc_v2(&p, n * sizeof(T))); }
	explicit Device(const std::vector<T>& values) : Device(values.size()) { MUST(cuMemcpyHtoD_v2(p, values.data(), n * sizeof(T))); }
	Device(const Device&) = delete;
	~Device() { cuMemFree_v2(p); }

	std::vector<T> values() const {
		std::vector<T> out(n);
		MUST(cuMemcpyDtoH_v2(out.data(), p, n * sizeof(T)));
		return out;
	}
};

struct Grid {
	unsigned blocks_x, blocks_y, threads, shared = 0;
};

// Starts a kernel on a stream; parameters are pointers to their values.
inline int start(void* kernel, Grid g, void* stream, std::initializer_list<const void*> parameters) {
	std::vector<void*> list;
	for (const void* p : parameters) list.push_back(const_cast<void*>(p));
	return cuLaunchKernel(kernel, g.blocks_x, g.blocks_y, 1, g.threads, 1, 1, g.shared, stream, list.data(), nullptr);
}
inline void run(void* kernel, Grid g, std::initializer_list<const void*> parameters) {
	MUST(start(kernel, g, nullptr, parameters));
	MUST(cuCtxSynchronize());
}

// Makes one of the mistakes of mistakes.cpp; false if there is none of that name.
bool make_mistake(const std::string& name);
