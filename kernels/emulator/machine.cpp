//go:build ignore

// Memory with shadow cells, warps, blocks, and the instructions.
#include "machine.h"
#include "ops.h"
#include <algorithm>
#include <cfenv>
#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <sys/mman.h>
#include <unistd.h>

void fail(int code, const char* format, ...) {
	char text[2000];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	throw Fail{code, text};
}

namespace {
u64 setting(const char* name, u64 otherwise) {
	const char* s = getenv(name);
	return s ? strtoull(s, nullptr, 0) : otherwise;
}
const u64 seed = setting("EMULATOR_SEED", 1);          // 0: warps and blocks in order
const bool check = setting("EMULATOR_CHECK", 1);       // races, uninitialized memory
const bool truncating = setting("EMULATOR_TRUNCATE", 0); // tensor cores that cut the low bits when they add
const double jitter = setting("EMULATOR_JITTER", 0) * 0x1p-23;  // error of the approximate functions, in units of 2^-23
const u64 limit = setting("EMULATOR_LIMIT", 4'000'000'000ull);  // instructions of a block, against endless loops
u64 random_state = seed * 0x9E3779B97F4A7C15ull + 1;
u64 random64() {
	u64 z = random_state += 0x9E3779B97F4A7C15ull;
	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull, z = (z ^ z >> 27) * 0x94D049BB133111EBull;
	return z ^ z >> 31;
}
}  // namespace

// ---- device memory: every allocation ends at a guard page, begins after a red zone, and starts invalid

std::map<u64, Allocation> allocations;

u64 allocate(u64 size, const char* name) {
	const u64 page = 4096, room = (size + 2 * page - 1) / page * page + page;
	u8* p = (u8*)mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) fail(OUT_OF_MEMORY, "out of memory: %llu bytes", (unsigned long long)size);
	mprotect(p + room, page, PROT_NONE);
	u8* data = p + page;  // 256-byte alignment, as the driver promises
	memset(data, 0xff, size);
	Cell* cells = nullptr;
	if (check) cells = (Cell*)mmap(nullptr, (size / 2 + 1) * sizeof(Cell), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	const u64 base = (u64)data + DEVICE;
	allocations[base] = {base, size, data, cells, name};
	return base;
}
void release(u64 pointer) {
	auto it = allocations.find(pointer);
	if (it == allocations.end()) fail(INVALID_VALUE, "free of %#llx, which is not an allocation", (unsigned long long)pointer);
	auto& a = it->second;
	const u64 page = 4096, room = (a.size + 2 * page - 1) / page * page + page;
	munmap(a.data - page, room + page);
	if (a.cells) munmap(a.cells, (a.size / 2 + 1) * sizeof(Cell));
	allocations.erase(it);
}
Allocation& find_allocation(u64 address, u64 bytes, const char* what) {
	auto it = allocations.upper_bound(address);
	if (it != allocations.begin()) {
		auto& a = std::prev(it)->second;
		if (address + bytes <= a.base + a.size) return a;
		if (address < a.base + a.size + 65536)
			fail(ILLEGAL_ADDRESS, "%s of %llu bytes at offset %llu of an allocation of %llu bytes", what, (unsigned long long)bytes,
			     (unsigned long long)(address - a.base), (unsigned long long)a.size);
	}
	fail(ILLEGAL_ADDRESS, "%s of %llu bytes at %#llx, which is no device memory%s", what, (unsigned long long)bytes, (unsigned long long)address,
	     address < DEVICE ? " (a host pointer?)" : "");
}
void mark_valid(u64 address, u64 bytes) {
	auto& a = find_allocation(address, bytes, "access");
	if (!a.cells) return;
	for (u64 i = (address - a.base) / 2; i < (address - a.base + bytes + 1) / 2; i++) a.cells[i] = {}, a.cells[i].valid = 1;
}
void require_valid(u64 address, u64 bytes, const char* what) {
	auto& a = find_allocation(address, bytes, what);
	if (!a.cells) return;
	for (u64 i = (address - a.base) / 2; i < (address - a.base + bytes + 1) / 2; i++)
		if (!a.cells[i].valid) {
			fprintf(stderr, "emulator: %s reads %llu bytes of device memory of which byte %llu was never written\n", what, (unsigned long long)bytes, (unsigned long long)(i * 2 - (address - a.base)));
			return;
		}
}

// ---- warps and blocks

struct Copy {
	u32 dst;
	u64 src;
	u8 n, from;
};
struct Block;
struct Warp {
	u8* r;  // register planes
	u32 active = 0, live = 0, pc = 0, join = ~0u, lane_pc[32];
	Block* block;
	Kernel* k;
	u32 index;
	u16 clock = 1;                // advances at __syncwarp and at barriers
	std::vector<u32> seen;        // seen[w]: barriers of warp w that happened before now (vector clock)
	int waiting = -1;             // barrier
	u32 wait_count = 0;
	std::vector<u8> local;
	std::vector<Copy> open[32];
	std::deque<std::vector<Copy>> groups[32];
	const Insn* current = nullptr;
};
struct Block {
	Kernel* k;
	Dim grid, dim, id;
	u32 serial, first_serial, threads, shared_bytes;
	std::vector<u8> shared;
	Cell* cells;
	const std::vector<u8>* params;
	std::vector<Warp> warps;
};

#define LANES(...)                                                                    \
	{                                                                                 \
		const u32 mask_ = w.active;                                                   \
		if (mask_ == ~0u) {                                                           \
			for (int l = 0; l < 32; l++) { __VA_ARGS__; }                                    \
		} else                                                                        \
			for (u32 q_ = mask_; q_; q_ &= q_ - 1) { const int l = __builtin_ctz(q_); __VA_ARGS__; } \
	}
template <class T> static inline T* plane(Warp& w, u32 at) { return (T*)(w.r + at); }

namespace {
u32 next_serial = 1;
u32 reports = 0;

std::string where(const Warp& w, int lane) {
	char s[400];
	const u32 t = w.index * 32 + lane;
	const Insn& i = *w.current;
	const u32 f = i.source >> 20;
	snprintf(s, sizeof s, "%s%s%u: kernel %s, block (%u,%u,%u), thread %u, PTX line %u",
	         i.source && f < w.k->files->size() ? (*w.k->files)[f].c_str() : "", i.source ? ":" : "line ", i.source & 0xfffff, w.k->name.c_str(), w.block->id.x, w.block->id.y,
	         w.block->id.z, t, i.line);
	return s;
}
void report(const Warp& w, int lane, const char* what) {
	if (reports++ < 5) fprintf(stderr, "emulator: %s: %s\n", where(w, lane).c_str(), what);
}

// did the access behind the stamp happen before what this lane does now?
inline bool before(const Warp& w, u32 thread, const Stamp& s) {
	const u32 first = w.block->first_serial;
	if (s.block == 0 || s.block < first) return true;  // an earlier launch
	if (s.block != w.block->serial) return false;      // another block of this launch
	if (s.thread == thread) return true;
	if (s.thread / 32 == w.index) return s.warp_clock < w.clock;
	return w.seen[s.thread / 32] > s.clock;
}
void touch(Warp& w, int lane, Cell* c, Cell* end, bool write, bool shared, bool async = false) {
	const u32 thread = w.index * 32 + lane;
	const Stamp now = {w.block->serial, (u16)thread, w.clock, w.seen[w.index]};
	for (; c < end; c++) {
		const bool fresh = shared && c->write.block != now.block && c->read.block != now.block;
		if (fresh) *c = {};
		if (!before(w, thread, c->write)) report(w, lane, write ? "race: this write and an earlier write of another thread are not ordered" : "race: this read and an earlier write of another thread are not ordered");
		if (write) {
			bool late = !before(w, thread, c->read) || (c->blocks && c->read.block >= w.block->first_serial);
			if (!late && c->read.block == now.block)
				for (u32 q = c->readers & ~(1u << w.index); q; q &= q - 1)
					if (w.seen[__builtin_ctz(q)] <= c->read.clock) late = true;
			if (late) report(w, lane, "race: this write and an earlier read of another thread are not ordered");
			c->write = now, c->readers = 0, c->read = {}, c->blocks = 0, c->valid = 1;
			if (async) c->pending = 1;
		} else {
			if (c->pending) report(w, lane, "read of data that cp.async has not delivered: cp.async.wait_group is missing");
			if (!c->valid) report(w, lane, shared ? "read of shared memory that this block never wrote" : "read of device memory that nobody wrote"), c->valid = 1;
			if (c->read.block != now.block) {
				c->blocks = c->read.block >= w.block->first_serial && c->read.block != 0;
				c->readers = 0;
				c->read = now;
			} else if (now.clock >= c->read.clock) c->read = now;
			c->readers |= 1u << w.index;
		}
	}
}

enum { READ, WRITE, ATOM };
constexpr u8 NON_COHERENT = 9;
u8* resolve(Warp& w, int lane, u8 space, u64 a, u32 bytes, int what, u32 align) {
	static const char* names[] = {"read", "write", "atomic"};
	if (space == PARAM) {
		if (a + bytes > w.k->param_bytes) fail(ILLEGAL_ADDRESS, "%s: parameter read out of bounds", where(w, lane).c_str());
		return (u8*)w.block->params->data() + a;
	}
	if (a % align) fail(MISALIGNED, "%s: misaligned %s of %u bytes at %#llx", where(w, lane).c_str(), names[what], align, (unsigned long long)a);
	if (space == GENERIC) {
		if (a >= SHARED && a < SHARED + (1 << 24)) space = SHARED_SPACE, a -= SHARED;
		else if (a >= LOCAL && a < DEVICE) space = LOCAL_SPACE, a -= LOCAL;
	}
	if (space == SHARED_SPACE) {
		Block& b = *w.block;
		if (a < SHARED_BASE || a + bytes > SHARED_BASE + b.shared_bytes)
			fail(ILLEGAL_ADDRESS, "%s: %s of %u bytes at offset %lld of %u bytes of shared memory", where(w, lane).c_str(), names[what], bytes, (long long)a - SHARED_BASE, b.shared_bytes);
		a -= SHARED_BASE;
		if (check && what != ATOM) touch(w, lane, b.cells + a / 2, b.cells + (a + bytes + 1) / 2, what == WRITE, true);
		return b.shared.data() + a;
	}
	if (space == LOCAL_SPACE) {
		if (a + bytes > w.k->local_bytes) fail(ILLEGAL_ADDRESS, "%s: local memory out of bounds", where(w, lane).c_str());
		return w.local.data() + lane * w.k->local_bytes + a;
	}
	static thread_local Allocation* last = nullptr;
	static thread_local size_t last_count = 0;
	if (!last || last_count != allocations.size() || a < last->base || a + bytes > last->base + last->size) {
		try {
			last = &find_allocation(a, bytes, names[what]);
			last_count = allocations.size();
		} catch (Fail& f) {
			last = nullptr;
			fail(f.code, "%s: %s", where(w, lane).c_str(), f.text.c_str());
		}
	}
	const u64 off = a - last->base;
	if (last->cells) {
		Cell *c = last->cells + off / 2, *e = last->cells + (off + bytes + 1) / 2;
		if (what == READ && w.current->mode == NON_COHERENT)
			for (Cell* x = c; x < e; x++)
				if (x->write.block >= w.block->first_serial) report(w, lane, "ld.nc (__ldg, const __restrict__) of memory that this launch writes");
		if (what != ATOM) touch(w, lane, c, e, what == WRITE, false);
		else
			for (; c < e; c++)
				if (!c->valid) report(w, lane, "atomic on device memory that nobody wrote"), c->valid = 1;
	}
	return last->data + off;
}

inline u64 base_address(Warp& w, const Insn& i, int l) {
	return (i.aw == 0 ? 0 : i.aw == 8 ? plane<u64>(w, i.a)[l] : (u64)plane<u32>(w, i.a)[l]) + (u64)i.imm;
}

// shared memory serves 32 banks of 4 bytes per wavefront; wide accesses take more than one by nature
void count_banks(Stats& s, const u32* address, u32 lanes, u32 bytes) {
	const u32 per = bytes <= 4 ? 32 : 128 / bytes;  // lanes of one wavefront
	u32 left = lanes;
	for (u32 first = 0; first < 32; first += per) {
		u32 words[128], n = 0, depth[32] = {}, worst = 0;
		for (u32 l = first; l < first + per; l++) {
			if (!(left >> l & 1)) continue;
			for (u32 x = address[l] / 4; x <= (address[l] + bytes - 1) / 4; x++) {
				bool known = false;
				for (u32 j = 0; j < n; j++) known |= words[j] == x;
				if (!known) words[n++] = x, worst = std::max(worst, ++depth[x % 32]);
			}
		}
		if (n) s.shared_wavefronts += worst, s.shared_ideal++;
	}
}
void count_sectors(u64& sectors, u64& bytes, const u64* address, u32 lanes, u32 size) {
	u64 seen[32 * 2];
	u32 n = 0;
	for (u32 q = lanes; q; q &= q - 1) {
		const u64 a = address[__builtin_ctz(q)];
		for (u64 x = a / 32; x <= (a + size - 1) / 32; x++) {
			bool known = false;
			for (u32 j = n > 4 ? n - 4 : 0; j < n; j++) known |= seen[j] == x;
			if (!known && n < 64) seen[n++] = x;
		}
		bytes += size;
	}
	sectors += n;
}
template <class F> void with_width(u8 width, F f) {
	if (width == 1) f(u8{});
	else if (width == 2) f(u16{});
	else if (width == 4) f(u32{});
	else f(u64{});
}
}  // namespace

void op_trap(Warp& w, const Insn&) { fail(LAUNCH_FAILED, "%s: trap", where(w, __builtin_ctz(w.active)).c_str()); }
void op_nop(Warp&, const Insn&) {}

void op_load(Warp& w, const Insn& i) {
	u64 at[32];
	u32 shared[32];
	for (u32 q = w.active; q; q &= q - 1) {
		const int l = __builtin_ctz(q);
		at[l] = base_address(w, i, l), shared[l] = (u32)at[l];
		const u8* p = resolve(w, l, i.space, at[l], i.width * i.n, READ, i.width * i.n);
		for (int j = 0; j < i.n; j++, p += i.width) {
			u64 x = 0;
			memcpy(&x, p, i.width);
			if (i.is_signed && i.width < 8) x = (u64)((i64)(x << (64 - 8 * i.width)) >> (64 - 8 * i.width));
			if (i.dw == 8) plane<u64>(w, i.v[j])[l] = x;
			else if (i.dw == 4) plane<u32>(w, i.v[j])[l] = (u32)x;
			else plane<u16>(w, i.v[j])[l] = (u16)x;
		}
	}
	if (i.kind == LD_SHARED) count_banks(w.k->stats, shared, w.active, i.width * i.n);
	if (i.kind == LD_GLOBAL) count_sectors(w.k->stats.ld_sectors, w.k->stats.ld_bytes, at, w.active, i.width * i.n);
}
static bool same(Warp& w, const Insn& i, int l, int k) {
	for (int j = 0; j < i.n; j++)
		if (i.width == 8 ? plane<u64>(w, i.v[j])[l] != plane<u64>(w, i.v[j])[k] : i.width == 4 ? plane<u32>(w, i.v[j])[l] != plane<u32>(w, i.v[j])[k] : plane<u16>(w, i.v[j])[l] != plane<u16>(w, i.v[j])[k]) return false;
	return true;
}
void op_store(Warp& w, const Insn& i) {
	u64 at[32];
	u32 shared[32];
	for (u32 q = w.active; q; q &= q - 1) {
		const int l = __builtin_ctz(q);
		at[l] = base_address(w, i, l), shared[l] = (u32)at[l];
		bool again = false;  // lanes of one store that write the same bits to one place are no race
		for (u32 r = w.active & ((1u << l) - 1); r && !again; r &= r - 1) again = at[__builtin_ctz(r)] == at[l] && same(w, i, l, __builtin_ctz(r));
		if (again && i.space != LOCAL_SPACE) continue;
		u8* p = resolve(w, l, i.space, at[l], i.width * i.n, WRITE, i.width * i.n);
		for (int j = 0; j < i.n; j++, p += i.width)
			with_width(i.width, [&](auto t) {
				decltype(t) x = i.width < 4 ? (decltype(t))plane<u16>(w, i.v[j])[l] : plane<decltype(t)>(w, i.v[j])[l];
				if (i.width == 1) x = (decltype(t))((u8*)(w.r + i.v[j]))[l * 2];
				memcpy(p, &x, sizeof x);
			});
	}
	if (i.kind == ST_SHARED) count_banks(w.k->stats, shared, w.active, i.width * i.n);
	if (i.kind == ST_GLOBAL) count_sectors(w.k->stats.st_sectors, w.k->stats.st_bytes, at, w.active, i.width * i.n);
}

// ---- cp.async: the bytes move when the thread waits for their group, never earlier; until then they are poison
void op_cp_async(Warp& w, const Insn& i) {
	u64 at[32];
	u32 lanes = 0;
	for (u32 q = w.active; q; q &= q - 1) {
		const int l = __builtin_ctz(q);
		const u64 dst = base_address(w, i, l), src = (i.e == 8 ? plane<u64>(w, i.b)[l] : (u64)plane<u32>(w, i.b)[l]) + (u64)(i64)(int)i.target;
		const u32 from = plane<u32>(w, i.c)[l];
		if (from > i.n) fail(LAUNCH_FAILED, "%s: cp.async source size %u of %u", where(w, l).c_str(), from, i.n);
		if (src % i.n) fail(MISALIGNED, "%s: misaligned cp.async source", where(w, l).c_str());
		if (from) resolve(w, l, GLOBAL, src, from, READ, 1), at[l] = src, lanes |= 1u << l;
		u8* p = resolve(w, l, SHARED_SPACE, dst, i.n, WRITE, i.n);
		memset(p, 0xff, i.n);
		if (check) {
			Cell* c = w.block->cells + (dst - SHARED_BASE) / 2;
			for (int j = 0; j < i.n / 2; j++) c[j].pending = 1;
		}
		w.open[l].push_back({(u32)dst, src, i.n, (u8)from});
	}
	count_sectors(w.k->stats.ld_sectors, w.k->stats.ld_bytes, at, lanes, i.n);
}
void op_cp_commit(Warp& w, const Insn&) { LANES(w.groups[l].push_back(std::move(w.open[l])); w.open[l].clear()) }
void op_cp_wait(Warp& w, const Insn& i) {
	LANES(
	    if (i.mode) w.groups[l].push_back(std::move(w.open[l])), w.open[l].clear();
	    while (w.groups[l].size() > (size_t)i.imm) {
		    for (auto& c : w.groups[l].front()) {
			    if (check) {
				    Cell* cell = w.block->cells + (c.dst - SHARED_BASE) / 2;
				    for (int j = 0; j < c.n / 2; j++) cell[j].pending = 0;
			    }
			    u8* p = resolve(w, l, SHARED_SPACE, c.dst, c.n, WRITE, c.n);
			    memset(p, 0, c.n);
			    if (c.from) memcpy(p, (u8*)(c.src - DEVICE), c.from);
		    }
		    w.groups[l].pop_front();
	    })
}

static void whole_warp(Warp& w, const char* what) {
	if (w.active != ~0u) fail(LAUNCH_FAILED, "%s: %s by the lanes %08x only", where(w, __builtin_ctz(w.active)).c_str(), what, w.active);
}
void op_matrix(Warp& w, const Insn& i) {
	whole_warp(w, i.mode ? "stmatrix" : "ldmatrix");
	for (int m = 0; m < i.n; m++) {
		u16 tile[8][8];
		u32 rows[32] = {};
		u32* reg = plane<u32>(w, i.v[m]);
		if (i.mode)
			for (int l = 0; l < 32; l++)
				for (int e = 0; e < 2; e++) (i.trans ? tile[l % 4 * 2 + e][l / 4] : tile[l / 4][l % 4 * 2 + e]) = (u16)(reg[l] >> 16 * e);
		for (int r = 0; r < 8; r++) {
			const int l = m * 8 + r;
			u64 a = base_address(w, i, l);
			rows[r] = (u32)a;
			u8* p = resolve(w, l, i.space, a, 16, i.mode ? WRITE : READ, 16);
			if (i.mode) memcpy(p, tile[r], 16);
			else memcpy(tile[r], p, 16);
		}
		count_banks(w.k->stats, rows, 0xff, 16);
		if (!i.mode)
			for (int l = 0; l < 32; l++)
				reg[l] = i.trans ? tile[l % 4 * 2][l / 4] | (u32)tile[l % 4 * 2 + 1][l / 4] << 16 : tile[l / 4][l % 4 * 2] | (u32)tile[l / 4][l % 4 * 2 + 1] << 16;
	}
}

static inline float half_value(u16 h) {
	_Float16 x;
	memcpy(&x, &h, 2);
	return (float)x;
}
static inline float bf16_value(u16 h) {
	const u32 u = (u32)h << 16;
	float x;
	memcpy(&x, &u, 4);
	return x;
}
// One dot product as the hardware is known to add: all terms aligned to the largest exponent and cut off
// there, then the sum is cut to float. The exact rule differs between generations; this is a pessimist.
static float cut_sum(const float* product, int n, float c) {
	int top = -1000;
	for (int j = 0; j <= n; j++) {
		const float x = j < n ? product[j] : c;
		if (!std::isfinite(x)) return NAN;
		if (x != 0) top = std::max(top, std::ilogb(x));
	}
	if (top == -1000) return 0;
	i64 sum = 0;
	for (int j = 0; j <= n; j++) sum += (i64)std::trunc(std::ldexp((double)(j < n ? product[j] : c), 24 - top));
	double x = std::ldexp((double)sum, top - 24);
	const float nearest = (float)x;
	return std::fabs(nearest) > std::fabs(x) ? std::nextafter(nearest, 0.f) : nearest;
}
void op_mma(Warp& w, const Insn& i) {
	whole_warp(w, "mma");
	float a[16][16], b[16][8];
	auto value = [&](u16 h) { return i.mode ? half_value(h) : bf16_value(h); };
	for (int l = 0; l < 32; l++) {
		const int g = l / 4, t = l % 4 * 2;
		for (int x = 0; x < 4; x++) {
			const u32 u = plane<u32>(w, i.v2[x])[l];
			a[g + x % 2 * 8][t + x / 2 * 8] = value((u16)u), a[g + x % 2 * 8][t + 1 + x / 2 * 8] = value((u16)(u >> 16));
		}
		for (int x = 0; x < 2; x++) {
			const u32 u = plane<u32>(w, x ? i.c : i.b)[l];
			b[t + x * 8][g] = value((u16)u), b[t + 1 + x * 8][g] = value((u16)(u >> 16));
		}
	}
	double d[16][8];
	for (int l = 0; l < 32; l++)
		for (int x = 0; x < 4; x++) d[l / 4 + x / 2 * 8][l % 4 * 2 + x % 2] = plane<float>(w, i.v3[x])[l];
	if (!truncating) {
		for (int m = 0; m < 16; m++)
			for (int k = 0; k < 16; k++)
				for (int n = 0; n < 8; n++) d[m][n] += (double)a[m][k] * (double)b[k][n];
	} else
		for (int m = 0; m < 16; m++)
			for (int n = 0; n < 8; n++) {
				float p[16];
				for (int k = 0; k < 16; k++) p[k] = a[m][k] * b[k][n];
				d[m][n] = cut_sum(p, 16, (float)d[m][n]);
			}
	for (int l = 0; l < 32; l++)
		for (int x = 0; x < 4; x++) plane<float>(w, i.v[x])[l] = (float)d[l / 4 + x / 2 * 8][l % 4 * 2 + x % 2];
}

// ---- warp and block synchronization
static void members(Warp& w, const Insn& i, const char* what) {
	LANES(const u32 m = plane<u32>(w, i.e)[l]; if ((m & w.live) != w.active || !(m >> l & 1))
	      fail(LAUNCH_FAILED, "%s: %s names the lanes %08x, but %08x are here", where(w, l).c_str(), what, m, w.active))
}
void op_shfl(Warp& w, const Insn& i) {
	members(w, i, "shfl.sync");
	u32 in[32], *d = plane<u32>(w, i.d);
	memcpy(in, plane<u32>(w, i.a), 128);
	LANES(const u32 c = plane<u32>(w, i.c)[l]; const int b = plane<u32>(w, i.b)[l] & 31, clamp = c & 31, seg = c >> 8 & 31;
	      const int top = (l & seg) | (clamp & ~seg), low = l & seg;
	      int j = i.mode == 0 ? l ^ b : i.mode == 1 ? l + b : i.mode == 2 ? l - b : low | (b & ~seg);
	      const bool ok = i.mode == 2 ? j >= top : j <= top;
	      if (!ok) j = l;
	      if (!(w.active >> j & 1)) report(w, l, "shfl.sync reads a lane that does not take part");
	      d[l] = in[j];
	      if (i.trans) plane<u32>(w, i.v[1])[l] = ok)
}
void op_vote(Warp& w, const Insn& i) {
	members(w, i, "vote.sync");
	u32 yes = 0;
	LANES(if ((plane<u32>(w, i.a)[l] != 0) != i.trans) yes |= 1u << l)
	LANES(plane<u32>(w, i.d)[l] = i.mode == 0 ? yes == w.active : i.mode == 1 ? yes != 0 : yes)
}
void op_activemask(Warp& w, const Insn& i) { LANES(plane<u32>(w, i.d)[l] = w.active) }
void op_syncwarp(Warp& w, const Insn& i) {
	members(w, i, "__syncwarp");
	w.clock++;
}
void op_bar(Warp& w, const Insn& i) {
	if (w.active != w.live) fail(LAUNCH_FAILED, "%s: __syncthreads in divergent code: lanes %08x of %08x", where(w, __builtin_ctz(w.active)).c_str(), w.active, w.live);
	const int l = __builtin_ctz(w.active);
	w.waiting = (int)plane<u32>(w, i.a)[l];
	w.wait_count = i.n ? plane<u32>(w, i.b)[l] : 0;
}

// ---- data movement
template <class T> static void move(Warp& w, const Insn& i) {
	T* d = plane<T>(w, i.d);
	const T* a = plane<T>(w, i.a);
	LANES(d[l] = a[l])
}
Op move_op(u8 width) { return width == 8 ? move<u64> : width == 4 ? move<u32> : move<u16>; }
template <class T> static void select(Warp& w, const Insn& i) {
	T* d = plane<T>(w, i.d);
	const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b);
	const u32* c = plane<u32>(w, i.c);
	LANES(d[l] = c[l] ? a[l] : b[l])
}
Op select_op(u8 width) { return width == 8 ? select<u64> : width == 4 ? select<u32> : select<u16>; }
void op_unpack(Warp& w, const Insn& i) {
	LANES(const u64 x = i.aw == 8 ? plane<u64>(w, i.a)[l] : plane<u32>(w, i.a)[l]; for (int j = 0; j < i.n; j++) {
		if (i.width == 4) plane<u32>(w, i.v[j])[l] = (u32)(x >> 32 * j);
		else plane<u16>(w, i.v[j])[l] = (u16)(x >> 16 * j);
	})
}
void op_pack(Warp& w, const Insn& i) {
	LANES(u64 x = 0; for (int j = 0; j < i.n; j++) x |= i.width == 4 ? (u64)plane<u32>(w, i.v[j])[l] << 32 * j : (u64)plane<u16>(w, i.v[j])[l] << 16 * j;
	      if (i.dw == 8) plane<u64>(w, i.d)[l] = x;
	      else plane<u32>(w, i.d)[l] = (u32)x)
}
void op_cvta(Warp& w, const Insn& i) {
	const u64 base = i.space == SHARED_SPACE ? SHARED : i.space == LOCAL_SPACE ? LOCAL : 0;
	LANES(u64 x = plane<u64>(w, i.a)[l]; if (i.mode) {
		if (base && (x < base || x >= base + (1 << 24))) fail(ILLEGAL_ADDRESS, "%s: %#llx is not an address of that space", where(w, l).c_str(), (unsigned long long)x);
		x -= base;
	} else x += base;
	      plane<u64>(w, i.d)[l] = x)
}

