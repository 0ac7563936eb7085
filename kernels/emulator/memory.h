// Device memory, and the shadow cells that remember who touched it.
#pragma once
#include "emulator.h"

// Device addresses are host addresses plus DEVICE, so that neither side can use the
// other's by mistake. The generic addresses of the two other spaces lie below and above.
constexpr u64 LOCAL = 1ull << 59, DEVICE = 1ull << 60, SHARED = 1ull << 61;
constexpr u64 WINDOW = 1 << 24;  // bytes of the windows at LOCAL and SHARED

// Shared memory begins here: the hardware reserves the first KiB, so no variable has address 0.
constexpr u32 SHARED_BASE = 1024;

// When a thread touched something: the serial number of its block, the thread in it,
// and the times of its warp: barriers of the block, and synchronizations within the warp.
// What is no kernel has a serial number alone.
struct Stamp {
	u32 block;
	u16 thread, warp_clock;
	u32 clock;
};

// The history of two bytes.
struct Cell {
	Stamp write, read;  // the last ones
	u32 readers;        // a bit for each warp of read.block that has read since the last write
	u8 valid;           // somebody wrote it
	u8 pending;         // cp.async has been told to write it and has not been waited for
	u8 other_blocks;    // blocks besides read.block have read it since the last write
};
constexpr u64 GRANULE = 2;  // bytes of a cell

struct Allocation {
	u64 base, size;
	u8* data;
	Cell* cells;  // null if nothing is checked

	Cell* cell(u64 address) const { return cells + (address - base) / GRANULE; }
	Cell* cell_end(u64 address) const { return cells + (address - base + GRANULE - 1) / GRANULE; }
};

u64 allocate(u64 size);
void release(u64 pointer);
u64 allocated();  // bytes
u64 allocation_changes();  // grows with each allocate and release

// The allocation that holds the bytes; fails, naming the kind of access, if none does.
Allocation& find_allocation(u64 address, u64 bytes, const char* access);

// What is no kernel makes cells valid and asks that they are, in order with other streams.
void note_range_written(u64 address, u64 bytes, const char* writer);
void note_range_read(u64 address, u64 bytes, const char* reader);
void require_unused(u64 pointer);  // by work that may not be done
