//go:build ignore

// Every allocation lies between two pages that belong to nobody, ends as close to the
// second as alignment allows, and starts as NaNs that count as never written.
#include "memory.h"

#include <sys/mman.h>

#include <cstring>
#include <map>

#include "order.h"

static std::map<u64, Allocation> allocations;
static u64 bytes_in_use = 0, changes = 0;

constexpr u64 PAGE = 4096;
constexpr u64 ALIGNMENT = 256;  // of what cuMemAlloc returns

static u64 room_for(u64 size) { return (size + PAGE - 1) / PAGE * PAGE; }
static u64 cell_bytes(u64 size) { return (size / GRANULE + 1) * sizeof(Cell); }

static u8* map_pages(u64 bytes) {
	void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) fail(OUT_OF_MEMORY, "the host has no %llu bytes", (unsigned long long)bytes);
	return (u8*)p;
}

u64 allocate(u64 size) {
	if (bytes_in_use + size > settings.memory) fail(OUT_OF_MEMORY, "out of memory: %llu bytes", (unsigned long long)size);
	const u64 room = room_for(size);
	u8* pages = map_pages(room + 2 * PAGE);
	mprotect(pages, PAGE, PROT_NONE);
	mprotect(pages + PAGE + room, PAGE, PROT_NONE);
	u8* data = pages + PAGE + (room - size) / ALIGNMENT * ALIGNMENT;
	memset(data, 0xff, size);
	Cell* cells = settings.check ? (Cell*)map_pages(cell_bytes(size)) : nullptr;
	const u64 base = (u64)data + DEVICE;
	allocations[base] = {base, size, data, cells};
	bytes_in_use += size, changes++;
	return base;
}

void release(u64 pointer) {
	auto it = allocations.find(pointer);
	if (it == allocations.end()) fail(INVALID_VALUE, "free of %#llx, which is not an allocation", (unsigned long long)pointer);
	const Allocation& a = it->second;
	const u64 room = room_for(a.size);
	munmap(a.data - (room - a.size) / ALIGNMENT * ALIGNMENT - PAGE, room + 2 * PAGE);
	if (a.cells) munmap(a.cells, cell_bytes(a.size));
	bytes_in_use -= a.size, changes++;
	allocations.erase(it);
}

u64 allocated() { return bytes_in_use; }
u64 allocation_changes() { return changes; }

Allocation& find_allocation(u64 address, u64 bytes, const char* access) {
	constexpr u64 NEAR = 65536;  // past the end of an allocation: likely an overrun of it
	auto it = allocations.upper_bound(address);
	if (it != allocations.begin()) {
		Allocation& a = std::prev(it)->second;
		if (address + bytes <= a.base + a.size) return a;
		if (address < a.base + a.size + NEAR)
			fail(ILLEGAL_ADDRESS, "%s of %llu bytes at offset %llu of an allocation of %llu bytes", access, (unsigned long long)bytes,
			     (unsigned long long)(address - a.base), (unsigned long long)a.size);
	}
	fail(ILLEGAL_ADDRESS, "%s of %llu bytes at %#llx, which is no device memory%s", access, (unsigned long long)bytes,
	     (unsigned long long)address, address < LOCAL ? " (a host pointer?)" : "");
}

static void require_order(const Stamp& s, const char* what, u64 bytes, const char* earlier) {
	if (s.block >= settled() && !happened_before(s.block))
		fail(LAUNCH_FAILED, "race: %s of %llu bytes and %s by work on another stream are not ordered: an event is missing", what,
		     (unsigned long long)bytes, earlier);
}

void note_range_written(u64 address, u64 bytes, const char* writer) {
	const Allocation& a = find_allocation(address, bytes, writer);
	if (!a.cells) return;
	for (Cell* c = a.cell(address); c < a.cell_end(address + bytes); c++) {
		require_order(c->write, writer, bytes, "an earlier write");
		require_order(c->read, writer, bytes, "an earlier read");
		*c = {};
		c->write.block = work_serial();
		c->valid = 1;
	}
}

void note_range_read(u64 address, u64 bytes, const char* reader) {
	const Allocation& a = find_allocation(address, bytes, reader);
	if (!a.cells) return;
	for (Cell* c = a.cell(address); c < a.cell_end(address + bytes); c++) {
		if (!c->valid)
			fail(ILLEGAL_ADDRESS, "%s of %llu bytes of device memory of which byte %llu was never written", reader, (unsigned long long)bytes,
			     (unsigned long long)((c - a.cell(address)) * GRANULE));
		require_order(c->write, reader, bytes, "an earlier write");
		c->read = {};
		c->read.block = work_serial();
		c->readers = 0, c->other_blocks = 0;
	}
}

void require_unused(u64 pointer) {
	const Allocation& a = find_allocation(pointer, 1, "free");
	if (!a.cells || settled() == work_serial()) return;
	for (Cell* c = a.cells; c < a.cell_end(a.base + a.size); c++) {
		require_order(c->write, "free", a.size, "an earlier write");
		require_order(c->read, "free", a.size, "an earlier read");
	}
}