// ---- conversions
enum { S8, U8, S16, U16, S32, U32, S64, U64, F16, BF16, F32, F64, BF16X2, F16X2 };
u8 type_code(const std::string& t) {
	static const std::map<std::string, u8> codes = {{"s8", S8}, {"u8", U8}, {"b8", U8}, {"s16", S16}, {"u16", U16}, {"b16", U16}, {"s32", S32}, {"u32", U32}, {"b32", U32}, {"s64", S64}, {"u64", U64}, {"b64", U64}, {"f16", F16}, {"bf16", BF16}, {"f32", F32}, {"f64", F64}, {"bf16x2", BF16X2}, {"f16x2", F16X2}};
	auto it = codes.find(t);
	if (it == codes.end()) fail(INVALID_PTX, "unknown type %s", t.c_str());
	return it->second;
}
static inline u32 to_bf16(float x) {
	u32 u;
	memcpy(&u, &x, 4);
	if (std::isnan(x)) return 0x7fff;
	return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
static u32 to_half(float x) {
	const _Float16 h = (_Float16)x;
	u16 u;
	memcpy(&u, &h, 2);
	return std::isnan(x) ? 0x7fff : u;
}
static void pack_halves(Warp& w, const Insn& i) {
	const float *hi = plane<float>(w, i.a), *lo = plane<float>(w, i.b);
	u32* d = plane<u32>(w, i.d);
	if (i.dt == BF16X2) LANES(d[l] = to_bf16(hi[l]) << 16 | to_bf16(lo[l]))
	else LANES(d[l] = to_half(hi[l]) << 16 | to_half(lo[l]))
}
static void convert(Warp& w, const Insn& i) {
	LANES(
	    double f = 0; i64 s = 0; bool is_float = true;
	    switch (i.at) {
		    case F16: f = half_value(plane<u16>(w, i.a)[l]); break;
		    case BF16: f = bf16_value(plane<u16>(w, i.a)[l]); break;
		    case F32: f = plane<float>(w, i.a)[l]; break;
		    case F64: f = plane<double>(w, i.a)[l]; break;
		    default: is_float = false;
	    }
	    switch (i.at) {
		    case S8: s = (int8_t)plane<u16>(w, i.a)[l]; break;
		    case U8: s = (u8)plane<u16>(w, i.a)[l]; break;
		    case S16: s = (int16_t)plane<u16>(w, i.a)[l]; break;
		    case U16: s = plane<u16>(w, i.a)[l]; break;
		    case S32: s = plane<int>(w, i.a)[l]; break;
		    case U32: s = plane<u32>(w, i.a)[l]; break;
		    case S64: case U64: s = plane<i64>(w, i.a)[l]; break;
	    }
	    if (i.dt >= F16) {
		    if (!is_float) f = i.at == U64 ? (double)(u64)s : (double)s;
		    float f32 = is_float ? (float)f : i.at == U64 ? (float)(u64)s : (float)s;
		    if (i.at == i.dt || (i.mode && is_float)) f = i.mode == 1 ? std::trunc(f) : i.mode == 2 ? std::floor(f) : i.mode == 3 ? std::ceil(f) : i.mode == 4 ? std::nearbyint(f) : f, f32 = (float)f;
		    if (i.trans) f = f > 0 ? f < 1 ? f : 1 : 0, f32 = (float)f;
		    if (i.dt == F32) plane<float>(w, i.d)[l] = f32;
		    else if (i.dt == F64) plane<double>(w, i.d)[l] = f;
		    else if (i.dt == BF16) plane<u16>(w, i.d)[l] = (u16)to_bf16(f32);
		    else plane<u16>(w, i.d)[l] = (u16)to_half(f32);
	    } else {
		    static const double low[] = {-128, 0, -32768, 0, -2147483648., 0, -9223372036854775808., 0}, high[] = {127, 255, 32767, 65535, 2147483647., 4294967295., 9223372036854775807., 18446744073709551615.};
		    u64 x = (u64)s;
		    if (is_float) {
			    f = i.mode == 1 ? std::trunc(f) : i.mode == 2 ? std::floor(f) : i.mode == 3 ? std::ceil(f) : std::nearbyint(f);
			    if (std::isnan(f)) f = 0;
			    x = f <= low[i.dt] ? (u64)(i64)low[i.dt] : f >= high[i.dt] ? (i.dt == U64 ? ~0ull : i.dt == S64 ? ~0ull >> 1 : (u64)high[i.dt]) : i.dt == U64 ? (u64)f : (u64)(i64)f;
		    } else if (i.dt == S8) x = (u64)(i64)(int8_t)x;
		    else if (i.dt == U8) x = (u8)x;
		    if (i.dw == 8) plane<u64>(w, i.d)[l] = i.dt == S32 ? (u64)(i64)(int)x : i.dt == U32 ? (u32)x : x;
		    else if (i.dw == 4) plane<u32>(w, i.d)[l] = i.dt == S16 ? (u32)(int)(int16_t)x : i.dt == U16 ? (u16)x : (u32)x;
		    else plane<u16>(w, i.d)[l] = (u16)x;
	    })
}
Op cvt_op(u8 to, u8) { return to == BF16X2 || to == F16X2 ? pack_halves : convert; }

// ---- arithmetic
template <class T, auto F> static void un(Warp& w, const Insn& i) {
	T* d = plane<T>(w, i.d);
	const T* a = plane<T>(w, i.a);
	LANES(d[l] = (T)F(a[l]))
}
template <class T, auto F> static void bin(Warp& w, const Insn& i) {
	T* d = plane<T>(w, i.d);
	const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b);
	LANES(d[l] = (T)F(a[l], b[l]))
}
template <class T, auto F> static void tri(Warp& w, const Insn& i) {
	T* d = plane<T>(w, i.d);
	const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b), *c = plane<T>(w, i.c);
	LANES(d[l] = (T)F(a[l], b[l], c[l]))
}
template <class D, class T, auto F> static void wide(Warp& w, const Insn& i) {
	D* d = plane<D>(w, i.d);
	const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b);
	const D* c = plane<D>(w, i.c);
	LANES(d[l] = F((D)a[l], (D)b[l], c[l]))
}
template <class T, auto F> static void shift(Warp& w, const Insn& i) {
	T* d = plane<T>(w, i.d);
	const T* a = plane<T>(w, i.a);
	const u32* b = plane<u32>(w, i.b);
	LANES(d[l] = (T)F(a[l], b[l]))
}
template <class T, auto F> static void cmp(Warp& w, const Insn& i) {
	u32 *d = plane<u32>(w, i.d), *c = plane<u32>(w, i.c);
	const T *a = plane<T>(w, i.a), *b = plane<T>(w, i.b);
	if (i.mode == 0) LANES(d[l] = F(a[l], b[l]))
	else LANES(const bool x = F(a[l], b[l]), y = (c[l] != 0) != i.trans; d[l] = i.mode == 1 ? x && y : i.mode == 2 ? x || y : x != y)
}
// a function template over the types of PTX; FLOATS and INTS say which are allowed
#define BY_TYPE(T_, KIND, INTS, FLOATS, F)                                                                     \
	[&]() -> Op {                                                                                              \
		if constexpr (INTS) {                                                                                  \
			if (T_ == "s32") return KIND<int, F>;                                                              \
			if (T_ == "u32" || T_ == "b32" || T_ == "pred") return KIND<u32, F>;                               \
			if (T_ == "s64") return KIND<i64, F>;                                                              \
			if (T_ == "u64" || T_ == "b64") return KIND<u64, F>;                                               \
			if (T_ == "s16") return KIND<int16_t, F>;                                                          \
			if (T_ == "u16" || T_ == "b16") return KIND<u16, F>;                                               \
		}                                                                                                      \
		if constexpr (FLOATS) {                                                                                \
			if (T_ == "f32") return KIND<float, F>;                                                            \
			if (T_ == "f64") return KIND<double, F>;                                                           \
		}                                                                                                      \
		return nullptr;                                                                                        \
	}()

