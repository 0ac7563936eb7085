//go:build ignore

// Mistakes on the device, from testdata/mistakes.cu, and mistakes of the host.
#include <functional>
#include <map>
#include <thread>

#include "check.h"

// ---- on the device: a kernel over one buffer of floats, of which the first `written` are zero

struct Launch {
	Grid grid;
	size_t floats, written;
};

static const std::map<std::string, Launch> launches = {
	{"no_barrier", {{1, 1, 128}, 128, 0}},
	{"no_syncwarp", {{1, 1, 128}, 128, 0}},
	{"overwritten_early", {{1, 1, 128}, 128, 128}},
	{"two_blocks_one_element", {{2, 1, 128}, 128, 0}},
	{"block_reads_what_another_writes", {{2, 1, 128}, 256, 128}},
	{"stale_read", {{2, 1, 128}, 128, 0}},
	{"divergent_sync", {{1, 1, 128}, 128, 0}},
	{"half_the_block_syncs", {{1, 1, 128}, 128, 0}},
	{"shuffle_of_few", {{1, 1, 128}, 128, 128}},
	{"endless", {{1, 1, 128}, 128, 128}},
	{"misaligned", {{1, 1, 1}, 128, 0}},
	{"out_of_bounds", {{1, 1, 33}, 128, 0}},
	{"before_the_start", {{1, 1, 32}, 128, 0}},
	{"reads_garbage", {{1, 1, 128}, 256, 128}},
	{"reads_garbage_of_its_block", {{2, 1, 128}, 256, 0}},
	{"outside_of_shared", {{1, 1, 128, 256}, 128, 0}},
};

static void run_launch(const std::string& name, const Launch& l) {
	Device<float> p(l.floats);
	if (l.written) MUST(cuMemsetD8_v2(p.p, 0, l.written * sizeof(float)));
	run(load_kernel("mistakes.ptx", name), l.grid, {&p.p});
}

static void careless_product(const std::string& kernel) {
	const int m = 32, n = 16, k = 128;
	Device<uint16_t> a(std::vector<uint16_t>(m * k, 0)), b(std::vector<uint16_t>(k * n, 0));
	Device<float> c(m * n);
	run(load_kernel("mistakes.ptx", kernel), {1, 1, 64}, {&c.p, &a.p, &b.p, &n, &k});
}

// ---- of the host

static void* simple_kernel() { return load_kernel("mistakes.ptx", "writes_one_element"); }

constexpr unsigned NON_BLOCKING = 1;

// Two streams, and a kernel that writes 128 floats of p in one of them.
struct Streams {
	void *copies, *work, *kernel = simple_kernel();
	std::vector<float> host = std::vector<float>(128);
	Device<float> p = Device<float>(128);

	Streams() {
		MUST(cuStreamCreate(&copies, NON_BLOCKING));
		MUST(cuStreamCreate(&work, NON_BLOCKING));
	}
	void copy() { MUST(cuMemcpyHtoDAsync_v2(p.p, host.data(), 512, copies)); }
	void launch() { MUST(start(kernel, {1, 1, 128}, work, {&p.p})); }
};

static void no_event() {
	Streams s;
	s.copy();
	MUST(start(load_kernel("mistakes.ptx", "shuffle_of_few"), {1, 1, 7}, s.work, {&s.p.p}));
	MUST(cuStreamSynchronize(s.work));
}

// The next two leave out the same event; they differ in what the host waits for first.
static void copy_too_late() {
	Streams s;
	s.copy();
	s.launch();
	MUST(cuStreamSynchronize(s.work));
	MUST(cuStreamSynchronize(s.copies));
}

static void kernel_too_late() {
	Streams s;
	s.launch();
	s.copy();
	MUST(cuStreamSynchronize(s.copies));
	MUST(cuStreamSynchronize(s.work));
}

// The event is there, but is recorded before what must be waited for.
static void event_too_early() {
	Streams s;
	void* event;
	MUST(cuEventCreate(&event, 0));
	MUST(cuEventRecord(event, s.work));
	s.launch();
	MUST(cuStreamWaitEvent(s.copies, event, 0));
	s.copy();
	MUST(cuStreamSynchronize(s.work));
	MUST(cuStreamSynchronize(s.copies));
}

