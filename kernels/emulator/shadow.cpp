//go:build ignore

// Every access of a lane passes through resolve, which finds the bytes and, with the
// shadow cells of memory.h, whether the access is ordered after those before it.
#include <cstdio>

#include "order.h"
#include "warp.h"

static u32 reports = 0;

std::string where(const Warp& w, int lane) {
	const Insn& i = *w.current;
	std::string source;
	if (i.source_line && i.file < w.kernel->files->size()) source = text("%s:%u: ", (*w.kernel->files)[i.file].c_str(), i.source_line);
	const Dim& id = w.block->id;
	return source + text("kernel %s, block (%u,%u,%u), thread %u, PTX line %u", w.kernel->name.c_str(), id.x, id.y, id.z,
	                     w.index * 32 + lane, i.line);
}

void report(const Warp& w, int lane, const char* what) {
	constexpr u32 SHOWN = 5;
	if (reports++ < SHOWN) fprintf(stderr, "emulator: %s: %s\n", where(w, lane).c_str(), what);
}

u32 take_reports() {
	const u32 n = reports;
	reports = 0;
	return n;
}

void need_whole_warp(const Warp& w, const char* what) {
	if (w.active != ~0u) fail(LAUNCH_FAILED, "%s: %s by the lanes %08x only", where(w, first_lane(w.active)).c_str(), what, w.active);
}

// ---- order

// Did what the stamp stands for happen before what this thread does now?
static inline bool before(const Warp& w, u32 thread, const Stamp& s) {
	if (s.block < w.block->settled) return true;  // nobody, or work that comes before this launch
	if (s.block < w.block->first_serial) [[unlikely]] return happened_before(s.block);
	if (s.block != w.block->serial) return false;  // another block of this launch
	if (s.thread == thread) return true;
	if (s.thread / 32 == w.index) return s.warp_clock < w.clock;
	return w.seen[s.thread / 32] > s.clock;
}

// Have all readers since the last write read before now?
static inline bool readers_before(const Warp& w, u32 thread, const Cell& c) {
	if (!before(w, thread, c.read)) return false;
	if (c.read.block < w.block->first_serial) return true;
	if (c.other_blocks) return false;
	for (u32 rest = c.readers & ~(1u << w.index); rest; rest &= rest - 1)
		if (w.seen[__builtin_ctz(rest)] <= c.read.clock) return false;
	return true;
}

// report_race names the two accesses: "this read and an earlier write".
static void report_race(const Warp& w, int lane, const char* accesses, const Stamp& earlier) {
	const bool same_launch = earlier.block >= w.block->first_serial;
	report(w, lane, text("race: %s %s are not ordered", accesses, same_launch ? "of another thread" : "by work on another stream").c_str());
}

static inline void note_write(Cell& c, const Warp& w, u32 thread, int lane, const Stamp& now) {
	if (!before(w, thread, c.write)) report_race(w, lane, "this write and an earlier write", c.write);
	if (!readers_before(w, thread, c)) report_race(w, lane, "this write and an earlier read", c.read);
	c.write = now;
	c.read = {};
	c.readers = 0, c.other_blocks = 0, c.valid = 1;
}

static void complain_of_read(Cell& c, const Warp& w, u32 thread, int lane, const char* unwritten) {
	if (!before(w, thread, c.write)) report_race(w, lane, "this read and an earlier write", c.write);
	if (c.pending) report(w, lane, "read of data that cp.async has not delivered: cp.async.wait_group is missing");
	if (c.valid) return;
	report(w, lane, unwritten);
	c.valid = 1;
}

static inline void note_read(Cell& c, const Warp& w, u32 thread, int lane, const Stamp& now, const char* unwritten) {
	if (!c.valid || c.pending || !before(w, thread, c.write)) [[unlikely]]
		complain_of_read(c, w, thread, lane, unwritten);
	if (c.read.block != now.block) {
		c.other_blocks = c.read.block >= w.block->first_serial;
		c.readers = 0;
		c.read = now;
	} else if (now.clock >= c.read.clock)
		c.read = now;
	c.readers |= 1u << w.index;
}

static Stamp stamp(const Warp& w, u32 thread) { return {w.block->serial, (u16)thread, w.clock, w.seen[w.index]}; }