Op compare_op(const std::string& how, const std::string& t) {
	const bool f = t[0] == 'f';
	if (how == "eq") return BY_TYPE(t, cmp, true, true, ([](auto a, auto b) { return a == b; }));
	if (how == "ne" && !f) return BY_TYPE(t, cmp, true, false, ([](auto a, auto b) { return a != b; }));
	if (how == "ne") return BY_TYPE(t, cmp, false, true, ([](auto a, auto b) { return a < b || a > b; }));
	if (how == "neu") return BY_TYPE(t, cmp, false, true, ([](auto a, auto b) { return a != b; }));
	if (how == "equ") return BY_TYPE(t, cmp, false, true, ([](auto a, auto b) { return !(a < b || a > b); }));
	if (how == "lt" || how == "lo") return BY_TYPE(t, cmp, true, true, ([](auto a, auto b) { return a < b; }));
	if (how == "le" || how == "ls") return BY_TYPE(t, cmp, true, true, ([](auto a, auto b) { return a <= b; }));
	if (how == "gt" || how == "hi") return BY_TYPE(t, cmp, true, true, ([](auto a, auto b) { return a > b; }));
	if (how == "ge" || how == "hs") return BY_TYPE(t, cmp, true, true, ([](auto a, auto b) { return a >= b; }));
	if (how == "ltu") return BY_TYPE(t, cmp, false, true, ([](auto a, auto b) { return !(a >= b); }));
	if (how == "leu") return BY_TYPE(t, cmp, false, true, ([](auto a, auto b) { return !(a > b); }));
	if (how == "gtu") return BY_TYPE(t, cmp, false, true, ([](auto a, auto b) { return !(a <= b); }));
	if (how == "geu") return BY_TYPE(t, cmp, false, true, ([](auto a, auto b) { return !(a < b); }));
	if (how == "num") return BY_TYPE(t, cmp, false, true, ([](auto a, auto b) { return a == a && b == b; }));
	if (how == "nan") return BY_TYPE(t, cmp, false, true, ([](auto a, auto b) { return a != a || b != b; }));
	return nullptr;
}
template <class T> static T high32(T x) { return x >> 32; }
static u64 high64u(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
static i64 high64s(i64 a, i64 b) { return (i64)((__int128)a * b >> 64); }
static float shake(float x) { return jitter ? x * (float)(1 + jitter * ((double)(random64() >> 11) * 0x1p-52 - 1)) : x; }
static float flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.f, x) : x; }