static void freed_too_early() {
	Streams s;
	s.launch();
	MUST(cuMemFree_v2(s.p.p));
	MUST(cuStreamSynchronize(s.work));
}

static void pinned_memory_freed() {
	Streams s;
	void* host;
	MUST(cuMemHostAlloc(&host, 512, 0));
	MUST(cuMemcpyHtoDAsync_v2(s.p.p, host, 512, s.copies));
	MUST(cuMemFreeHost(host));
	MUST(cuStreamSynchronize(s.copies));
}

static void no_synchronize() {
	void* stream;
	MUST(cuStreamCreate(&stream, NON_BLOCKING));
	Device<float> p(128);
	MUST(start(simple_kernel(), {1, 1, 128}, stream, {&p.p}));
	p.values();
}

static void pinned_memory_reused() {
	void *stream, *host;
	MUST(cuStreamCreate(&stream, NON_BLOCKING));
	MUST(cuMemHostAlloc(&host, 4, 0));
	Device<float> p(1);
	*(float*)host = 1;
	MUST(cuMemcpyHtoDAsync_v2(p.p, host, 4, stream));
	*(float*)host = 2;
	MUST(cuStreamSynchronize(stream));
	if (p.values()[0] != 1) stop("the device has what was written later");
}

static void host_pointer() {
	std::vector<float> on_host(128);
	const uint64_t p = (uint64_t)on_host.data();
	run(simple_kernel(), {1, 1, 128}, {&p});
}

static void freed_memory() {
	uint64_t p;
	MUST(cuMemAlloc_v2(&p, 512));
	MUST(cuMemFree_v2(p));
	run(simple_kernel(), {1, 1, 128}, {&p});
}

static void too_much_shared() {
	Device<float> p(128);
	run(simple_kernel(), {1, 1, 128, 64 << 10}, {&p.p});
}

static void too_many_threads() {
	Device<float> p(2048);
	run(simple_kernel(), {1, 1, 1056}, {&p.p});
}

static void no_context() {
	std::thread([] {
		uint64_t p;
		MUST(cuMemAlloc_v2(&p, 512));
	}).join();
}

static void unloaded_module() {
	void *module, *kernel;
	MUST(cuModuleLoadData(&module, read_file("mistakes.ptx").c_str()));
	MUST(cuModuleGetFunction(&kernel, module, "writes_one_element"));
	MUST(cuModuleUnload(module));
	Device<float> p(128);
	run(kernel, {1, 1, 128}, {&p.p});
}

// ---- text that is refused

static void load_text(const char* statement) {
	const std::string ptx = std::string(".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry f()\n{\n.reg .b32 %r<4>;\n.reg .f32 %f<4>;\n") + statement + "\nret;\n}\n";
	void* module;
	MUST(cuModuleLoadData(&module, ptx.c_str()));
}

bool make_mistake(const std::string& name) {
	static const std::map<std::string, std::function<void()>> others = {
		{"copies_not_waited_for", [] { careless_product("copies_not_waited_for"); }},
		{"stage_overwritten", [] { careless_product("stage_overwritten"); }},
		{"no_event", no_event},
		{"copy_too_late", copy_too_late},
		{"kernel_too_late", kernel_too_late},
		{"event_too_early", event_too_early},
		{"freed_too_early", freed_too_early},
		{"pinned_memory_freed", pinned_memory_freed},
		{"no_synchronize", no_synchronize},
		{"pinned_memory_reused", pinned_memory_reused},
		{"host_pointer", host_pointer},
		{"freed_memory", freed_memory},
		{"too_much_shared", too_much_shared},
		{"too_many_threads", too_many_threads},
		{"no_context", no_context},
		{"unloaded_module", unloaded_module},
		{"cubin", [] { void* m; MUST(cuModuleLoadData(&m, "\x7f" "ELF")); }},
		{"unknown_instruction", [] { load_text("frob.u32 %r1, %r2;"); }},
		{"unknown_modifier", [] { load_text("add.cc.u32 %r1, %r2, %r3;"); }},
		{"unknown_register", [] { load_text("add.u32 %r1, %r2, %x3;"); }},
		{"unknown_label", [] { load_text("bra $nowhere;"); }},
	};
	if (auto it = launches.find(name); it != launches.end()) run_launch(name, it->second);
	else if (auto other = others.find(name); other != others.end()) other->second();
	else return false;
	return true;
}