// ---- spaces

static const char* name_of(Access a) { return a == WRITE ? "write" : a == ATOMIC_ACCESS ? "atomic" : "read"; }

static u8* resolve_shared(Warp& w, int lane, u64 address, u32 bytes, Access access) {
	Block& b = *w.block;
	const u64 at = address - SHARED_BASE;
	if (address < SHARED_BASE || at + bytes > b.shared_bytes)
		fail(ILLEGAL_ADDRESS, "%s: %s of %u bytes at offset %lld of %u bytes of shared memory", where(w, lane).c_str(), name_of(access), bytes,
		     (long long)at, b.shared_bytes);
	if (settings.check && access != ATOMIC_ACCESS) {
		const u32 thread = w.index * 32 + lane;
		const Stamp now = stamp(w, thread);
		for (u64 i = at / GRANULE; i < (at + bytes + GRANULE - 1) / GRANULE; i++) {
			Cell& c = b.cells[i];
			if (access == WRITE) note_write(c, w, thread, lane, now);
			else note_read(c, w, thread, lane, now, "read of shared memory that this block never wrote");
		}
	}
	return b.shared.data() + at;
}

// The allocation of the last access is tried first: neighbouring lanes share it.
static Allocation& allocation_of(Warp& w, int lane, u64 address, u32 bytes, Access access) {
	static Allocation* last = nullptr;
	static u64 last_changes = 0;
	if (last && last_changes == allocation_changes() && address >= last->base && address + bytes <= last->base + last->size) return *last;
	try {
		last = &find_allocation(address, bytes, name_of(access));
	} catch (const Failure& f) {
		last = nullptr;
		fail(f.code, "%s: %s", where(w, lane).c_str(), f.text.c_str());
	}
	last_changes = allocation_changes();
	return *last;
}

static void check_global(Warp& w, int lane, Cell* c, Cell* end, Access access) {
	const u32 thread = w.index * 32 + lane;
	const Stamp now = stamp(w, thread);
	for (; c < end; c++) {
		if (access == READ_ONLY && c->write.block >= w.block->first_serial)
			report(w, lane, "ld.nc (__ldg, const __restrict__) of memory that this launch writes");
		if (access == WRITE) note_write(*c, w, thread, lane, now);
		else if (access != ATOMIC_ACCESS) note_read(*c, w, thread, lane, now, "read of device memory that nobody wrote");
		else if (!c->valid) {
			report(w, lane, "atomic on device memory that nobody wrote");
			c->valid = 1;
		}
	}
}

u8* resolve(Warp& w, int lane, Space space, u64 address, u32 bytes, Access access, u32 align) {
	if (space == PARAM_SPACE) {
		if (address + bytes > w.kernel->param_bytes) fail(ILLEGAL_ADDRESS, "%s: parameter read out of bounds", where(w, lane).c_str());
		return (u8*)w.block->params->data() + address;
	}
	if (address % align)
		fail(MISALIGNED, "%s: misaligned %s of %u bytes at %#llx", where(w, lane).c_str(), name_of(access), align, (unsigned long long)address);
	if (space == GENERIC && address >= SHARED && address < SHARED + WINDOW) space = SHARED_SPACE, address -= SHARED;
	if (space == GENERIC && address >= LOCAL && address < LOCAL + WINDOW) space = LOCAL_SPACE, address -= LOCAL;
	if (space == SHARED_SPACE) return resolve_shared(w, lane, address, bytes, access);
	if (space == LOCAL_SPACE) {
		if (address + bytes > w.kernel->local_bytes) fail(ILLEGAL_ADDRESS, "%s: local memory out of bounds", where(w, lane).c_str());
		return w.local.data() + (size_t)lane * w.kernel->local_bytes + address;
	}
	const Allocation& a = allocation_of(w, lane, address, bytes, access);
	if (a.cells) check_global(w, lane, a.cell(address), a.cell_end(address + bytes), access);
	return a.data + (address - a.base);
}

void set_pending(Warp& w, u32 shared_address, u32 bytes, bool pending) {
	if (!settings.check) return;
	const u32 first = (shared_address - SHARED_BASE) / GRANULE;
	for (u32 i = first; i < first + bytes / GRANULE; i++) w.block->cells[i].pending = pending;
}