static u32 bit_mask(u32 a, u32 b) { return a > 31 ? 0 : (b > 31 ? ~0u : (1u << b) - 1) << a; }
template <int MODE> __attribute__((noinline)) static float directed_fma(float x, float y, float z) {
	volatile float a = x, b = y, c = z;
	const int old = fegetround();
	fesetround(MODE);
	volatile float r = __builtin_fmaf(a, b, c);
	fesetround(old);
	return r;
}
template <int MODE> static Op directed(const std::string& n) {
	if (n == "fma") return tri<float, [](float a, float b, float c) { return directed_fma<MODE>(a, b, c); }>;
	if (n == "add") return bin<float, [](float a, float b) { return directed_fma<MODE>(a, 1, b); }>;
	if (n == "sub") return bin<float, [](float a, float b) { return directed_fma<MODE>(b, -1, a); }>;
	if (n == "mul") return bin<float, [](float a, float b) { return directed_fma<MODE>(a, b, -0.f); }>;
	return nullptr;
}

Op arithmetic_op(const std::vector<std::string>& p, const std::string& t, u8& kind) {
	const std::string& n = p[0];
	const bool f = t[0] == 'f';
	auto has = [&](const char* x) { return std::find(p.begin(), p.end(), x) != p.end(); };
	if (t == "f32" && (has("rm") || has("rz") || has("rp"))) {  // expf and friends round by other rules
		kind = FLOAT;
		if (has("rm")) return directed<FE_DOWNWARD>(n);
		if (has("rz")) return directed<FE_TOWARDZERO>(n);
		return directed<FE_UPWARD>(n);
	}
	if (f) kind = FLOAT;
	if (n == "add") return BY_TYPE(t, bin, true, true, ([](auto a, auto b) { return a + b; }));
	if (n == "sub") return BY_TYPE(t, bin, true, true, ([](auto a, auto b) { return a - b; }));
	if (n == "mul" && f) return BY_TYPE(t, bin, false, true, ([](auto a, auto b) { return a * b; }));
	if ((n == "fma" || n == "mad") && f) return BY_TYPE(t, tri, false, true, ([](auto a, auto b, auto c) { return std::fma(a, b, c); }));
	if (n == "div" && f) return BY_TYPE(t, bin, false, true, ([](auto a, auto b) { return a / b; }));
	if (n == "mul" && has("lo")) return BY_TYPE(t, bin, true, false, ([](auto a, auto b) { return a * b; }));
	if (n == "mad" && has("lo")) return BY_TYPE(t, tri, true, false, ([](auto a, auto b, auto c) { return a * b + c; }));
	if (n == "mul" && has("hi")) return t == "s32" ? bin<int, [](i64 a, i64 b) { return high32(a * b); }> : t == "u32" ? bin<u32, [](u64 a, u64 b) { return high32(a * b); }> : t == "u64" ? bin<u64, [](u64 a, u64 b) { return high64u(a, b); }> : t == "s64" ? bin<i64, [](i64 a, i64 b) { return high64s(a, b); }> : nullptr;
	if (n == "mul" && has("wide")) return t == "s32" ? wide<i64, int, [](i64 a, i64 b, i64) { return a * b; }> : t == "u32" ? wide<u64, u32, [](u64 a, u64 b, u64) { return a * b; }> : t == "u16" ? wide<u32, u16, [](u32 a, u32 b, u32) { return a * b; }> : wide<int, int16_t, [](int a, int b, int) { return a * b; }>;
	if (n == "mad" && has("wide")) return t == "s32" ? wide<i64, int, [](i64 a, i64 b, i64 c) { return a * b + c; }> : t == "u32" ? wide<u64, u32, [](u64 a, u64 b, u64 c) { return a * b + c; }> : nullptr;
	if (n == "div") return BY_TYPE(t, bin, true, false, ([](auto a, auto b) { return b == 0 ? (decltype(a))-1 : b == (decltype(b))-1 && std::is_signed_v<decltype(b)> ? (decltype(a))(0 - a) : (decltype(a))(a / b); }));
	if (n == "rem") return BY_TYPE(t, bin, true, false, ([](auto a, auto b) { return b == 0 ? a : b == (decltype(b))-1 && std::is_signed_v<decltype(b)> ? (decltype(a))0 : (decltype(a))(a % b); }));
	if (n == "min" && f) return has("NaN") ? nullptr : BY_TYPE(t, bin, false, true, ([](auto a, auto b) { return std::fmin(a, b); }));
	if (n == "max" && f) return has("NaN") ? nullptr : BY_TYPE(t, bin, false, true, ([](auto a, auto b) { return std::fmax(a, b); }));
	if (n == "min") return BY_TYPE(t, bin, true, false, ([](auto a, auto b) { return a < b ? a : b; }));
	if (n == "max") return BY_TYPE(t, bin, true, false, ([](auto a, auto b) { return a > b ? a : b; }));
	if (n == "abs") return f ? BY_TYPE(t, un, false, true, ([](auto a) { return std::fabs(a); })) : t == "s32" ? un<int, [](int a) { return a < 0 ? -a : a; }> : un<i64, [](i64 a) { return a < 0 ? -a : a; }>;
	if (n == "neg") return BY_TYPE(t, un, true, true, ([](auto a) { return -a; }));
	if (n == "copysign") return t == "f32" ? bin<float, [](float a, float b) { return std::copysign(b, a); }> : nullptr;
	if (n == "and") return BY_TYPE(t, bin, true, false, ([](auto a, auto b) { return a & b; }));
	if (n == "or") return BY_TYPE(t, bin, true, false, ([](auto a, auto b) { return a | b; }));
	if (n == "xor") return BY_TYPE(t, bin, true, false, ([](auto a, auto b) { return a ^ b; }));
	if (n == "not" && t == "pred") return un<u32, [](u32 a) { return a ? 0 : 1; }>;
	if (n == "not") return BY_TYPE(t, un, true, false, ([](auto a) { return ~a; }));
	if (n == "shl") return BY_TYPE(t, shift, true, false, ([](auto a, u32 b) { return b >= sizeof a * 8 ? (decltype(a))0 : (decltype(a))(a << b); }));
	if (n == "shr") return BY_TYPE(t, shift, true, false, ([](auto a, u32 b) { return b >= sizeof a * 8 ? (decltype(a))(a < 0 ? -1 : 0) : (decltype(a))(a >> b); }));
	if (n == "clz") return un<u32, [](u32 a) { return a ? __builtin_clz(a) : 32; }>;
	if (n == "popc") return un<u32, [](u32 a) { return __builtin_popcount(a); }>;
	if (n == "brev") return un<u32, [](u32 a) { u32 r = 0; for (int j = 0; j < 32; j++) r |= (a >> j & 1) << (31 - j); return r; }>;
	if (n == "bfe" && t == "u32") return [](Warp& w, const Insn& i) { LANES(const u32 p = plane<u32>(w, i.b)[l] & 255, z = plane<u32>(w, i.c)[l] & 255; plane<u32>(w, i.d)[l] = p > 31 ? 0 : (plane<u32>(w, i.a)[l] >> p) & (z > 31 ? ~0u : (1u << z) - 1)) };
	if (n == "bfe" && t == "s32") return [](Warp& w, const Insn& i) {
		LANES(const u32 p = plane<u32>(w, i.b)[l] & 255, z = plane<u32>(w, i.c)[l] & 255; const i64 a = plane<int>(w, i.a)[l];
		      plane<int>(w, i.d)[l] = z == 0 ? 0 : (int)((i64)((u64)(p > 31 ? a >> 63 : a >> p) << (64 - (z > 32 ? 32 : z))) >> (64 - (z > 32 ? 32 : z))))
	};
	if (n == "bfi" && t == "b32") return [](Warp& w, const Insn& i) {
		LANES(const u32 p = plane<u32>(w, i.c)[l] & 255, z = plane<u32>(w, i.e)[l] & 255, m = p > 31 ? 0 : (z > 31 ? ~0u : (1u << z) - 1) << p;
		      plane<u32>(w, i.d)[l] = ((p > 31 ? 0 : plane<u32>(w, i.a)[l] << p) & m) | (plane<u32>(w, i.b)[l] & ~m))
	};
	if (n == "bfi" && t == "b64") return [](Warp& w, const Insn& i) {
		LANES(const u32 p = plane<u32>(w, i.c)[l] & 255, z = plane<u32>(w, i.e)[l] & 255; const u64 m = p > 63 ? 0 : (z > 63 ? ~0ull : (1ull << z) - 1) << p;
		      plane<u64>(w, i.d)[l] = ((p > 63 ? 0 : plane<u64>(w, i.a)[l] << p) & m) | (plane<u64>(w, i.b)[l] & ~m))
	};
	if (n == "bmsk") return bin<u32, [](u32 a, u32 b) { return bit_mask(a, b); }>;
	if (n == "prmt" && t == "b32" && p.size() == 2) return [](Warp& w, const Insn& i) {
		LANES(const u64 x = plane<u32>(w, i.a)[l] | (u64)plane<u32>(w, i.b)[l] << 32; const u32 s = plane<u32>(w, i.c)[l]; u32 r = 0; for (int j = 0; j < 4; j++) {
			const u32 c = s >> 4 * j & 15;
			u32 byte = x >> 8 * (c & 7) & 255;
			if (c & 8) byte = byte & 128 ? 255 : 0;
			r |= byte << 8 * j;
		} plane<u32>(w, i.d)[l] = r)
	};
	if (n == "lop3") return [](Warp& w, const Insn& i) {
		LANES(const u32 a = plane<u32>(w, i.a)[l], b = plane<u32>(w, i.b)[l], c = plane<u32>(w, i.c)[l]; u32 r = 0; for (int j = 0; j < 8; j++) if (i.imm >> j & 1) r |= (j & 4 ? a : ~a) & (j & 2 ? b : ~b) & (j & 1 ? c : ~c); plane<u32>(w, i.d)[l] = r)
	};
	if (n == "shf") {
		if (p[1] == "l" && p[2] == "wrap") return [](Warp& w, const Insn& i) { LANES(const u64 x = plane<u32>(w, i.a)[l] | (u64)plane<u32>(w, i.b)[l] << 32; plane<u32>(w, i.d)[l] = (u32)(x << (plane<u32>(w, i.c)[l] & 31) >> 32)) };
		if (p[1] == "r" && p[2] == "wrap") return [](Warp& w, const Insn& i) { LANES(const u64 x = plane<u32>(w, i.a)[l] | (u64)plane<u32>(w, i.b)[l] << 32; plane<u32>(w, i.d)[l] = (u32)(x >> (plane<u32>(w, i.c)[l] & 31))) };
		return nullptr;
	}
	// the special function unit; flush to zero as the approximate forms do
	kind = SFU;
	if (t == "f32") {
		if (n == "ex2") return un<float, [](float a) { return shake(flush(std::exp2(flush(a)))); }>;
		if (n == "lg2") return un<float, [](float a) { return shake(std::log2(flush(a))); }>;
		if (n == "rcp") return un<float, [](float a) { return shake(1 / a); }>;
		if (n == "rsqrt") return un<float, [](float a) { return shake((float)(1 / std::sqrt((double)flush(a)))); }>;
		if (n == "sqrt") return un<float, [](float a) { return std::sqrt(a); }>;
		if (n == "sin") return un<float, [](float a) { return shake(std::sin(a)); }>;
		if (n == "cos") return un<float, [](float a) { return shake(std::cos(a)); }>;
		if (n == "tanh") return un<float, [](float a) { return shake(std::tanh(a)); }>;
	}
	if (t == "f64" && n == "sqrt") return un<double, [](double a) { return std::sqrt(a); }>;
	if (t == "f64" && n == "rcp") return un<double, [](double a) { return 1 / a; }>;
	return nullptr;
}

// ---- atomics: lanes in random order, so that sums of floats show what they are
template <class T, auto F> static void atomic(Warp& w, const Insn& i) {
	int order[32], n = 0;
	for (u32 q = w.active; q; q &= q - 1) order[n++] = __builtin_ctz(q);
	if (seed)
		for (int j = n - 1; j > 0; j--) std::swap(order[j], order[random64() % (j + 1)]);
	for (int j = 0; j < n; j++) {
		const int l = order[j];
		T* p = (T*)resolve(w, l, i.space, base_address(w, i, l), sizeof(T), ATOM, sizeof(T));
		const T old = *p;
		*p = F(old, plane<T>(w, i.b)[l], plane<T>(w, i.c)[l]);
		if (!i.mode) plane<T>(w, i.d)[l] = old;
	}
}
Op atomic_op(const std::vector<std::string>& p, const std::string& t) {
	for (auto& x : p) {
		if (x == "add") return BY_TYPE(t, atomic, true, true, ([](auto o, auto b, auto) { return (decltype(o))(o + b); }));
		if (x == "min") return BY_TYPE(t, atomic, true, false, ([](auto o, auto b, auto) { return b < o ? b : o; }));
		if (x == "max") return BY_TYPE(t, atomic, true, false, ([](auto o, auto b, auto) { return b > o ? b : o; }));
		if (x == "and") return BY_TYPE(t, atomic, true, false, ([](auto o, auto b, auto) { return (decltype(o))(o & b); }));
		if (x == "or") return BY_TYPE(t, atomic, true, false, ([](auto o, auto b, auto) { return (decltype(o))(o | b); }));
		if (x == "exch") return BY_TYPE(t, atomic, true, true, ([](auto, auto b, auto) { return b; }));
		if (x == "cas") return BY_TYPE(t, atomic, true, false, ([](auto o, auto b, auto c) { return o == b ? c : o; }));
	}
	return nullptr;
}

// ---- execution
namespace {
void regroup(Warp& w) {  // the lanes with the lowest pc go first, so that branches meet again
	u32 low = ~0u;
	for (u32 q = w.live; q; q &= q - 1) low = std::min(low, w.lane_pc[__builtin_ctz(q)]);
	w.active = 0, w.join = ~0u, w.pc = low;
	for (u32 q = w.live; q; q &= q - 1) {
		const int l = __builtin_ctz(q);
		if (w.lane_pc[l] == low) w.active |= 1u << l;
		else w.join = std::min(w.join, w.lane_pc[l]);
	}
}
void park(Warp& w, u32 lanes, u32 pc) {
	for (u32 q = lanes; q; q &= q - 1) w.lane_pc[__builtin_ctz(q)] = pc;
}
// runs until the warp waits, ends, or has done `quantum` instructions
void run(Warp& w, u64 quantum) {
	const Insn* code = w.k->code.data();
	Stats& s = w.k->stats;
	while (quantum-- && w.live && w.waiting < 0) {
		if (w.pc >= w.join) park(w, w.active, w.pc), regroup(w);
		const Insn& i = code[w.pc];
		w.current = &i;
		const u32 all = w.active;
		u32 mask = all;
		if (i.pred >= 0) {
			const u32* p = plane<u32>(w, i.pred);
			mask = 0;
			for (int l = 0; l < 32; l++) mask |= (u32)((p[l] != 0) != i.negate) << l;
			mask &= all;
		}
		s.count[i.kind]++;
		if (i.run) {
			if (mask) w.active = mask, i.run(w, i), w.active = all;
			w.pc++;
		} else if (i.mode == 1) {
			if (mask == all) {
				w.pc = i.target;
				if (w.join != ~0u) park(w, all, w.pc), regroup(w);
			} else if (!mask) w.pc++;
			else park(w, mask, i.target), park(w, all & ~mask, w.pc + 1), regroup(w);
		} else {
			if (mask != all) park(w, all & ~mask, w.pc + 1);
			w.live &= ~mask;
			if (w.live) regroup(w);
		}
	}
}

void barrier(Block& b) {  // releases a barrier whose warps have all arrived
	for (auto& first : b.warps) {
		if (first.waiting < 0) continue;
		const int id = first.waiting;
		u32 arrived = 0, live = 0;
		for (auto& w : b.warps) {
			live += w.live != 0;
			if (w.waiting == id) {
				if (w.wait_count != first.wait_count) fail(LAUNCH_FAILED, "%s: warps disagree on the size of barrier %d", where(w, 0).c_str(), id);
				arrived++;
			}
		}
		const u32 need = first.wait_count ? first.wait_count / 32 : live;
		if (arrived < need) continue;
		const u32* pc = nullptr;
		for (auto& w : b.warps)
			if (w.waiting == id) {
				if (pc && *pc != w.pc && !first.wait_count) report(w, __builtin_ctz(w.live), "warps of the block meet at different __syncthreads");
				pc = &w.pc;
			}
		std::vector<u32> joined(b.warps.size(), 0);
		for (auto& w : b.warps)
			if (w.waiting == id) {
				w.seen[w.index]++;
				for (size_t j = 0; j < joined.size(); j++) joined[j] = std::max(joined[j], w.seen[j]);
			}
		for (auto& w : b.warps)
			if (w.waiting == id) w.seen = joined, w.waiting = -1, w.clock++;
	}
}

void run_block(Block& b) {
	u64 steps = 0;
	for (;;) {
		std::vector<Warp*> ready;
		bool alive = false;
		for (auto& w : b.warps) {
			alive |= w.live != 0;
			if (w.live && w.waiting < 0) ready.push_back(&w);
		}
		if (!alive) return;
		if (ready.empty()) {
			for (auto& w : b.warps)
				if (w.live) fail(LAUNCH_FAILED, "%s: deadlock: this warp waits at barrier %d and nobody can move", where(w, __builtin_ctz(w.live)).c_str(), w.waiting);
		}
		Warp& w = *ready[seed ? random64() % ready.size() : 0];
		const u64 q = seed ? 1 + random64() % 4000 : ~0ull >> 1;
		if ((steps += seed ? q : 1) > limit) fail(LAUNCH_FAILED, "%s: more than %llu instructions", where(w, 0).c_str(), (unsigned long long)limit);
		run(w, q);
		barrier(b);
	}
}
}  // namespace

void launch(Kernel& k, Dim grid, Dim dim, u32 dynamic_shared, const std::vector<u8>& params) {
	const auto begin = std::chrono::steady_clock::now();
	const u32 threads = dim.x * dim.y * dim.z, n_warps = (threads + 31) / 32;
	if (!threads || threads > 1024 || threads > k.max_threads) fail(LAUNCH_RESOURCES, "%s: %u threads, compiled for %u", k.name.c_str(), threads, k.max_threads);
	if (!grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535) fail(INVALID_VALUE, "%s: grid (%u,%u,%u)", k.name.c_str(), grid.x, grid.y, grid.z);
	if (dynamic_shared > k.max_dynamic) fail(INVALID_VALUE, "%s: %u bytes of dynamic shared memory, allowed are %u: cuFuncSetAttribute is missing", k.name.c_str(), dynamic_shared, k.max_dynamic);
	reports = 0;
	const u64 blocks = (u64)grid.x * grid.y * grid.z;
	const u32 first = next_serial;
	next_serial += blocks;
	std::vector<u64> order(blocks);
	for (u64 j = 0; j < blocks; j++) order[j] = j;
	if (seed)
		for (u64 j = blocks - 1; j > 0; j--) std::swap(order[j], order[random64() % (j + 1)]);

	Block b{&k, grid, dim, {}, 0, first, threads, 0, {}, nullptr, &params, std::vector<Warp>(n_warps)};
	const u32 dynamic_at = (k.static_shared + 127) / 128 * 128;
	b.shared_bytes = dynamic_shared ? dynamic_at + dynamic_shared : k.static_shared;
	b.shared.resize(b.shared_bytes + 16);
	std::vector<Cell> cells(check ? b.shared_bytes / 2 + 8 : 0);
	b.cells = cells.data();
	std::vector<u8> registers((size_t)k.register_bytes * n_warps + 64);
	u8* aligned = (u8*)(((u64)registers.data() + 63) & ~63ull);
	for (u64 j : order) {
		b.serial = first + (u32)j;
		b.id = {(u32)(j % grid.x), (u32)(j / grid.x % grid.y), (u32)(j / grid.x / grid.y)};
		memset(b.shared.data(), 0xff, b.shared.size());
		for (u32 x = 0; x < n_warps; x++) {
			Warp& w = b.warps[x];
			w.r = aligned + (size_t)x * k.register_bytes, w.block = &b, w.k = &k, w.index = x;
			const u32 lanes = std::min(32u, threads - x * 32);
			w.live = w.active = lanes == 32 ? ~0u : (1u << lanes) - 1;
			w.pc = 0, w.join = ~0u, w.waiting = -1, w.clock = 1, w.current = k.code.data();
			w.seen.assign(n_warps, 0);
			w.seen[x] = 1;
			w.local.assign((size_t)k.local_bytes * 32, 0xff);
			for (int l = 0; l < 32; l++) w.open[l].clear(), w.groups[l].clear();
			for (auto& [at, width, value] : k.constants)
				for (int l = 0; l < 32; l++) {
					if (width == 8) plane<u64>(w, at)[l] = value;
					else if (width == 2) plane<u16>(w, at)[l] = (u16)value;
					else plane<u32>(w, at)[l] = (u32)value;
				}
			for (auto& [at, name] : k.specials)
				for (int l = 0; l < 32; l++) {
					const u32 t = x * 32 + l;
					auto axis = [&](u32 a, u32 bb, u32 c) { return name.back() == 'x' ? a : name.back() == 'y' ? bb : c; };
					u32 v = name.compare(0, 4, "%tid") == 0 ? axis(t % dim.x, t / dim.x % dim.y, t / dim.x / dim.y)
					        : name.compare(0, 5, "%ntid") == 0 ? axis(dim.x, dim.y, dim.z)
					        : name.compare(0, 6, "%ctaid") == 0 ? axis(b.id.x, b.id.y, b.id.z)
					        : name.compare(0, 7, "%nctaid") == 0 ? axis(grid.x, grid.y, grid.z)
					        : name == "%laneid" ? l
					        : name == "%warpid" ? x
					        : name == "%lanemask_lt" ? (1u << l) - 1
					        : name == "%lanemask_le" ? (2u << l) - 1
					        : name == "%lanemask_eq" ? 1u << l
					        : name.compare(0, 7, "dynamic") == 0 ? SHARED_BASE + dynamic_at : 0;
					if (name == "dynamic64") plane<u64>(w, at)[l] = v;
					else plane<u32>(w, at)[l] = v;
				}
		}
		run_block(b);
	}
	k.stats.launches++, k.stats.blocks += blocks;
	k.stats.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
	if (reports) fail(LAUNCH_FAILED, "%s: %u reports", k.name.c_str(), reports);
}
